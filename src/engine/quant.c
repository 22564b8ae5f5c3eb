/* The weight types of GGUF files and their plain dequantisation; see quant.h. */
#include "engine/quant.h"

#include "engine/quant_decode.h"

static const struct quant_info infos[] = {
	[QUANT_F32] = { "F32", 1, 4 },
	[QUANT_F16] = { "F16", 1, 2 },
	[QUANT_Q4_0] = { "Q4_0", 32, 18 },
	[QUANT_Q4_1] = { "Q4_1", 32, 20 },
	[QUANT_Q5_0] = { "Q5_0", 32, 22 },
	[QUANT_Q5_1] = { "Q5_1", 32, 24 },
	[QUANT_Q8_0] = { "Q8_0", 32, 34 },
	[QUANT_Q2_K] = { "Q2_K", 256, 84 },
	[QUANT_Q3_K] = { "Q3_K", 256, 110 },
	[QUANT_Q4_K] = { "Q4_K", 256, 144 },
	[QUANT_Q5_K] = { "Q5_K", 256, 176 },
	[QUANT_Q6_K] = { "Q6_K", 256, 210 },
	[QUANT_BF16] = { "BF16", 1, 2 },
};

/* Types that the format defines and this engine does not read. */
static const char *const other_names[] = {
	[4] = "Q4_2", [5] = "Q4_3", [9] = "Q8_1", [15] = "Q8_K", [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS",
	[19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S", [22] = "IQ2_S", [23] = "IQ4_XS", [24] = "I8", [25] = "I16",
	[26] = "I32", [27] = "I64", [28] = "F64", [29] = "IQ1_M", [31] = "Q4_0_4_4", [32] = "Q4_0_4_8",
	[33] = "Q4_0_8_8", [34] = "TQ1_0", [35] = "TQ2_0", [36] = "IQ4_NL_4_4", [37] = "IQ4_NL_4_8",
	[38] = "IQ4_NL_8_8", [39] = "MXFP4",
};

const struct quant_info *
quant_get_info(uint32_t type)
{
	if (type >= sizeof infos / sizeof infos[0] || infos[type].name == NULL)
		return NULL;
	return &infos[type];
}

const char *
quant_get_name(uint32_t type)
{
	const struct quant_info *info = quant_get_info(type);

	if (info != NULL)
		return info->name;
	return type < sizeof other_names / sizeof other_names[0] ? other_names[type] : NULL;
}

size_t
quant_row_size(uint32_t type, int64_t n)
{
	const struct quant_info *info = quant_get_info(type);

	assert(info != NULL && n % info->block == 0);
	return (size_t)(n / info->block) * (size_t)info->bytes;
}

void
quant_dequantize(uint32_t type, const void *src, int64_t n, float *dst)
{
	decode_row(type, src, n, dst);
}
