/* Separable linear map.
 *
 * Output rows are made in strips of STRIP:
 *  1. every strip row is a weighted sum of whole source rows;
 *  2. the strip is transposed to (source column, strip row), and every output column is a weighted sum of its
 *     columns, STRIP values at a time;
 *  3. the result is transposed into the output rows.
 * Both sums run over contiguous memory whatever the indices are.
 *
 * Where most outputs have the same weights, each at a sample further on (a filter), step 2 needs no transposing: a strip
 * row is a weighted sum of itself, shifted.
 *
 * Where rows are many times as many afterwards, the sums along columns come first: transposing is what costs most, and the
 * source has fewer rows to transpose.
 */
#include "separable.h"

#include <stdlib.h>

#include "lines.h"

#define STRIP 16

static void transpose_in(const float *PF_RESTRICT lines, int n_rows, int w, float *PF_RESTRICT strip)
{
    for (int x = 0; x < w; x++)
        for (int r = 0; r < n_rows; r++) strip[(size_t)x * STRIP + r] = lines[(size_t)r * w + x];
}

static void transpose_out(const float *PF_RESTRICT strip, int n_rows, int w, float *PF_RESTRICT out)
{
    for (int r = 0; r < n_rows; r++)
        for (int x = 0; x < w; x++) out[(size_t)r * w + x] = strip[(size_t)x * STRIP + r];
}

static int check(int h, int w, const pf_axis *y, const pf_axis *x)
{
    if (h <= 0 || w <= 0 || y->size <= 0 || x->size <= 0) return PF_ESHAPE;
    if (y->taps <= 0 || x->taps <= 0 || y->taps % PF_TAPS || x->taps % PF_TAPS) return PF_EVALUE;
    return PF_OK;
}

/* Whether the output after c is the same sum as c, one sample further on. */
static int goes_on(const pf_axis *axis, int c)
{
    const int32_t *index = axis->index + (size_t)c * axis->taps;
    const float *weight = axis->weight + (size_t)c * axis->taps;
    for (int p = 0; p < axis->taps; p++)
        if (index[p + axis->taps] != index[p] + 1 || weight[p + axis->taps] != weight[p]) return 0;
    return 1;
}

/* Outputs first to stop - 1 are one sum, shifted. */
typedef struct {
    int first, stop;
} same_sums;

static same_sums find_same(const pf_axis *axis)
{
    same_sums same = {axis->size / 2, axis->size / 2 + 1};
    while (same.first > 0 && goes_on(axis, same.first - 1)) same.first--;
    while (same.stop < axis->size && goes_on(axis, same.stop - 1)) same.stop++;
    return same;
}

/* One output. */
static float one_sum(const float *line, const pf_axis *x, int c)
{
    const int32_t *i = x->index + (size_t)c * x->taps;
    const float *k = x->weight + (size_t)c * x->taps;
    float sum = 0.0f;
    for (int p = 0; p < x->taps; p += PF_TAPS, i += PF_TAPS, k += PF_TAPS) {
        const float group = (k[0] * line[i[0]] + k[1] * line[i[1]]) + (k[2] * line[i[2]] + k[3] * line[i[3]]);
        sum = p == 0 ? group : sum + group;
    }
    return sum;
}

static void filter_row(const float *line, const pf_axis *x, same_sums same, float *out)
{
    for (int c = 0; c < same.first; c++) out[c] = one_sum(line, x, c);
    pf_combine(line, 1, x, same.first, same.stop - same.first, out + same.first);
    for (int c = same.stop; c < x->size; c++) out[c] = one_sum(line, x, c);
}

/* Columns of up to STRIP lines of width w. strip: (w, STRIP), mapped: (x->size, STRIP). */
static void map_columns(const float *lines, int n_rows, int w, const pf_axis *x, same_sums same, float *strip,
                        float *mapped, float *out)
{
    if (same.stop - same.first > x->size / 2) {
        for (int r = 0; r < n_rows; r++) filter_row(lines + (size_t)r * w, x, same, out + (size_t)r * x->size);
        return;
    }
    transpose_in(lines, n_rows, w, strip);
    for (int c = 0; c < x->size; c++) pf_combine(strip, STRIP, x, c, STRIP, mapped + (size_t)c * STRIP);
    transpose_out(mapped, n_rows, x->size, out);
}

static int map_separable(const float *src, int h, int w, const pf_axis *y, const pf_axis *x, float *out, int n_threads)
{
    const int status = check(h, w, y, x);
    if (status != PF_OK) return status;
    const int n_strips = (y->size + STRIP - 1) / STRIP;
    const size_t scratch = (size_t)STRIP * (2 * (size_t)w + (size_t)x->size);
    const same_sums same = find_same(x);
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
            for (int r = 0; r < n_rows; r++) pf_combine(src, (size_t)w, y, first + r, w, lines + (size_t)r * w);
            map_columns(lines, n_rows, w, x, same, strip, mapped, out + (size_t)first * x->size);
        }
        free(lines);
    }
    return failed ? PF_ENOMEM : PF_OK;
}

static int widen(const float *src, int h, int w, const pf_axis *x, float *out, int n_threads)
{
    const int status = check(h, w, x, x);
    if (status != PF_OK) return status;
    const int n_strips = (h + STRIP - 1) / STRIP;
    const same_sums same = find_same(x);
    int failed = 0;
    (void)n_threads;

#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads) if (n_threads > 1) reduction(| : failed)
#endif
    {
        float *strip = calloc((size_t)STRIP * ((size_t)w + (size_t)x->size), sizeof(float));
        failed = strip == NULL;
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (int s = 0; s < n_strips; s++) {
            if (!strip) continue;
            const int first = s * STRIP, n_rows = pf_min_int(STRIP, h - first);
            map_columns(src + (size_t)first * w, n_rows, w, x, same, strip, strip + (size_t)STRIP * w,
                        out + (size_t)first * x->size);
        }
        free(strip);
    }
    return failed ? PF_ENOMEM : PF_OK;
}

static int enlarge_separable(const float *src, int h, int w, const pf_axis *y, const pf_axis *x, float *out,
                             int n_threads)
{
    int status = check(h, w, y, x);
    if (status != PF_OK) return status;
    float *wide = malloc((size_t)h * x->size * sizeof(float));
    if (!wide) return PF_ENOMEM;
    status = widen(src, h, w, x, wide, n_threads);
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(n_threads) if (n_threads > 1)
#endif
    for (int row = 0; row < (status == PF_OK ? y->size : 0); row++)
        pf_combine(wide, (size_t)x->size, y, row, x->size, out + (size_t)row * x->size);
    free(wide);
    return status;
}

const pf_separable_kernels PF_TABLE(pf_separable) = {map_separable, enlarge_separable, widen};
