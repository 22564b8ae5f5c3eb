/*
 * Tokens that are begun before the caller has seen them, see
 * context_expect_likeliest: no result depends on it, whatever comes instead of
 * the token that was expected. The CPU's backend cannot begin early; here it
 * can, by operations around its own.
 */
#include "context_rig.h"

#include "engine/context.h"

enum { LENGTH = 60, MORE = 5 };

/* The CPU's operations with some of them replaced, and what these keep. */
static struct backend_ops early;
static const struct backend_ops *cpu;
static struct {
	int32_t asked[LIKELIEST_MAX];
	unsigned n_asked, n_told;
	int begun;             /* embedded before they were told */
	int failure;           /* what telling fails with, or 0 */
} answers;

static void
ask(struct backend *b, const struct weight *w, const struct vector *bias, float softcap, const float *x)
{
	float logits[VOCAB];
	struct err e = { 0 };

	assert_true(answers.n_asked - answers.n_told < LIKELIEST_MAX);
	assert_int_equal(cpu->logits(b, w, bias, softcap, x, 1, logits, &e), 0);
	answers.asked[answers.n_asked++ % LIKELIEST_MAX] = logits_get_likeliest(logits, VOCAB);
}

static int
tell(struct backend *b, int32_t *id, struct err *e)
{
	(void)b;
	assert_true(answers.n_told < answers.n_asked);
	*id = answers.asked[answers.n_told++ % LIKELIEST_MAX];
	return answers.failure == 0 ? 0 : err_set(e, answers.failure, "told to fail");
}

static void
embed(struct backend *b, const struct weight *w, const int32_t *given, int n, float scale, float *y)
{
	if (given == NULL) {
		assert_int_equal(n, 1);
		assert_true(answers.n_told < answers.n_asked);
		answers.begun++;
		given = &answers.asked[(answers.n_asked - 1) % LIKELIEST_MAX];
	}
	cpu->embed(b, w, given, n, scale, y);
}

static struct context_options
options(enum policy policy)
{
	struct context_options o;

	context_options_init(&o);
	o.device = "cpu";
	o.path = "generic";
	o.threads = 1;
	o.policy = policy;
	o.sinks = policy == POLICY_SINK ? 3 : 0;
	o.window = 24;
	o.fork_tokens = LENGTH;
	o.block = policy == POLICY_SINK ? 4 : 0;
	return o;
}

/* A context that can begin early, with 40 tokens read; or one that cannot. */
static struct context *
begin(enum policy policy, bool can)
{
	struct context_options o = options(policy);
	struct context *c = make(&o);
	struct err e = { 0 };

	if (can) {
		cpu = c->b->ops;
		early = *cpu;
		early.ask_likeliest = ask;
		early.tell_likeliest = tell;
		early.embed = embed;
		c->b->ops = &early;
		memset(&answers, 0, sizeof answers);
	}
	assert_int_equal(context_feed(c, ids, 40, NULL, &e), 0);
	context_expect_likeliest(c, can);
	return c;
}

static int32_t
likeliest(struct context *c)
{
	struct err e = { 0 };
	int32_t id;

	assert_int_equal(context_get_likeliest(c, &id, &e), 0);
	return id;
}

static void
generate(struct context *c, int n, int32_t *to)
{
	struct err e = { 0 };

	for (int i = 0; i < n; i++) {
		to[i] = likeliest(c);
		assert_int_equal(likeliest(c), to[i]);
		assert_int_equal(context_feed(c, &to[i], 1, NULL, &e), 0);
	}
}

/* ---- what may come in place of the token that was expected */

static void
other_token(struct context *c)
{
	int32_t id = (likeliest(c) + 1) % VOCAB;
	struct err e = { 0 };

	assert_int_equal(context_feed(c, &id, 1, NULL, &e), 0);
}

static void
several(struct context *c)
{
	int32_t three[3] = { likeliest(c), 7, 8 };
	struct err e = { 0 };

	assert_int_equal(context_feed(c, three, 3, NULL, &e), 0);
}

static void
scored(struct context *c)
{
	int32_t id = likeliest(c);
	struct err e = { 0 };
	float nll;

	assert_int_equal(context_feed(c, &id, 1, &nll, &e), 0);
	assert_true(nll > 0);
}

static void
nothing(struct context *c)
{
	(void)likeliest(c);
}

static void
refused(struct context *c)
{
	int32_t id = VOCAB;
	struct err e = { 0 };

	(void)likeliest(c);
	assert_int_equal(context_feed(c, &id, 1, NULL, &e), -1);
}

/* The expected one comes, and its successor, which was asked for too, is never wanted. */
static void
one(struct context *c)
{
	int32_t id[1];

	generate(c, 1, id);
}

static void
fork_and_back(struct context *c)
{
	struct err e = { 0 };
	int32_t id[9];

	(void)likeliest(c);
	assert_int_equal(context_fork(c, &e), 0);
	generate(c, 9, id);
	(void)likeliest(c);
	context_rewind(c);
}

static void
pin(struct context *c)
{
	struct err e = { 0 };

	(void)likeliest(c);
	if (c->o.block > 0)
		assert_int_equal(context_pin(c, ids + 7, 4, &e), 0);
}

static void
anew(struct context *c)
{
	struct err e = { 0 };

	(void)likeliest(c);
	context_reset(c);
	assert_int_equal(context_feed(c, ids + 9, 2, NULL, &e), 0);
}

/* Bytes of a saved state, summed up. */
static int
sum_bytes(void *arg, const void *bytes, size_t n, struct err *e)
{
	uint64_t *sum = arg;

	(void)e;
	for (size_t i = 0; i < n; i++)
		*sum = (*sum ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
	return 0;
}

struct end {
	int32_t generated[LENGTH];
	float logits[VOCAB];
	uint64_t saved;
	int64_t tokens;
};

/* What a context says and holds when `event` has come between tokens that were generated. */
static void
run(enum policy policy, bool can, void (*event)(struct context *), struct end *end)
{
	struct context *c = begin(policy, can);
	struct context_info info;
	struct err e = { 0 };

	memset(end, 0, sizeof *end);
	generate(c, LENGTH / 2, end->generated);
	event(c);
	assert_int_equal(context_get_logits(c, end->logits, &e), 0);
	generate(c, LENGTH / 2, end->generated + LENGTH / 2);
	(void)likeliest(c);
	assert_int_equal(context_save(c, &(struct bytes_out){ sum_bytes, &end->saved }, &e), 0);
	context_get_info(c, &info);
	end->tokens = info.tokens;
	context_free(c);
}

static void
test_no_result_depends_on_it(void **state)
{
	static void (*const events[])(struct context *) = {
		nothing, one, other_token, several, scored, refused, fork_and_back, pin, anew,
	};

	(void)state;
	for (int policy = POLICY_SINK; policy <= POLICY_RECOMPUTE; policy++)
		for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
			struct end plain, ahead;

			run((enum policy)policy, false, events[i], &plain);
			run((enum policy)policy, true, events[i], &ahead);
			assert_memory_equal(&plain, &ahead, sizeof plain);
			if (policy == POLICY_RECOMPUTE)
				assert_int_equal(answers.begun, 0);
			else
				assert_true(answers.begun >= LENGTH);
		}
}

static void
test_nothing_is_begun_that_a_fork_has_no_room_for(void **state)
{
	struct context *c = begin(POLICY_SINK, true);
	int32_t id[LENGTH];
	struct err e = { 0 };

	(void)state;
	assert_int_equal(context_fork(c, &e), 0);
	generate(c, LENGTH - 1, id);
	assert_int_equal(answers.begun, LENGTH - 1);
	id[0] = likeliest(c);
	assert_int_equal(answers.begun, LENGTH);
	assert_int_equal(context_feed(c, id, 1, NULL, &e), 0);
	(void)likeliest(c);
	assert_int_equal(answers.begun, LENGTH);
	assert_int_equal(context_feed(c, id, 1, NULL, &e), -1);
	context_rewind(c);
	context_free(c);
}

static void
test_nothing_is_begun_that_is_not_expected(void **state)
{
	struct context *c = begin(POLICY_SINK, true);
	int32_t id[MORE];

	(void)state;
	context_expect_likeliest(c, false);
	generate(c, MORE, id);
	assert_int_equal(answers.begun, 0);
	/* What is begun when it ends is used all the same. */
	context_expect_likeliest(c, true);
	generate(c, MORE, id);
	(void)likeliest(c);
	context_expect_likeliest(c, false);
	generate(c, MORE, id);
	assert_int_equal(answers.begun, MORE + 1);
	context_free(c);
}

/* With EX_DATAERR a device says that a logit is NaN: that is the context's end. Another failure is the device's own. */
static void
test_a_device_that_cannot_tell(void **state)
{
	static const int failures[] = { EX_DATAERR, EX_TEMPFAIL };

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct context *c = begin(POLICY_SINK, true);
		int32_t id[MORE];
		struct err e = { 0 };
		bool nan = i % 2 == 0;

		context_expect_likeliest(c, i < 2);
		generate(c, MORE, id);
		answers.failure = failures[i % 2];
		assert_int_equal(context_get_likeliest(c, id, &e), -1);
		assert_int_equal(answers.n_told, answers.n_asked - (!nan && i < 2));
		assert_true(context_is_broken(c) == nan);
		if (nan)
			assert_non_null(strstr(e.text, "was not finite"));
		else
			assert_string_equal(e.text, "told to fail");
		assert_int_equal(context_feed(c, ids, 1, NULL, &e), nan ? -1 : 0);
		context_free(c);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_device_that_cannot_tell),
		cmocka_unit_test(test_no_result_depends_on_it),
		cmocka_unit_test(test_nothing_is_begun_that_a_fork_has_no_room_for),
		cmocka_unit_test(test_nothing_is_begun_that_is_not_expected),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
