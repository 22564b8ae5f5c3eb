/*
 * A copy of a model with one number that is not finite: spoil_model FROM TO
 * TENSOR ROW COLUMN nan|inf. The tensor is F32 or F16.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"
#include "engine/quant.h"

static int
fail(const char *text)
{
	fprintf(stderr, "spoil_model: %s\n", text);
	return EX_USAGE;
}

int
main(int argc, char **argv)
{
	const struct gguf_tensor *t;
	struct gguf *g;
	struct err e;
	char *bytes;
	size_t size, at;
	FILE *f;

	if (argc != 7)
		return fail("usage: spoil_model FROM TO TENSOR ROW COLUMN nan|inf");
	if ((f = fopen(argv[1], "r")) == NULL || (bytes = aligned_alloc(32, 64 << 20)) == NULL)
		return fail(argv[1]);
	size = fread(bytes, 1, 64 << 20, f);
	fclose(f);
	if ((g = gguf_open_memory(bytes, size, argv[1], &e)) == NULL)
		return fail(e.text);
	if ((t = gguf_find_tensor(g, argv[3])) == NULL || (t->type != QUANT_F32 && t->type != QUANT_F16))
		return fail("there is no such tensor of F32 or F16");
	at = (size_t)((const char *)t->data - bytes) + (size_t)atoi(argv[4]) * quant_row_size(t->type, t->ne[0]) +
	    quant_row_size(t->type, atoi(argv[5]));
	if (t->type == QUANT_F32) {
		float x = strcmp(argv[6], "nan") == 0 ? NAN : INFINITY;

		memcpy(bytes + at, &x, sizeof x);
	} else {
		uint16_t x = strcmp(argv[6], "nan") == 0 ? 0x7e00 : 0x7c00;

		memcpy(bytes + at, &x, sizeof x);
	}
	gguf_close(g);
	if ((f = fopen(argv[2], "w")) == NULL || fwrite(bytes, 1, size, f) != size || fclose(f) != 0)
		return fail(argv[2]);
	free(bytes);
	return 0;
}
