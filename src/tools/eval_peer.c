/* Runs another program and picks the number that it prints; see eval_peer.h. */
#include "tools/eval_peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/buf.h"

/* A number that is no part of a word or of a longer number ("q4_1", "1.2.3"). */
static const char any_number[] = "(?<![\\w.])[-+]?\\d+(?:\\.\\d+)?(?:[eE][-+]?\\d+)?(?![\\w.]*\\d)";

struct peer {
	const char *command;
	pcre2_code *code;
	pcre2_match_data *match;
	struct buf output;
};

struct peer *
peer_new(const char *command, const char *pattern, struct err *e)
{
	struct peer *p = calloc(1, sizeof *p);
	PCRE2_SIZE at;
	int code = 0;

	if (p == NULL) {
		err_set(e, EX_OSERR, "out of memory");
		return NULL;
	}
	p->command = command;
	p->code = pcre2_compile((PCRE2_SPTR)(pattern != NULL ? pattern : any_number), PCRE2_ZERO_TERMINATED,
	    PCRE2_MULTILINE, &code, &at, NULL);
	if (p->code != NULL)
		p->match = pcre2_match_data_create_from_pattern(p->code, NULL);
	if (p->match != NULL)
		return p;
	if (p->code == NULL) {
		char reason[128];

		pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
		err_set(e, EX_USAGE, "--compare-pattern '%s': %s at byte %zu", pattern, reason, at);
	} else {
		err_set(e, EX_OSERR, "out of memory");
	}
	peer_free(p);
	return NULL;
}

void
peer_free(struct peer *p)
{
	if (p == NULL)
		return;
	buf_fini(&p->output);
	pcre2_match_data_free(p->match);
	pcre2_code_free(p->code);
	free(p);
}

/* The command's standard output into p->output. */
static int
read_output(struct peer *p, struct err *e)
{
	FILE *f = popen(p->command, "r");
	size_t n = 1;
	int status;

	buf_clear(&p->output);
	if (f == NULL)
		return err_set(e, EX_OSERR, "'%s' cannot be run: %s", p->command, strerror(errno));
	while (n > 0) {
		char *room = buf_reserve(&p->output, 4096);

		n = room != NULL ? fread(room, 1, 4096, f) : 0;
		p->output.len += n;
	}
	status = pclose(f);
	if (p->output.failed)
		return err_set(e, EX_OSERR, "out of memory for what '%s' prints", p->command);
	if (status == -1 || !WIFEXITED(status))
		return err_set(e, EX_UNAVAILABLE, "'%s' did not end as it should", p->command);
	if (WEXITSTATUS(status) != 0)
		return err_set(e, EX_UNAVAILABLE, "'%s' ended with exit status %d", p->command, WEXITSTATUS(status));
	return 0;
}

/* The last match in the output. */
static int
find_number(struct peer *p, double *value, struct err *e)
{
	const char *text = p->output.data;
	size_t from = 0;
	bool found = false;

	while (from <= p->output.len && text != NULL) {
		const PCRE2_SIZE *span = pcre2_get_ovector_pointer(p->match);
		int groups = pcre2_match(p->code, (PCRE2_SPTR)text, p->output.len, from, 0, p->match, NULL), g;
		char number[64], *end;

		if (groups < 0)
			break;
		g = groups > 1 ? 1 : 0;
		if (span[2 * g] != PCRE2_UNSET) {
			snprintf(number, sizeof number, "%.*s", (int)(span[2 * g + 1] - span[2 * g]),
			    text + span[2 * g]);
			*value = strtod(number, &end);
			found = end != number;
		}
		from = span[1] > from ? span[1] : from + 1;
	}
	return found ? 0 : err_set(e, EX_DATAERR, "'%s' printed no number that fits", p->command);
}

int
peer_run(struct peer *p, double *value, struct err *e)
{
	if (read_output(p, e) < 0)
		return -1;
	return find_number(p, value, e);
}
