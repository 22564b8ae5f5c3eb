/* What memory there is for this process, and taking some of it for good. */
#ifndef SINKD_BASE_MEMORY_H
#define SINKD_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/*
 * Bytes that this process may use: the least of the machine's memory, the limits
 * of its control group and of those above it (memory.max, memory.limit_in_bytes),
 * and RLIMIT_AS. 0: it cannot be found out.
 */
int64_t memory_get_limit(void);

/*
 * Bytes that may be spent on being faster: a quarter of the machine's memory,
 * and at most half of a limit that is this process's own. 0: none.
 */
int64_t memory_get_share(void);

/*
 * The least limit of control groups. cgroups: the text of /proc/self/cgroup;
 * root: where the hierarchies are mounted, usually /sys/fs/cgroup. Returns
 * INT64_MAX where there is none.
 */
int64_t memory_read_group_limits(const char *cgroups, const char *root);

/* Write to every page, so that the memory is taken now and not when it is used for the first time. */
void memory_touch(void *bytes, size_t n);

#endif
