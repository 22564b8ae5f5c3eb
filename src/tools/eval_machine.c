/* Memory, read bandwidth, medians; see eval_machine.h. */
#include "tools/eval_machine.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* The value of a line "Name:   123 kB" of /proc/self/status, in bytes. */
static void
read_field(const char *line, const char *name, int64_t *bytes)
{
	size_t len = strlen(name);

	if (strncmp(line, name, len) == 0 && line[len] == ':')
		*bytes = strtoll(line + len + 1, NULL, 10) * 1024;
}

void
machine_get_memory(struct machine_memory *m)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];

	*m = (struct machine_memory){ .resident = -1, .anonymous = -1, .peak = -1 };
	if (f == NULL)
		return;
	while (fgets(line, sizeof line, f) != NULL) {
		read_field(line, "VmRSS", &m->resident);
		read_field(line, "RssAnon", &m->anonymous);
		read_field(line, "VmHWM", &m->peak);
	}
	fclose(f);
}

double
machine_get_cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int
compare_times(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double
machine_get_median(const double *values, int n)
{
	double sorted[1000];

	assert(n >= 1 && n <= 1000);
	memcpy(sorted, values, (size_t)n * sizeof *values);
	qsort(sorted, (size_t)n, sizeof *sorted, compare_times);
	return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

/* ---- bandwidth ------------------------------------------------------ */

struct reader {
	pthread_t thread;
	const atomic_int *signal; /* 0: wait, 1: go, -1: never mind */
	const uint64_t *from;
	size_t words; /* a multiple of 16 */
	uint64_t sum;
	double begin, end;
};

/* Sums that do not wait for each other, so that only memory is waited for. */
static uint64_t
sum_words(const uint64_t *p, size_t words)
{
	uint64_t sum[16] = { 0 }, all = 0;

	for (size_t i = 0; i < words; i += 16)
		for (int j = 0; j < 16; j++)
			sum[j] += p[i + (size_t)j];
	for (int j = 0; j < 16; j++)
		all += sum[j];
	return all;
}

static void *
run_reader(void *arg)
{
	struct reader *r = arg;
	int go;

	while ((go = atomic_load(r->signal)) == 0)
		sched_yield();
	if (go < 0)
		return NULL;
	r->begin = clock_get_seconds();
	r->sum = sum_words(r->from, r->words);
	r->end = clock_get_seconds();
	return NULL;
}

/* Four times what the last cache holds, as far as the system tells. */
static size_t
buffer_bytes(void)
{
	const size_t least = (size_t)256 << 20;
	long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);

	return cache > 0 && (size_t)cache * 4 > least ? (size_t)cache * 4 : least;
}

/* All threads read their share at once. Returns seconds from the first's begin to the last's end, or -1. */
static double
time_readers(struct reader *r, int n)
{
	atomic_int signal = 0;
	double begin = INFINITY, end = -INFINITY;
	int started = 0;

	for (int i = 0; i < n; i++)
		r[i].signal = &signal;
	while (started < n && pthread_create(&r[started].thread, NULL, run_reader, &r[started]) == 0)
		started++;
	atomic_store(&signal, started == n ? 1 : -1);
	for (int i = 0; i < started; i++) {
		pthread_join(r[i].thread, NULL);
		begin = fmin(begin, r[i].begin);
		end = fmax(end, r[i].end);
	}
	return started == n ? end - begin : -1;
}

double
machine_measure_bandwidth(int threads, struct err *e)
{
	size_t bytes = buffer_bytes(), words = bytes / sizeof(uint64_t) / (size_t)threads / 16 * 16;
	struct reader *r = calloc((size_t)threads, sizeof *r);
	uint64_t *buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	double seconds = -1;

	if (r == NULL || buffer == MAP_FAILED) {
		err_set(e, EX_OSERR, "out of memory for %zu MiB to read", bytes >> 20);
	} else {
		memset(buffer, 1, bytes); /* pages that were never written are all one page of zeros */
		for (int i = 0; i < threads; i++)
			r[i] = (struct reader){ .from = buffer + (size_t)i * words, .words = words };
		seconds = time_readers(r, threads);
		if (seconds < 0)
			err_set(e, EX_OSERR, "cannot start %d threads", threads);
	}
	if (buffer != MAP_FAILED)
		munmap(buffer, bytes);
	free(r);
	return seconds > 0 ? (double)words * sizeof(uint64_t) * threads / seconds : -1;
}
