/* Motion tensor, one row at a time.
 *
 *  1. All derivatives come from the 3x3 neighbourhoods of the mean m = (f1 + f2) / 2 and the difference
 *     t = f2 - f1, with the border's pixels repeated outside: spatial ones from m, temporal ones from t.
 *  2. PF_GC: constancy of the gradient, each component normalised by 1 / (|its own gradient|^2 + zeta).
 *     PF_GRAY: constancy of the grey value.
 *  3. The six components of the row are written in the solver's layout.
 */
#include "tensor.h"

#include <stdlib.h>

#include "split.h"

typedef struct {
    const float *a[3], *b[3]; /* rows y-1, y, y+1 of f1 and f2 */
    float first_x, first_y;   /* 1 / (2 h) */
    float xx, yy, xy;         /* 1 / (2 h^2) of the mean, 1 / (8 h_row h_col) of the sum */
    float zeta;
} rows_t;

static inline void gc_pixel(const rows_t *r, int left, int x, int right, float *PF_RESTRICT out, size_t w)
{
    const float *a0 = r->a[0], *a1 = r->a[1], *a2 = r->a[2], *b0 = r->b[0], *b1 = r->b[1], *b2 = r->b[2];
    const float centre = a1[x] + b1[x];
    const float fxx = (((a1[left] + b1[left]) - centre) - (centre - (a1[right] + b1[right]))) * r->xx;
    const float fyy = (((a0[x] + b0[x]) - centre) - (centre - (a2[x] + b2[x]))) * r->yy;
    const float fxy = (((a2[right] + b2[right]) - (a2[left] + b2[left]))
                       - ((a0[right] + b0[right]) - (a0[left] + b0[left]))) * r->xy;
    const float fxt = ((b1[right] - a1[right]) - (b1[left] - a1[left])) * r->first_x;
    const float fyt = ((b2[x] - a2[x]) - (b0[x] - a0[x])) * r->first_y;
    const float nx = fxx * fxx + fxy * fxy + r->zeta, ny = fxy * fxy + fyy * fyy + r->zeta;
    const float both = 1.0f / (nx * ny), rx = both * ny, ry = both * nx;
    out[x] = rx * fxx * fxx + ry * fxy * fxy;
    out[x + w] = rx * fxy * fxy + ry * fyy * fyy;
    out[x + 2 * w] = rx * fxt * fxt + ry * fyt * fyt;
    out[x + 3 * w] = rx * fxx * fxy + ry * fxy * fyy;
    out[x + 4 * w] = rx * fxx * fxt + ry * fxy * fyt;
    out[x + 5 * w] = rx * fxy * fxt + ry * fyy * fyt;
}

static inline void gray_pixel(const rows_t *r, int left, int x, int right, float *PF_RESTRICT out, size_t w)
{
    const float *a1 = r->a[1], *b1 = r->b[1];
    const float fx = ((a1[right] + b1[right]) - (a1[left] + b1[left])) * 0.5f * r->first_x;
    const float fy = ((r->a[2][x] + r->b[2][x]) - (r->a[0][x] + r->b[0][x])) * 0.5f * r->first_y;
    const float ft = b1[x] - a1[x];
    out[x] = fx * fx;
    out[x + w] = fy * fy;
    out[x + 2 * w] = ft * ft;
    out[x + 3 * w] = fx * fy;
    out[x + 4 * w] = fx * ft;
    out[x + 5 * w] = fy * ft;
}

static void tensor_row(const rows_t *r, int constancy, int width, float *PF_RESTRICT out)
{
    const size_t w = (size_t)width;
    const int last = width - 1;
    if (constancy == PF_GC) {
        gc_pixel(r, 0, 0, pf_min_int(1, last), out, w);
        PF_SIMD
        for (int x = 1; x < last; x++) gc_pixel(r, x - 1, x, x + 1, out, w);
        gc_pixel(r, pf_max_int(last - 1, 0), last, last, out, w);
    } else {
        gray_pixel(r, 0, 0, pf_min_int(1, last), out, w);
        PF_SIMD
        for (int x = 1; x < last; x++) gray_pixel(r, x - 1, x, x + 1, out, w);
        gray_pixel(r, pf_max_int(last - 1, 0), last, last, out, w);
    }
}

static int motion_tensor(const float *f1, const float *f2, int h, int w, float h_row, float h_col, int constancy,
                         float zeta, float *out, int n_threads)
{
    if (h <= 0 || w <= 0) return PF_ESHAPE;
    if ((constancy != PF_GC && constancy != PF_GRAY) || !(h_row > 0) || !(h_col > 0) || !(zeta > 0)) return PF_EVALUE;
    int failed = 0;
    (void)n_threads;

#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads) if (n_threads > 1) reduction(| : failed)
#endif
    {
        float *line = malloc((size_t)w * PF_TENSOR_PLANES * sizeof(float));
        failed = line == NULL;
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (int y = 0; y < h; y++) {
            if (!line) continue;
            rows_t r = {.first_x = 0.5f / h_col, .first_y = 0.5f / h_row,
                        .xx = 0.5f / (h_col * h_col), .yy = 0.5f / (h_row * h_row),
                        .xy = 0.125f / (h_row * h_col), .zeta = zeta};
            for (int k = 0; k < 3; k++) {
                const size_t row = (size_t)pf_max_int(0, pf_min_int(y + k - 1, h - 1)) * w;
                r.a[k] = f1 + row;
                r.b[k] = f2 + row;
            }
            tensor_row(&r, constancy, w, line);
            for (int plane = 0; plane < PF_TENSOR_PLANES; plane++)
                pf_group_row(line + (size_t)plane * w, w, y, out, PF_TENSOR_PLANES, plane);
        }
        free(line);
    }
    return failed ? PF_ENOMEM : PF_OK;
}

const pf_tensor_kernels PF_TABLE(pf_tensor) = {motion_tensor};
