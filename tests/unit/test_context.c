/*
 * The promises of the context on a tiny golden model: the same bits however
 * the stream is split, forks that leave no trace, positions without an end,
 * policies that agree where they must, and options that are refused.
 */
#include "context_rig.h"

#include <math.h>
#include <unistd.h>

static struct context_options
sink_options(void)
{
	struct context_options o;

	context_options_init(&o);
	o.device = "cpu";
	o.sinks = 3;
	o.window = 37;
	o.fork_tokens = 50;
	return o;
}

/* Feed n tokens in steps of `step` and score them. */
static void
feed(struct context *c, int from, int n, int step, float *nll)
{
	struct err e = { 0 };

	for (int i = from; i < from + n; i += step) {
		int part = from + n - i < step ? from + n - i : step;

		assert_int_equal(context_feed(c, ids + i, (size_t)part, nll != NULL ? nll + i : NULL, &e), 0);
	}
}

static void
get_logits(struct context *c, float logits[VOCAB])
{
	struct err e = { 0 };

	assert_int_equal(context_get_logits(c, logits, &e), 0);
}

static const char *const paths[] = { "plain", "generic", "avx2", "avx512", "avx512vnni", "avx512bf16" };
enum { N_PATHS = sizeof paths / sizeof paths[0] };

/* A path that this build or processor lacks is passed over. */
static bool
has_path(const char *path)
{
	struct context_options o = sink_options();
	struct err e;
	struct context *c;

	o.path = path;
	c = context_new(model, &o, &e);
	context_free(c);
	return c != NULL;
}

static void
test_same_bits_however_split(void **state)
{
	static const int steps[] = { 1, 7, 64, N };
	float want[N], got[N];

	(void)state;
	for (int p = 0; p < N_PATHS; p++)
		for (int kv = KV_F32; kv <= KV_Q8_0 && has_path(paths[p]); kv++) {
			struct context_options o = sink_options();
			struct context *c;

			o.path = paths[p];
			o.kv = (enum kv_type)kv;
			o.threads = 1;
			c = make(&o);
			feed(c, 0, N, 1, want);
			context_free(c);
			for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
				o.threads = 1 + (int)i % 3;
				o.chunk = i == 3 ? 5 : 0;
				c = make(&o);
				feed(c, 0, N, steps[i], got);
				context_free(c);
				assert_memory_equal(want + 1, got + 1, (N - 1) * sizeof *want);
			}
		}
}

static void
test_first_token_has_no_score(void **state)
{
	struct context_options o = sink_options();
	struct context *c = make(&o);
	float nll[N];

	(void)state;
	feed(c, 0, N, 64, nll);
	context_free(c);
	assert_true(isnan(nll[0]));
	for (int i = 1; i < N; i++)
		assert_true(nll[i] > 0 && nll[i] < 100);
}

static void
test_score_is_log_softmax_of_logits(void **state)
{
	struct context_options o = sink_options();
	struct context *c = make(&o);
	float logits[VOCAB], nll;
	struct err e;
	double sum = 0;

	(void)state;
	feed(c, 0, 100, 100, NULL);
	get_logits(c, logits);
	assert_int_equal(context_feed(c, ids + 100, 1, &nll, &e), 0);
	for (int i = 0; i < VOCAB; i++)
		sum += exp((double)logits[i] - logits[ids[100]]);
	assert_float_equal(nll, log(sum), 1e-5);
	context_free(c);
}

static void
test_fork_leaves_no_trace(void **state)
{
	static const int at[] = { 1, 2, 20, 40, 41, 200 };
	float want[N], got[N], before[VOCAB], after[VOCAB];
	struct err e = { 0 };

	(void)state;
	for (int policy = POLICY_SINK; policy <= POLICY_RECOMPUTE; policy++) {
		struct context_options o = sink_options();
		struct context *c;

		o.policy = (enum policy)policy;
		o.sinks = policy == POLICY_SINK ? o.sinks : 0;
		c = make(&o);
		feed(c, 0, N, 64, want);
		context_free(c);
		for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
			c = make(&o);
			feed(c, 0, at[i], 64, got);
			get_logits(c, before);
			for (int asked = 0; asked < 3; asked++) {
				assert_int_equal(context_fork(c, &e), 0);
				feed(c, N - 50, 50, 7, NULL);
				context_rewind(c);
				get_logits(c, after);
				assert_memory_equal(before, after, sizeof before);
			}
			feed(c, at[i], N - at[i], 11, got);
			context_free(c);
			assert_memory_equal(want + 1, got + 1, (N - 1) * sizeof *want);
		}
	}
}

static void
test_fork_refuses_what_has_no_room(void **state)
{
	struct context_options o = sink_options();
	struct context *c;
	struct err e;

	(void)state;
	c = make(&o);
	feed(c, 0, 10, 10, NULL);
	assert_int_equal(context_fork(c, &e), 0);
	assert_int_equal(context_fork(c, &e), -1);
	assert_int_equal(context_feed(c, ids, 51, NULL, &e), -1);
	assert_int_equal(context_feed(c, ids, 50, NULL, &e), 0);
	assert_int_equal(context_feed(c, ids, 1, NULL, &e), -1);
	context_free(c);
	o.fork_tokens = 0;
	c = make(&o);
	assert_int_equal(context_fork(c, &e), -1);
	context_free(c);
}

/* Positions wrap at whole turns, so the beginning of the stream can lie anywhere. */
static void
test_far_positions(void **state)
{
	static const int64_t starts[] = { 1000, ((int64_t)1 << 31) - 100, (int64_t)1 << 40, (int64_t)1 << 61 };
	struct context_options o = sink_options();
	struct context *c = make(&o);
	float want[VOCAB], got[VOCAB];

	(void)state;
	feed(c, 0, N, 64, NULL);
	get_logits(c, want);
	context_free(c);
	for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
		o.start = starts[i];
		c = make(&o);
		feed(c, 0, N, 64, NULL);
		get_logits(c, got);
		context_free(c);
		for (int j = 0; j < VOCAB; j++)
			assert_float_equal(want[j], got[j], 1e-4);
	}
}

/* While nothing is evicted, all policies are dense attention. */
static void
test_policies_agree_before_the_first_eviction(void **state)
{
	float want[N], got[N];

	(void)state;
	for (int policy = POLICY_SINK; policy <= POLICY_RECOMPUTE; policy++) {
		struct context_options o = sink_options();
		struct context *c;

		o.policy = (enum policy)policy;
		o.sinks = policy == POLICY_SINK ? o.sinks : 0;
		o.window = policy == POLICY_SINK ? 97 : 100;
		o.path = "plain";
		c = make(&o);
		feed(c, 0, 100, 9, policy == POLICY_SINK ? want : got);
		context_free(c);
		for (int i = 1; i < 100 && policy != POLICY_SINK; i++)
			assert_float_equal(want[i], got[i], 1e-4);
	}
}

static void
test_paths_agree_with_plain(void **state)
{
	float want[N], got[N];
	struct context_options o = sink_options();
	struct context *c;

	(void)state;
	o.path = "plain";
	c = make(&o);
	feed(c, 0, N, 64, want);
	context_free(c);
	for (int p = 1; p < N_PATHS; p++) {
		o.path = paths[p];
		if (!has_path(paths[p]))
			continue;
		c = make(&o);
		feed(c, 0, N, 64, got);
		context_free(c);
		for (int i = 1; i < N; i++)
			assert_float_equal(want[i], got[i], 1e-4);
	}
}

static void
test_reset_begins_anew(void **state)
{
	struct context_options o = sink_options();
	struct context *c = make(&o);
	struct context_info info;
	float want[N], got[N];

	(void)state;
	feed(c, 0, N, 64, want);
	context_reset(c);
	feed(c, 0, N, 64, got);
	assert_true(isnan(got[0]));
	assert_memory_equal(want + 1, got + 1, (N - 1) * sizeof *want);
	context_get_info(c, &info);
	assert_int_equal(info.tokens, N);
	assert_int_equal(info.capacity, 40);
	assert_int_equal(info.evictions, N - 40);
	context_free(c);
}

static void
test_refuses_ids_outside_the_vocabulary(void **state)
{
	struct context_options o = sink_options();
	struct context *c = make(&o);
	struct context_info info;
	struct err e;
	int32_t bad[3] = { 1, VOCAB, 2 };

	(void)state;
	assert_int_equal(context_feed(c, bad, 3, NULL, &e), -1);
	assert_int_equal(e.code, EX_DATAERR);
	bad[1] = -1;
	assert_int_equal(context_feed(c, bad, 3, NULL, &e), -1);
	context_get_info(c, &info);
	assert_int_equal(info.tokens, 0);
	context_free(c);
}

static void
refuse(struct context_options o)
{
	struct err e = { 0 };

	assert_null(context_new(model, &o, &e));
	assert_int_equal(e.code, EX_USAGE);
	assert_true(strlen(e.text) > 10);
}

static void
test_refuses_options_that_cannot_work(void **state)
{
	struct context_options o = sink_options();

	(void)state;
	o.window = 0;
	refuse(o);
	o = sink_options();
	o.sinks = -1;
	refuse(o);
	o.sinks = model_get_info(model)->n_ctx_train + 1;
	refuse(o);
	o = sink_options();
	o.policy = POLICY_WINDOW;
	refuse(o);
	o = sink_options();
	o.threads = -1;
	refuse(o);
	o = sink_options();
	o.path = "mmx";
	refuse(o);
	o = sink_options();
	o.start = -1;
	refuse(o);
	o = sink_options();
	o.chunk = -3;
	refuse(o);
}

/* A cache that no machine has memory for is refused with its size, not allocated until something is killed. */
static void
test_refuses_a_window_larger_than_memory(void **state)
{
	struct context_options o = sink_options();
	struct err e = { 0 };

	(void)state;
	o.window = INT32_MAX;
	assert_null(context_new(model, &o, &e));
	assert_int_equal(e.code, EX_USAGE);
	o.window = 1 << 28; /* 128 GiB with this model */
	if ((double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) > 0x1p36) {
		print_message("# skip: this machine has memory enough\n");
		skip();
	}
	assert_null(context_new(model, &o, &e));
	assert_int_equal(e.code, EX_OSERR);
	assert_non_null(strstr(e.text, "GiB"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bits_however_split),
		cmocka_unit_test(test_first_token_has_no_score),
		cmocka_unit_test(test_score_is_log_softmax_of_logits),
		cmocka_unit_test(test_fork_leaves_no_trace),
		cmocka_unit_test(test_fork_refuses_what_has_no_room),
		cmocka_unit_test(test_far_positions),
		cmocka_unit_test(test_policies_agree_before_the_first_eviction),
		cmocka_unit_test(test_paths_agree_with_plain),
		cmocka_unit_test(test_reset_begins_anew),
		cmocka_unit_test(test_refuses_ids_outside_the_vocabulary),
		cmocka_unit_test(test_refuses_options_that_cannot_work),
		cmocka_unit_test(test_refuses_a_window_larger_than_memory),
	};

	return cmocka_run_group_tests_name("context", tests, setup, teardown);
}
