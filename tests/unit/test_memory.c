/* Memory limits: the least of a group's and of those above it, in both versions of control groups. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/memory.h"

static char root[] = "/tmp/test_memory.XXXXXX";

/* A file of the hierarchy, with the folders on the way. */
static void
put(const char *path, const char *text)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof full, "%s/%s", root, path);
	for (char *p = strchr(full + strlen(root) + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
		*p = '\0';
		(void)mkdir(full, 0700);
		*p = '/';
	}
	assert_non_null(f = fopen(full, "w"));
	fputs(text, f);
	fclose(f);
}

static int
setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(root));
	put("memory.max", "900000000\n");
	put("system.slice/memory.max", "max\n");
	put("system.slice/x.service/memory.max", "300000000\n");
	put("system.slice/y.service/memory.max", "max\n");
	put("memory/memory.limit_in_bytes", "9223372036854771712\n");
	put("memory/a/memory.limit_in_bytes", "200000000\n");
	put("memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
	put("unified/u/memory.max", "5000\n");
	return 0;
}

static int
teardown(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof command, "rm -r %s", root);
	return system(command);
}

static void
test_the_least_limit_counts(void **state)
{
	(void)state;
	assert_true(memory_read_group_limits("0::/system.slice/x.service\n", root) == 300000000);
	assert_true(memory_read_group_limits("0::/system.slice/y.service\n", root) == 900000000);
	assert_true(memory_read_group_limits("0::/\n", root) == 900000000);
	assert_true(memory_read_group_limits("12:cpu,memory:/a/b\n3:pids:/\n", root) == 200000000);
	assert_true(memory_read_group_limits("12:cpu,memory:/a/b\n0::/system.slice/x.service\n", root) == 200000000);
	assert_true(memory_read_group_limits("0::/u\n", root) == 5000);
}

static void
test_no_limit(void **state)
{
	(void)state;
	assert_true(memory_read_group_limits("", root) == INT64_MAX);
	assert_true(memory_read_group_limits("nonsense\n7\n:::\n", root) >= 900000000);
	assert_true(memory_read_group_limits("0::/x\n", "/nonexistent") == INT64_MAX);
	assert_true(memory_get_limit() > 0);
	assert_true(memory_get_share() > 0 && memory_get_share() < memory_get_limit());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_least_limit_counts),
		cmocka_unit_test(test_no_limit),
	};

	return cmocka_run_group_tests_name("memory", tests, setup, teardown);
}
