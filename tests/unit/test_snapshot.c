/*
 * Saved and restored states, and the pinned block: a restored stream goes on
 * with the same bits, questions leave the same bytes, a block is a long sink.
 */
#include "context_rig.h"

#include "base/buf.h"

enum { ROOM = 16 }; /* of the pinned block */

static struct context_options
make_options(enum policy policy)
{
	struct context_options o;

	context_options_init(&o);
	o.device = "cpu";
	o.policy = policy;
	o.sinks = policy == POLICY_SINK ? 3 : 0;
	o.block = policy == POLICY_SINK ? ROOM : 0;
	o.window = 37;
	o.fork_tokens = 50;
	o.threads = 1;
	return o;
}

static void
feed(struct context *c, int from, int to, float *nll)
{
	struct err e = { 0 };

	if (context_feed(c, ids + from, (size_t)(to - from), nll != NULL ? nll + from : NULL, &e) < 0)
		fail_msg("%s", e.text);
}

static void
pin(struct context *c, int from, int n)
{
	struct err e = { 0 };

	if (context_pin(c, ids + from, (size_t)n, &e) < 0)
		fail_msg("%s", e.text);
}

static int
write_buf(void *arg, const void *bytes, size_t n, struct err *e)
{
	(void)e;
	buf_add(arg, bytes, n);
	return 0;
}

static struct buf
save(struct context *c)
{
	struct buf b = { 0 };
	struct err e = { 0 };

	if (context_save(c, &(struct bytes_out){ write_buf, &b }, &e) < 0)
		fail_msg("%s", e.text);
	assert_false(b.failed);
	return b;
}

struct source {
	const struct buf *buf;
	size_t at, end;
};

static int
read_buf(void *arg, void *bytes, size_t n, struct err *e)
{
	struct source *s = arg;

	if (s->end - s->at < n)
		return err_set(e, EX_DATAERR, "the end");
	memcpy(bytes, s->buf->data + s->at, n);
	s->at += n;
	return 0;
}

static int
load(struct context *c, const struct buf *b, struct err *e)
{
	struct source s = { b, 0, b->len };
	int rc = context_load(c, &(struct bytes_in){ read_buf, &s }, e);

	if (rc == 0)
		assert_int_equal(s.at, b->len);
	return rc;
}

static void
ask(struct context *c, int n)
{
	struct err e = { 0 };

	assert_int_equal(context_fork(c, &e), 0);
	feed(c, N - n, N, NULL);
	context_rewind(c);
}

static const char *const paths[] = { "plain", "generic", "avx2", "avx512", "avx512vnni", "avx512bf16" };

static void
check_restored(const struct context_options *o, int at, const float *want)
{
	struct context *c = make(o), *d;
	struct err e = { 0 };
	float got[N], logits[2][VOCAB];
	struct buf state, again;

	feed(c, 0, at, NULL);
	state = save(c);
	ask(c, 50);
	again = save(c);
	assert_int_equal(again.len, state.len);
	assert_memory_equal(again.data, state.data, state.len);
	d = make(o);
	feed(d, 100, 150, NULL); /* whatever was there before */
	if (load(d, &state, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(context_get_logits(c, logits[0], &e), 0);
	assert_int_equal(context_get_logits(d, logits[1], &e), 0);
	assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
	feed(d, at, N, got);
	assert_memory_equal(got + at, want + at, (size_t)(N - at) * sizeof *got);
	buf_fini(&state);
	buf_fini(&again);
	context_free(c);
	context_free(d);
}

static void
test_restored_is_never_stopped(void **state)
{
	static const int at[] = { 1, 41, 150 };
	float want[N];

	(void)state;
	for (size_t p = 0; p < sizeof paths / sizeof paths[0]; p++)
		for (int kv = KV_F32; kv <= KV_Q8_0; kv++)
			for (int policy = POLICY_SINK; policy <= POLICY_RECOMPUTE; policy++) {
				struct context_options o = make_options((enum policy)policy);
				struct context *c;
				struct err e;

				o.path = paths[p];
				o.kv = (enum kv_type)kv;
				if (policy != POLICY_SINK && kv != KV_F32 + policy)
					continue; /* one type each is enough */
				if ((c = context_new(model, &o, &e)) == NULL)
					continue; /* a path that this processor lacks */
				feed(c, 0, N, want);
				context_free(c);
				for (size_t i = 0; i < sizeof at / sizeof at[0]; i++)
					check_restored(&o, at[i], want);
			}
}

static void
test_other_options_are_refused(void **state)
{
	struct context_options o = make_options(POLICY_SINK), others[4] = { o, o, o, o };
	struct context *c = make(&o);
	struct err e = { 0 };
	struct buf b;

	(void)state;
	feed(c, 0, 100, NULL);
	pin(c, 0, 10);
	b = save(c);
	context_free(c);
	others[0].window = 38;
	others[1].sinks = 4;
	others[2].kv = KV_Q8_0;
	others[3].block = 9;
	for (int i = 0; i < 4; i++) {
		struct context_info info;

		c = make(&others[i]);
		assert_int_equal(load(c, &b, &e), -1);
		assert_int_equal(e.code, EX_CONFIG);
		context_get_info(c, &info);
		assert_int_equal(info.tokens, 0);
		context_free(c);
	}
	buf_fini(&b);
}

static void
test_short_states_are_refused(void **state)
{
	struct context_options o = make_options(POLICY_SINK);
	struct context *c = make(&o);
	struct err e = { 0 };
	struct buf b;
	float want[N], got[N];

	(void)state;
	feed(c, 0, N, want);
	context_reset(c);
	feed(c, 0, 60, NULL);
	b = save(c);
	for (size_t len = 0; len < b.len; len += len < 300 ? 1 : 509) {
		struct buf cut = { .data = b.data, .len = len };

		assert_int_equal(load(c, &cut, &e), -1);
	}
	assert_int_equal(context_pin(c, ids, 1, &e), -1); /* it is empty */
	assert_int_equal(load(c, &b, &e), 0);
	feed(c, 60, N, got);
	assert_memory_equal(got + 60, want + 60, (N - 60) * sizeof *got);
	buf_fini(&b);
	context_free(c);
}

/* Right behind the sinks a block is nothing but more sinks. */
static void
test_block_is_a_long_sink(void **state)
{
	struct context_options o = make_options(POLICY_SINK);
	float want[N], got[N];
	struct context *c;

	(void)state;
	for (int n = 1; n <= ROOM; n++) {
		o.sinks = 3 + n;
		o.block = 0;
		c = make(&o);
		feed(c, 0, N, want);
		context_free(c);
		o.sinks = 3;
		o.block = ROOM;
		c = make(&o);
		feed(c, 0, 3, NULL);
		pin(c, 3, n);
		feed(c, 3 + n, N, got);
		for (int i = 4 + n; i < N; i++) /* the first is scored by what stands before it: not the block */
			assert_float_equal(want[i], got[i], 2e-4);
		context_free(c);
	}
}

static void
test_block_is_replaced(void **state)
{
	struct context_options o = make_options(POLICY_SINK);
	float want[N], got[N];
	struct context *c = make(&o);
	struct context_info info;
	struct buf b;
	struct err e;

	(void)state;
	feed(c, 0, 100, NULL);
	pin(c, 150, 7);
	feed(c, 100, N, want);
	context_reset(c);
	feed(c, 0, 100, NULL);
	pin(c, 10, 16);
	ask(c, 20);
	pin(c, 50, 0);
	pin(c, 150, 7);
	context_get_info(c, &info);
	assert_int_equal(info.pinned, 7);
	assert_int_equal(info.attended, 3 + 7 + 37);
	b = save(c);
	feed(c, 100, N, got);
	assert_memory_equal(got + 100, want + 100, (N - 100) * sizeof *got);
	assert_int_equal(load(c, &b, &e), 0);
	feed(c, 100, N, got);
	assert_memory_equal(got + 100, want + 100, (N - 100) * sizeof *got);
	pin(c, 0, 0);
	assert_int_equal(context_pin(c, ids, ROOM + 1, &e), -1);
	assert_int_equal(e.code, EX_DATAERR);
	buf_fini(&b);
	context_free(c);
}

static void
test_no_block_is_no_change(void **state)
{
	struct context_options o = make_options(POLICY_SINK);
	float want[N], got[N];
	struct context *c = make(&o);

	(void)state;
	feed(c, 0, N, want);
	context_reset(c);
	feed(c, 0, 100, NULL);
	pin(c, 7, 11);
	pin(c, 0, 0);
	feed(c, 100, N, got);
	assert_memory_equal(got + 100, want + 100, (N - 100) * sizeof *got);
	context_free(c);
}

/* The same on a GPU, where sums may come in another order. */
static void
test_gpu(void **state)
{
	struct context_options o = make_options(POLICY_SINK);
	struct context *c, *d;
	struct buf before, after;
	float want[N], got[N];
	struct err e;

	(void)state;
	o.device = "cuda";
	if ((c = context_new(model, &o, &e)) == NULL) {
		print_message("# skip: %s\n", e.text);
		skip();
	}
	d = make(&o);
	feed(c, 0, 100, NULL);
	pin(c, 150, 7);
	feed(c, 100, 120, NULL);
	before = save(c);
	ask(c, 50);
	after = save(c);
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.data, after.data, before.len);
	assert_int_equal(load(d, &before, &e), 0);
	feed(c, 120, N, want);
	feed(d, 120, N, got);
	for (int i = 120; i < N; i++)
		assert_float_equal(want[i], got[i], 1e-3);
	context_free(c);
	o.device = "cpu";
	c = make(&o);
	feed(c, 0, 100, NULL);
	pin(c, 150, 7);
	feed(c, 100, N, got);
	for (int i = 120; i < N; i++)
		assert_float_equal(want[i], got[i], 5e-2);
	buf_fini(&before);
	buf_fini(&after);
	context_free(c);
	context_free(d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restored_is_never_stopped),
		cmocka_unit_test(test_other_options_are_refused),
		cmocka_unit_test(test_short_states_are_refused),
		cmocka_unit_test(test_block_is_a_long_sink),
		cmocka_unit_test(test_block_is_replaced),
		cmocka_unit_test(test_no_block_is_no_change),
		cmocka_unit_test(test_gpu),
	};

	return cmocka_run_group_tests_name("snapshot", tests, setup, teardown);
}
