/* What sinkeval's subcommands share; see eval.h. */
#include "tools/eval.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/model_path.h"
#include "base/random.h"
#include "base/utf8.h"

const char *const eval_kv_types[] = { "auto", "f32", "f16", "bf16", "q8_0", NULL };

struct model *
eval_open_model(const struct eval_context *o, unsigned flags, struct err *e)
{
	char path[PATH_MAX];

	if (o->model != NULL)
		return model_open(o->model, flags, e);
	if (model_path_find(path, sizeof path, e) < 0)
		return NULL;
	return model_open(path, flags, e);
}

struct context *
eval_new_context(struct model *m, const struct eval_context *o, int32_t fork_tokens, struct err *e)
{
	struct context_options c;

	context_options_init(&c);
	c.policy = (enum policy)o->policy;
	c.sinks = o->sinks >= 0 ? (int32_t)o->sinks : o->policy == POLICY_SINK ? 4 : 0;
	c.window = (int32_t)o->window;
	c.chunk = (int32_t)(o->chunk < INT16_MAX ? o->chunk : INT16_MAX);
	c.threads = (int32_t)o->threads;
	c.fork_tokens = fork_tokens;
	c.start = o->start;
	c.kv = (enum kv_type)o->kv;
	c.path = context_paths[o->path];
	c.device = context_devices[o->device];
	c.gpu = (int32_t)o->gpu;
	return context_new(m, &c, e);
}

static char *
read_stream(FILE *f, const char *path, size_t *len, struct err *e)
{
	size_t size = 1 << 16, n;
	char *buf = malloc(size + 1), *more;

	*len = 0;
	while (buf != NULL && (n = fread(buf + *len, 1, size - *len, f)) > 0) {
		*len += n;
		if (*len < size)
			continue;
		size *= 2;
		more = realloc(buf, size + 1);
		if (more == NULL)
			free(buf);
		buf = more;
	}
	if (buf == NULL) {
		err_set(e, EX_OSERR, "%s: out of memory", path);
		return NULL;
	}
	if (ferror(f)) {
		err_set(e, EX_IOERR, "%s: %s", path, strerror(errno));
		free(buf);
		return NULL;
	}
	buf[*len] = '\0';
	return buf;
}

char *
eval_read_file(const char *path, size_t *len, struct err *e)
{
	FILE *f;
	char *buf;

	if (strcmp(path, "-") == 0)
		return read_stream(stdin, "standard input", len, e);
	f = fopen(path, "rb");
	if (f == NULL) {
		err_set(e, EX_NOINPUT, "%s: %s", path, strerror(errno));
		return NULL;
	}
	buf = read_stream(f, path, len, e);
	fclose(f);
	return buf;
}

int32_t *
eval_read_tokens(const struct model *m, const char *path, int64_t *n, struct err *e)
{
	struct tokenizer *t = tokenizer_new(m, e);
	const int32_t *ids;
	int32_t *copy = NULL;
	char *text = NULL;
	size_t len;

	*n = -1;
	if (t != NULL && (text = eval_read_file(path, &len, e)) != NULL)
		*n = tokenizer_encode(t, text, len, 0, &ids, e);
	free(text);
	if (*n == 0)
		err_set(e, EX_DATAERR, "%s: the text has no tokens", path);
	if (*n > 0) {
		copy = malloc((size_t)*n * sizeof *copy);
		if (copy == NULL)
			err_set(e, EX_OSERR, "%s: out of memory", path);
		else
			memcpy(copy, ids, (size_t)*n * sizeof *copy);
	}
	tokenizer_free(t);
	return copy;
}

const char *
eval_operand(char **operands, const char *what, struct err *e)
{
	if (operands[0] == NULL)
		err_set(e, EX_USAGE, "%s is missing", what);
	else if (operands[1] != NULL)
		err_set(e, EX_USAGE, "only one %s can be read, not also '%s'", what, operands[1]);
	else
		return operands[0];
	return NULL;
}

void
eval_print_string(FILE *out, const char *s)
{
	bool valid = utf8_is_valid(s, strlen(s));

	fputc('"', out);
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\u%04x", c);
		else if (c >= 0x80 && !valid)
			fputs("\\ufffd", out);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

void
eval_print_head(FILE *out, const struct model *m, const struct eval_context *o, const struct context *c)
{
	const struct model_info *info = model_get_info(m);
	struct context_info ci;

	context_get_info(c, &ci);
	fputs("\"model\":", out);
	eval_print_string(out, info->path);
	fprintf(out, ",\"architecture\":\"%s\",\"weights\":\"%s\",\"policy\":\"%s\",", info->architecture,
	    info->weight_type, context_policies[o->policy]);
	if (o->policy != POLICY_DENSE)
		fprintf(out, "\"sinks\":%d,\"window\":%lld,", (int)(ci.capacity - o->window), (long long)o->window);
	fprintf(out, "\"kv\":\"%s\",\"path\":\"%s\",\"threads\":%d,", eval_kv_types[ci.kv], ci.path, ci.threads);
}

uint64_t
eval_random_below(uint64_t *state, uint64_t below)
{
	return (uint64_t)((unsigned __int128)random_next(state) * below >> 64);
}

void
eval_progress(const struct eval_context *o, const char *what, int64_t done, int64_t all)
{
	static struct timespec begin, last;
	struct timespec now;
	double seconds, since;

	if (o->quiet || !isatty(STDERR_FILENO))
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (begin.tv_sec == 0)
		begin = now;
	seconds = (double)(now.tv_sec - begin.tv_sec) + 1e-9 * (double)(now.tv_nsec - begin.tv_nsec);
	since = (double)(now.tv_sec - last.tv_sec) + 1e-9 * (double)(now.tv_nsec - last.tv_nsec);
	if (done >= all) {
		fputs("\r\033[K", stderr);
		begin.tv_sec = 0;
	} else if (since > 0.2) {
		fprintf(stderr, "\r%s: %lld of %lld, %.0f/s\033[K", what, (long long)done, (long long)all,
		    seconds > 0 ? (double)done / seconds : 0);
		last = now;
	}
	fflush(stderr);
}
