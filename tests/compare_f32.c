/*
 * compare_f32 OURS EXPECTED TOL [NMSE_TOL]: compare two files of raw float32.
 * Prints the largest difference and the sum of squared differences over the
 * sum of squares expected; exit 1 if a limit is passed, 2 if it cannot tell.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static float *
read_floats(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	float *values = NULL;
	long size;

	if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0) {
		perror(path);
		exit(2);
	}
	rewind(f);
	*n = (size_t)size / sizeof *values;
	values = malloc((size_t)size + 1);
	if (values == NULL || size % (long)sizeof *values != 0 || fread(values, sizeof *values, *n, f) != *n) {
		fprintf(stderr, "%s: not a file of float32\n", path);
		exit(2);
	}
	fclose(f);
	return values;
}

int
main(int argc, char **argv)
{
	double max = 0, difference = 0, total = 0, tol, nmse, nmse_tol;
	size_t n_ours, n;
	float *ours, *expected;

	if (argc != 4 && argc != 5) {
		fprintf(stderr, "usage: compare_f32 OURS EXPECTED TOL [NMSE_TOL]\n");
		return 2;
	}
	ours = read_floats(argv[1], &n_ours);
	expected = read_floats(argv[2], &n);
	tol = atof(argv[3]);
	nmse_tol = argc == 5 ? atof(argv[4]) : INFINITY;
	if (n_ours != n || n == 0) {
		printf("%zu values, expected %zu\n", n_ours, n);
		return 1;
	}
	for (size_t i = 0; i < n; i++) {
		double d = fabs((double)ours[i] - expected[i]);

		if (!isfinite(ours[i])) {
			printf("value %zu is not finite\n", i);
			return 1;
		}
		max = fmax(max, d);
		difference += d * d;
		total += (double)expected[i] * expected[i];
	}
	nmse = difference / total;
	printf("%.2e %.2e\n", max, nmse);
	free(ours);
	free(expected);
	return max <= tol && nmse <= nmse_tol ? 0 : 1;
}
