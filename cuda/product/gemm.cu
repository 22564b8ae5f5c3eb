/* Dense products of many rows, through cuBLAS: halves summed in float32 on tensor cores, or plain float32. */
#include "launch.cuh"

/* Halves that a matrix without a copy is unpacked into at a time. */
static const int64_t unpack_at_once = (int64_t)64 << 20;

static bool
blas_failed(struct cuda *c, cublasStatus_t r)
{
	if (r != CUBLAS_STATUS_SUCCESS && c->failure.code == 0)
		err_set(&c->failure, EX_TEMPFAIL, "%s: cuBLAS: %s", c->path, cublasGetStatusString(r));
	return c->failure.code != 0;
}

/* Row-major y[n, rows] = x[n, cols] w[rows, cols]^T is column-major y^T = w x^T. */
static void
multiply_half(struct cuda *c, const __half *w, int64_t ldw, int64_t rows, int64_t cols, const __half *x, int64_t ldx,
    int n, float alpha, bool add, void *y, cudaDataType_t type, int64_t ldy)
{
	float beta = add ? 1 : 0;

	if (c->failure.code == 0)
		blas_failed(c, cublasGemmEx(c->blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)rows, n, (int)cols, &alpha, w,
		    CUDA_R_16F, (int)ldw, x, CUDA_R_16F, (int)ldx, &beta, y, type, (int)ldy, CUBLAS_COMPUTE_32F,
		    CUBLAS_GEMM_DEFAULT));
}

void
gemm_to_half(struct cuda *c, const struct matrix *m, int64_t merged_rows, const __half *x, int64_t ldx, int n,
    float alpha, __half *y, int64_t ldy)
{
	multiply_half(c, m->half, m->ld, merged_rows, m->cols, x, ldx, n, alpha, false, y, CUDA_R_16F, ldy);
}

void
gemm_half(struct cuda *c, const struct matrix *m, int64_t merged_rows, const __half *x, int64_t ldx, int n,
    float alpha, bool add, float *y, int64_t ldy)
{
	int64_t part = unpack_at_once / m->ld / TILE_ROWS * TILE_ROWS;
	__half *w;

	if (m->half != NULL) {
		multiply_half(c, m->half, m->ld, merged_rows, m->cols, x, ldx, n, alpha, add, y, CUDA_R_32F, ldy);
		return;
	}
	part = part < TILE_ROWS ? (int64_t)TILE_ROWS : part < m->rows ? part : m->rows;
	w = static_cast<__half *>(cuda_scratch(c, SCRATCH_WEIGHTS, (size_t)(part * m->ld) * sizeof *w));
	for (int64_t first = 0; first < m->rows && w != NULL; first += part) {
		int64_t rows = m->rows - first < part ? m->rows - first : part;

		weights_unpack(c, m, first, rows, w);
		multiply_half(c, w, m->ld, rows, m->cols, x, ldx, n, alpha, add, y + first, CUDA_R_32F, ldy);
	}
}

void
gemm_f32(struct cuda *c, const struct matrix *m, const float *x, int n, bool add, float *y, int64_t ldy)
{
	float alpha = 1, beta = add ? 1 : 0;

	/* CUBLAS_COMPUTE_32F_PEDANTIC: no TF32, whatever the library's defaults become. */
	if (c->failure.code == 0)
		blas_failed(c, cublasGemmEx(c->blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)m->rows, n, (int)m->cols, &alpha,
		    m->f32, CUDA_R_32F, (int)m->ld, x, CUDA_R_32F, (int)m->cols, &beta, y, CUDA_R_32F, (int)ldy,
		    CUBLAS_COMPUTE_32F_PEDANTIC, CUBLAS_GEMM_DEFAULT));
}
