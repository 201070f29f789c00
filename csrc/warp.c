/* Backward warp, one output row at a time.
 *
 *  1. Split every displacement into a whole number of pixels and a fraction in [0, 1). The fraction is taken from
 *     the displacement, not from the coordinate, so that it keeps its precision far from the origin and a zero
 *     displacement returns the input's bits.
 *  2. A smooth field has the same whole part over long runs of a row. Inside a run the stencil's samples are
 *     contiguous in memory, so the interpolation vectorises without gathers.
 *  3. Pixels whose stencil crosses the border are done one by one, with ghost samples 3 f1 - 3 f2 + f3 (cubic), as
 *     in Keys (1981); pixels outside take the fill.
 *
 * Cubic is Keys' convolution with a = -1/2.
 */
#include "warp.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    int32_t *dx, *dy; /* whole part */
    float *fx, *fy;   /* fraction */
} row_offsets;

/* Displacements beyond `limit`, and NaN, become `limit`. */
static void split_row(const float *PF_RESTRICT u, const float *PF_RESTRICT v, int w, float per_col, float per_row,
                      float limit, row_offsets o)
{
    int32_t *PF_RESTRICT dx = o.dx, *PF_RESTRICT dy = o.dy;
    float *PF_RESTRICT fx = o.fx, *PF_RESTRICT fy = o.fy;
    PF_SIMD
    for (int x = 0; x < w; x++) {
        float a = u[x] * per_col, b = v[x] * per_row;
        a = fabsf(a) < limit ? a : limit;
        b = fabsf(b) < limit ? b : limit;
        int32_t ia = (int32_t)a, ib = (int32_t)b;
        ia -= (float)ia > a;
        ib -= (float)ib > b;
        dx[x] = ia;
        dy[x] = ib;
        fx[x] = a - (float)ia;
        fy[x] = b - (float)ib;
    }
}

static inline int inside(int i, float fraction, int n)
{
    return i >= 0 && (i < n - 1 || (i == n - 1 && fraction == 0.0f));
}

static inline void keys(float f, float k[4])
{
    k[0] = ((-0.5f * f + 1.0f) * f - 0.5f) * f;
    k[1] = (1.5f * f - 2.5f) * f * f + 1.0f;
    k[2] = ((-1.5f * f + 2.0f) * f + 0.5f) * f;
    k[3] = (0.5f * f - 0.5f) * f * f;
}

/* src(y, x) where x or y may be one step (two, on the far side) outside. */
static float ghost_x(const float *row, int x, int w)
{
    if (w < 3) return row[pf_max_int(0, pf_min_int(x, w - 1))];
    if (x < 0) return 3.0f * row[0] - 3.0f * row[1] + row[2];
    if (x >= w) return 3.0f * row[w - 1] - 3.0f * row[w - 2] + row[w - 3];
    return row[x];
}

static float ghost(const float *src, int y, int x, int h, int w)
{
    if (y >= 0 && y < h) return ghost_x(src + (size_t)y * w, x, w);
    if (h < 3) return ghost_x(src + (size_t)pf_max_int(0, pf_min_int(y, h - 1)) * w, x, w);
    const int edge = y < 0 ? 0 : h - 1, step = y < 0 ? 1 : -1;
    return 3.0f * ghost_x(src + (size_t)edge * w, x, w) - 3.0f * ghost_x(src + (size_t)(edge + step) * w, x, w)
        + ghost_x(src + (size_t)(edge + 2 * step) * w, x, w);
}

static float cubic_at_border(const float *src, int y, int x, float fy, float fx, int h, int w)
{
    float ky[4], kx[4], sum = 0.0f;
    keys(fy, ky);
    keys(fx, kx);
    for (int p = 0; p < 4; p++) {
        if (ky[p] == 0.0f) continue;
        float line = 0.0f;
        for (int q = 0; q < 4; q++)
            if (kx[q] != 0.0f) line += kx[q] * ghost(src, y + p - 1, x + q - 1, h, w);
        sum += ky[p] * line;
    }
    return sum;
}

static void cubic_run(const float *PF_RESTRICT top, int w, const float *PF_RESTRICT fx, const float *PF_RESTRICT fy,
                      int n, float *PF_RESTRICT out)
{
    for (int i = 0; i < n; i++) {
        float ky[4], kx[4], sum = 0.0f;
        keys(fy[i], ky);
        keys(fx[i], kx);
        for (int p = 0; p < 4; p++) {
            const float *s = top + (size_t)p * w + i;
            sum += ky[p] * (kx[0] * s[0] + kx[1] * s[1] + kx[2] * s[2] + kx[3] * s[3]);
        }
        out[i] = sum;
    }
}

static void linear_run(const float *PF_RESTRICT top, int w, const float *PF_RESTRICT fx, const float *PF_RESTRICT fy,
                       int n, float *PF_RESTRICT out)
{
    for (int i = 0; i < n; i++) {
        const float *s = top + i, *t = s + w;
        const float a = s[0] + fx[i] * (s[1] - s[0]), b = t[0] + fx[i] * (t[1] - t[0]);
        out[i] = a + fy[i] * (b - a);
    }
}

static float linear_at_border(const float *src, int y, int x, float fy, float fx, int h, int w)
{
    const int right = pf_min_int(x + 1, w - 1), below = pf_min_int(y + 1, h - 1);
    const float *s = src + (size_t)y * w, *t = src + (size_t)below * w;
    const float a = s[x] + fx * (s[right] - s[x]), b = t[x] + fx * (t[right] - t[x]);
    return a + fy * (b - a);
}

static float nearest(const float *src, int y, int x, float fy, float fx, int w)
{
    return src[(size_t)(y + (fy >= 0.5f)) * w + x + (fx >= 0.5f)];
}

static void warp_row(const float *src, const float *fill, int y, int h, int w, int interpolation, row_offsets o,
                     float *out)
{
    const int before = interpolation == PF_CUBIC, after = interpolation == PF_CUBIC ? 2 : 1;
    int x = 0;
    while (x < w) {
        const int dx = o.dx[x], sy = y + o.dy[x], sx = x + dx;
        if (interpolation != PF_NEAREST && sy >= before && sy + after < h && sx >= before && sx + after < w) {
            const int last = pf_min_int(w, w - after - dx);
            int end = x + 1;
            while (end < last && o.dx[end] == dx && o.dy[end] == o.dy[x]) end++;
            const float *top = src + (size_t)(sy - before) * w + (sx - before);
            (interpolation == PF_CUBIC ? cubic_run : linear_run)(top, w, o.fx + x, o.fy + x, end - x, out + x);
            x = end;
            continue;
        }
        const float fx = o.fx[x], fy = o.fy[x];
        if (!inside(sy, fy, h) || !inside(sx, fx, w)) out[x] = fill ? fill[x] : 0.0f;
        else if (interpolation == PF_CUBIC) out[x] = cubic_at_border(src, sy, sx, fy, fx, h, w);
        else if (interpolation == PF_LINEAR) out[x] = linear_at_border(src, sy, sx, fy, fx, h, w);
        else out[x] = nearest(src, sy, sx, fy, fx, w);
        x++;
    }
}

/* Scratch for one row's offsets, or all NULL. */
static row_offsets new_offsets(int w)
{
    row_offsets o = {NULL, NULL, NULL, NULL};
    int32_t *block = malloc((size_t)w * 4 * sizeof(int32_t));
    if (block) {
        o.dx = block;
        o.dy = block + w;
        o.fx = (float *)(block + 2 * (size_t)w);
        o.fy = (float *)(block + 3 * (size_t)w);
    }
    return o;
}

static int image(const float *src, const float *u, const float *v, const float *fill, int h, int w, float h_row,
                 float h_col, int interpolation, float *out, int n_threads)
{
    if (h <= 0 || w <= 0) return PF_ESHAPE;
    if (interpolation < PF_NEAREST || interpolation > PF_CUBIC || !(h_row > 0) || !(h_col > 0)) return PF_EVALUE;
    int failed = 0;
    (void)n_threads;

#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads) if (n_threads > 1) reduction(| : failed)
#endif
    {
        const row_offsets o = new_offsets(w);
        failed = o.dx == NULL;
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (int y = 0; y < h; y++) {
            if (!o.dx) continue;
            const size_t row = (size_t)y * w;
            split_row(u + row, v + row, w, 1.0f / h_col, 1.0f / h_row, (float)(h + w), o);
            warp_row(src, fill ? fill + row : NULL, y, h, w, interpolation, o, out + row);
        }
        free(o.dx);
    }
    return failed ? PF_ENOMEM : PF_OK;
}

/* Row of in-bounds flags; with src also the nearest neighbour's value. */
static int flags(const uint8_t *src, const float *u, const float *v, int h, int w, uint8_t *out, int n_threads)
{
    if (h <= 0 || w <= 0) return PF_ESHAPE;
    int failed = 0;
    (void)n_threads;

#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads) if (n_threads > 1) reduction(| : failed)
#endif
    {
        const row_offsets o = new_offsets(w);
        failed = o.dx == NULL;
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (int y = 0; y < h; y++) {
            if (!o.dx) continue;
            const size_t row = (size_t)y * w;
            split_row(u + row, v + row, w, 1.0f, 1.0f, (float)(h + w), o);
            for (int x = 0; x < w; x++) {
                const int sy = y + o.dy[x], sx = x + o.dx[x];
                uint8_t flag = (uint8_t)(inside(sy, o.fy[x], h) && inside(sx, o.fx[x], w));
                if (flag && src)
                    flag = src[(size_t)(sy + (o.fy[x] >= 0.5f)) * w + sx + (o.fx[x] >= 0.5f)] != 0;
                out[row + x] = flag;
            }
        }
        free(o.dx);
    }
    return failed ? PF_ENOMEM : PF_OK;
}

static int mask(const uint8_t *src, const float *u, const float *v, int h, int w, uint8_t *out, int n_threads)
{
    return src ? flags(src, u, v, h, w, out, n_threads) : PF_EVALUE;
}

static int valid(const float *u, const float *v, int h, int w, uint8_t *out, int n_threads)
{
    return flags(NULL, u, v, h, w, out, n_threads);
}

const pf_warp_kernels PF_TABLE(pf_warp) = {image, mask, valid};
