/* Writes what sinkeval bench has measured; see eval_report.h. */
#include "tools/eval_report.h"

#include <math.h>
#include <string.h>

static double
median(const struct report *r, const double *values)
{
	return machine_get_median(values, r->rounds);
}

/* The median of a measure by name, or NAN if it was not taken. */
static double
find_median(const struct report *r, const char *name)
{
	for (int i = 0; i < r->n_chosen; i++)
		if (strcmp(r->chosen[i]->name, name) == 0)
			return median(r, r->values[i]);
	return NAN;
}

/*
 * Tokens per second if nothing but reading the weights took time, and behind a
 * full window its keys and values; NAN without the measure bandwidth.
 */
static double
generation_limit(const struct report *r, bool full)
{
	uint64_t window = full ? (uint64_t)r->ci.capacity * r->ci.kv_token_bytes : 0;

	return 1e9 * find_median(r, "bandwidth") / (double)(r->weight_bytes + window);
}

static const struct limit {
	const char *measure, *name, *member, *ratio, *about;
	bool full;
} limits[] = {
	{ "generate-empty", "limit-empty", "generation_limit", "generate-empty/limit",
	    "bandwidth over bytes of weights", false },
	{ "generate-full", "limit-full", "generation_limit_full", "generate-full/limit",
	    "the same with a window's keys and values", true },
};
enum { N_LIMITS = sizeof limits / sizeof limits[0] };

static void
find_range(const double *values, int n, double *min, double *max)
{
	*min = *max = values[0];
	for (int i = 1; i < n; i++) {
		*min = fmin(*min, values[i]);
		*max = fmax(*max, values[i]);
	}
}

/* A ratio of two measures that were both taken. */
static const struct ratio {
	const char *name, *above, *below, *about;
} ratios[] = {
	{ "score/read-empty", "score-empty", "read-empty", "what scores leave of the reading rate" },
	{ "score/read-full", "score-full", "read-full", "the same behind a full window" },
	{ "generate-full/empty", "generate-full", "generate-empty", "what a full window leaves of generation" },
};
enum { N_RATIOS = sizeof ratios / sizeof ratios[0] };

static double
find_ratio(const struct report *r, const struct ratio *q)
{
	return find_median(r, q->above) / find_median(r, q->below);
}

static void
print_row(FILE *out, const char *name, double value, double min, double max, const char *unit, const char *about)
{
	fprintf(out, "%-20s %10.4g %10.4g %10.4g  %-9s %s\n", name, value, min, max, unit, about);
}

static void
print_single(FILE *out, const char *name, double value, const char *unit, const char *about)
{
	fprintf(out, "%-20s %10.4g %21s  %-9s %s\n", name, value, "", unit, about);
}

static void
print_table_pairs(FILE *out, const struct report *r)
{
	if (r->n_pairs > 0)
		fprintf(out, "\n%-20s %10s %10s %10s\n", "a token, ms", "streamed", "recomputed", "ratio");
	for (int i = 0; i < r->n_pairs; i++) {
		const struct pair *p = &r->pairs[i];
		double stream = median(r, p->stream), recompute = median(r, p->recompute);

		fprintf(out, "cache %-14lld %10.4g %10.4g %10.4g\n", (long long)p->cache, 1e3 * stream, 1e3 * recompute,
		    recompute / stream);
	}
}

void
report_print_table(FILE *out, const struct report *r, const struct model *m)
{
	const struct model_info *info = model_get_info(m);
	double min, max;

	fprintf(out, "%s: %s, %s, %.1f MB\n", info->path, info->architecture, info->weight_type,
	    1e-6 * (double)info->file_size);
	fprintf(out, "policy %s, capacity %d, kv %s, path %s, threads %d, rounds %d\n\n",
	    context_policies[r->o->policy],
	    r->ci.capacity, eval_kv_types[r->o->kv], r->ci.path, r->ci.threads, r->rounds);
	fprintf(out, "%-20s %10s %10s %10s\n", "", "median", "lowest", "highest");
	for (int i = 0; i < r->n_chosen; i++) {
		find_range(r->values[i], r->rounds, &min, &max);
		print_row(out, r->chosen[i]->name, median(r, r->values[i]), min, max, r->chosen[i]->unit,
		    r->chosen[i]->about);
	}
	if (r->compare != NULL) {
		find_range(r->peer, r->rounds, &min, &max);
		print_row(out, "compared", median(r, r->peer), min, max, r->chosen[0]->unit, r->compare);
		print_single(out, "ratio", median(r, r->values[0]) / median(r, r->peer), "", "ours over theirs");
	}
	for (int i = 0; i < N_RATIOS; i++)
		if (isfinite(find_ratio(r, &ratios[i])))
			print_single(out, ratios[i].name, find_ratio(r, &ratios[i]), "", ratios[i].about);
	for (int i = 0; i < N_LIMITS; i++) {
		double limit = generation_limit(r, limits[i].full), rate = find_median(r, limits[i].measure);

		if (isfinite(limit))
			print_single(out, limits[i].name, limit, "tokens/s", limits[i].about);
		if (isfinite(rate / limit))
			print_single(out, limits[i].ratio, rate / limit, "", "");
	}
	print_table_pairs(out, r);
	fprintf(out, "\n%-20s %10.1f\n%-20s %10.1f\n%-20s %10.1f\n%-20s %10.1f\n", "memory, MiB",
	    (double)r->memory.resident / 0x1p20, "  not of a file", (double)r->memory.anonymous / 0x1p20,
	    "  at its highest", (double)r->memory.peak / 0x1p20, "  keys and values", (double)r->ci.kv_bytes / 0x1p20);
}

static void
print_json_values(FILE *out, const struct report *r, const double *values)
{
	double min, max;

	find_range(values, r->rounds, &min, &max);
	fprintf(out, "\"median\":%.6g,\"lowest\":%.6g,\"highest\":%.6g", median(r, values), min, max);
}

/* A member that is left out where the number is unknown. */
static void
print_json_number(FILE *out, const char *name, double value)
{
	if (isfinite(value))
		fprintf(out, ",\"%s\":%.6g", name, value);
}

void
report_print_json(FILE *out, const struct report *r, const struct model *m, const struct context *c)
{
	fputc('{', out);
	eval_print_head(out, m, r->o, c);
	fprintf(out, "\"rounds\":%d,\"measures\":[", r->rounds);
	for (int i = 0; i < r->n_chosen; i++) {
		fprintf(out, "%s{\"name\":\"%s\",\"unit\":\"%s\",", i > 0 ? "," : "", r->chosen[i]->name,
		    r->chosen[i]->unit);
		print_json_values(out, r, r->values[i]);
		fputc('}', out);
	}
	fputs("],\"caches\":[", out);
	for (int i = 0; i < r->n_pairs; i++) {
		double stream = median(r, r->pairs[i].stream), recompute = median(r, r->pairs[i].recompute);

		fprintf(out, "%s{\"cache\":%lld,\"stream_ms\":%.6g,\"recompute_ms\":%.6g,\"ratio\":%.6g}",
		    i > 0 ? "," : "", (long long)r->pairs[i].cache, 1e3 * stream, 1e3 * recompute, recompute / stream);
	}
	fputc(']', out);
	if (r->compare != NULL) {
		fputs(",\"compare\":{\"command\":", out);
		eval_print_string(out, r->compare);
		fputc(',', out);
		print_json_values(out, r, r->peer);
		fprintf(out, ",\"ratio\":%.6g}", median(r, r->values[0]) / median(r, r->peer));
	}
	fprintf(out, ",\"weight_bytes\":%llu", (unsigned long long)r->weight_bytes);
	for (int i = 0; i < N_LIMITS; i++)
		print_json_number(out, limits[i].member, generation_limit(r, limits[i].full));
	fprintf(out, ",\"memory\":{\"resident\":%lld,\"anonymous\":%lld,\"peak\":%lld,\"kv\":%llu}}\n",
	    (long long)r->memory.resident, (long long)r->memory.anonymous, (long long)r->memory.peak,
	    (unsigned long long)r->ci.kv_bytes);
}
