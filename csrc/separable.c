/* Separable linear map.
 *
 * Output rows are made in strips of STRIP:
 *  1. columns: every strip row is a weighted sum of whole source rows, written transposed in blocks so that the
 *     strip is stored as (source column, strip row);
 *  2. rows: every output column is a weighted sum of strip columns, STRIP values at a time;
 *  3. the strip is transposed into its output rows.
 * Both sums run over contiguous memory whatever the indices are.
 */
#include "separable.h"

#include <stdlib.h>
#include <string.h>

#define STRIP 16

static void columns(const float *PF_RESTRICT src, int w, const pf_axis *y, int row, float *PF_RESTRICT line)
{
    const int32_t *index = y->index + (size_t)row * y->taps;
    const float *weight = y->weight + (size_t)row * y->taps;
    const float *PF_RESTRICT first = src + (size_t)index[0] * w;
    const float w0 = weight[0];
    for (int x = 0; x < w; x++) line[x] = w0 * first[x];
    for (int p = 1; p < y->taps; p++) {
        const float *PF_RESTRICT from = src + (size_t)index[p] * w;
        const float wp = weight[p];
        for (int x = 0; x < w; x++) line[x] += wp * from[x];
    }
}

static void transpose_in(const float *PF_RESTRICT lines, int w, float *PF_RESTRICT strip)
{
    for (int x = 0; x < w; x++)
        for (int r = 0; r < STRIP; r++) strip[(size_t)x * STRIP + r] = lines[(size_t)r * w + x];
}

static void rows(const float *PF_RESTRICT strip, const pf_axis *x, float *PF_RESTRICT out)
{
    for (int c = 0; c < x->size; c++) {
        const int32_t *index = x->index + (size_t)c * x->taps;
        const float *weight = x->weight + (size_t)c * x->taps;
        float sum[STRIP] = {0};
        for (int q = 0; q < x->taps; q++) {
            const float *PF_RESTRICT from = strip + (size_t)index[q] * STRIP;
            const float wq = weight[q];
            for (int r = 0; r < STRIP; r++) sum[r] += wq * from[r];
        }
        memcpy(out + (size_t)c * STRIP, sum, sizeof sum);
    }
}

static void transpose_out(const float *PF_RESTRICT strip, int n_rows, int w, float *PF_RESTRICT out)
{
    for (int r = 0; r < n_rows; r++)
        for (int x = 0; x < w; x++) out[(size_t)r * w + x] = strip[(size_t)x * STRIP + r];
}

static int map(const float *src, int h, int w, const pf_axis *y, const pf_axis *x, float *out, int n_threads)
{
    if (h <= 0 || w <= 0 || y->size <= 0 || x->size <= 0) return PF_ESHAPE;
    if (y->taps <= 0 || x->taps <= 0) return PF_EVALUE;
    const int n_strips = (y->size + STRIP - 1) / STRIP;
    const size_t scratch = (size_t)STRIP * (2 * (size_t)w + (size_t)x->size);
    int failed = 0;
    (void)n_threads;

#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads) if (n_threads > 1) reduction(| : failed)
#endif
    {
        float *lines = calloc(scratch, sizeof(float));
        failed = lines == NULL;
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (int s = 0; s < n_strips; s++) {
            if (!lines) continue;
            float *strip = lines + (size_t)STRIP * w, *mapped = strip + (size_t)STRIP * w;
            const int first = s * STRIP, n_rows = pf_min_int(STRIP, y->size - first);
            for (int r = 0; r < n_rows; r++) columns(src, w, y, first + r, lines + (size_t)r * w);
            transpose_in(lines, w, strip);
            rows(strip, x, mapped);
            transpose_out(mapped, n_rows, x->size, out + (size_t)first * x->size);
        }
        free(lines);
    }
    return failed ? PF_ENOMEM : PF_OK;
}

const pf_separable_kernels PF_TABLE(pf_separable) = {map};
