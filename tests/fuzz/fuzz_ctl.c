/*
 * Fuzz target: lines from a daemon that means ill, shown by sinkctl. The first
 * byte chooses the command and the options. What goes to the terminal holds no
 * control characters but newlines, tabs and our own colours.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Its functions that take lines are its own. */
#define main sinkctl_main
int sinkctl_main(int argc, char **argv);
#include "../../src/tools/sinkctl.c"
#undef main

#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The length of a colour's sequence at s, or 0. */
static size_t
skip_color(const char *s, size_t len)
{
	static const char *const ours[] = {"\033[31m", "\033[33m", "\033[1m", "\033[0m"};

	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		if (len >= strlen(ours[i]) && memcmp(s, ours[i], strlen(ours[i])) == 0)
			return strlen(ours[i]);
	return 0;
}

static void
check_shown(const char *s, size_t len, bool color)
{
	assert(utf8_is_valid(s, len));
	for (size_t i = 0, n; i < len; i += n) {
		unsigned char c = (unsigned char)s[i];

		n = color ? skip_color(s + i, len - i) : 0;
		if (n > 0)
			continue;
		n = 1;
		assert((c >= 0x20 || c == '\n' || c == '\t') && c != 0x7f);
		assert(c != 0xc2 || (unsigned char)s[i + 1] >= 0xa0);
	}
}

static void
on_message(void *arg, const char *line, size_t len)
{
	(void)arg;
	check_shown(line, len, false);
}

/* As the program does, but with standard output in memory. */
static void
show(struct shown *shown, const void *data, size_t size)
{
	FILE *in = fmemopen((void *)data, size, "r"), *terminal = stdout;
	char *text = NULL;
	struct err e = {0};
	size_t len = 0;
	int rc;

	assert(in != NULL);
	stdout = open_memstream(&text, &len);
	assert(stdout != NULL);
	rc = take_lines(in, shown, &e);
	fclose(stdout);
	stdout = terminal;
	fclose(in);
	assert((rc < 0) == (e.code != 0));
	if (rc < 0)
		check_shown(e.text, strlen(e.text), false);
	if (!shown->settings->json)
		check_shown(text, len, shown->color);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char key[] = "sinkd";
	struct ctl_settings settings = {.key = key};
	static struct shown shown;

	if (size < 2)
		return 0;
	log_set_writer(on_message, NULL);
	shown.settings = &settings;
	shown.pieces = false;
	shown.lines = 0;
	fill_tail(&shown.tail, &settings, NULL);
	if ((data[0] & 64) != 0) {
		shown.tail.top = 0.5;
		shown.tail.priority = 3;
	}
	shown.command = &commands[(data[0] & 7) % N_COMMANDS];
	shown.color = (data[0] & 8) != 0;
	settings.json = (data[0] & 16) != 0;
	settings.count = (data[0] & 32) != 0;
	show(&shown, data + 1, size - 1);
	return 0;
}
