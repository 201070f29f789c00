/* Motion tensor, one row at a time.
 *
 *  1. All derivatives come from the 3x3 neighbourhoods of the mean m = (f1 + f2) / 2 and the difference
 *     t = f2 - f1, with the border's pixels repeated outside: spatial ones from m, temporal ones from t.
 *  2. PF_GC: constancy of the gradient, each component normalised by 1 / (|its own gradient|^2 + zeta).
 *     PF_GRAY: constancy of the grey value.
 *     PF_CENSUS: constancy of the census signature (Hafner, Demetz and Weickert, SSVM 2013): eight channels, each the
 *     smoothed sign d / sqrt(d^2 + CELL^2 zeta) of the difference d to one neighbour, summed as PF_GRAY would treat
 *     them. A row of signatures serves three rows of the tensor, so every thread keeps its last three.
 *  3. Rows are summed over the cells of the solver's grid as they are made: the data term of a displacement that is
 *     constant within a cell. Cell i of n covers the pixels i size / n to (i + 1) size / n, so that the grid relates to the
 *     level as a resized image does. One cell per pixel takes the rows as they are.
 *  4. The six components of a row of cells are written in the solver's layout.
 */
#include "tensor.h"

#include <math.h>
#include <stdlib.h>

#include "split.h"

typedef struct {
    const float *a[3], *b[3]; /* rows y-1, y, y+1 of f1 and f2 */
    float first_x, first_y;   /* 1 / (2 h) */
    float xx, yy, xy;         /* 1 / (2 h^2) of the mean, 1 / (8 h_row h_col) of the sum */
    float zeta;
} rows_t;

/* The value of a row, or where rows of a cell are summed, its sum so far and the value. */
#define PUT(plane, value) out[x + (plane) * w] = add ? out[x + (plane) * w] + (value) : (value)

PF_INLINE void gc_pixel(const rows_t *r, int left, int x, int right, float *PF_RESTRICT out, size_t w, const int add)
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
    PUT(PF_J11, rx * fxx * fxx + ry * fxy * fxy);
    PUT(PF_J22, rx * fxy * fxy + ry * fyy * fyy);
    PUT(PF_J33, rx * fxt * fxt + ry * fyt * fyt);
    PUT(PF_J12, rx * fxx * fxy + ry * fxy * fyy);
    PUT(PF_J13, rx * fxx * fxt + ry * fxy * fyt);
    PUT(PF_J23, rx * fxy * fxt + ry * fyy * fyt);
}

PF_INLINE void gray_pixel(const rows_t *r, int left, int x, int right, float *PF_RESTRICT out, size_t w, const int add)
{
    const float *a1 = r->a[1], *b1 = r->b[1];
    const float fx = ((a1[right] + b1[right]) - (a1[left] + b1[left])) * 0.5f * r->first_x;
    const float fy = ((r->a[2][x] + r->b[2][x]) - (r->a[0][x] + r->b[0][x])) * 0.5f * r->first_y;
    const float ft = b1[x] - a1[x];
    PUT(PF_J11, fx * fx);
    PUT(PF_J22, fy * fy);
    PUT(PF_J33, ft * ft);
    PUT(PF_J12, fx * fy);
    PUT(PF_J13, fx * ft);
    PUT(PF_J23, fy * ft);
}

enum { NEIGHBOURS = 8 };
static const float CELL = 10.0f; /* pixels, about a cell body: a second derivative over this length makes a slope */

/* The signatures of one row, (NEIGHBOURS, w + 2) each: of both images summed, and of f2 less those of f1; the border's
 * pixels are repeated outside. */
typedef struct {
    int row; /* -1: none yet */
    float *sum, *change;
} signatures_t;

static inline float smooth_sign(float d, float zeta) { return d / sqrtf(d * d + CELL * CELL * zeta); }

static inline void census_pixel(const rows_t *r, int dy, int x, int there, float *sum, float *change)
{
    const float one = smooth_sign(r->a[1 + dy][there] - r->a[1][x], r->zeta);
    const float two = smooth_sign(r->b[1 + dy][there] - r->b[1][x], r->zeta);
    sum[x] = one + two;
    change[x] = two - one;
}

static void census_row(const rows_t *r, int width, signatures_t *out)
{
    const size_t padded = (size_t)width + 2;
    const int last = width - 1;
    for (int n = 0; n < NEIGHBOURS; n++) {
        const int place = n < NEIGHBOURS / 2 ? n : n + 1; /* of the 3x3 neighbourhood, without its centre */
        const int dy = place / 3 - 1, dx = place % 3 - 1;
        float *PF_RESTRICT sum = out->sum + n * padded + 1, *PF_RESTRICT change = out->change + n * padded + 1;
        census_pixel(r, dy, 0, pf_max_int(0, pf_min_int(dx, last)), sum, change);
        PF_SIMD
        for (int x = 1; x < last; x++) census_pixel(r, dy, x, x + dx, sum, change);
        census_pixel(r, dy, last, pf_max_int(0, pf_min_int(last + dx, last)), sum, change);
        sum[-1] = sum[0];
        sum[width] = sum[last];
    }
}

static void census_tensor_row(const signatures_t *const *three, const rows_t *scales, int width, int add,
                              float *PF_RESTRICT out)
{
    const size_t w = (size_t)width, padded = w + 2;
    const float per_x = 0.5f * scales->first_x, per_y = 0.5f * scales->first_y;
    for (size_t x = 0; x < PF_TENSOR_PLANES * w && !add; x++) out[x] = 0;
    for (int n = 0; n < NEIGHBOURS; n++) {
        const size_t first = n * padded + 1;
        const float *s0 = three[0]->sum + first, *s1 = three[1]->sum + first, *s2 = three[2]->sum + first;
        const float *change = three[1]->change + first;
        PF_SIMD
        for (int x = 0; x < width; x++) {
            const float fx = (s1[x + 1] - s1[x - 1]) * per_x;
            const float fy = (s2[x] - s0[x]) * per_y;
            const float ft = change[x];
            out[x] += fx * fx;
            out[x + w] += fy * fy;
            out[x + 2 * w] += ft * ft;
            out[x + 3 * w] += fx * fy;
            out[x + 4 * w] += fx * ft;
            out[x + 5 * w] += fy * ft;
        }
    }
}

PF_INLINE void tensor_row(const rows_t *r, int constancy, int width, const int add, float *PF_RESTRICT out)
{
    const size_t w = (size_t)width;
    const int last = width - 1;
    if (constancy == PF_GC) {
        gc_pixel(r, 0, 0, pf_min_int(1, last), out, w, add);
        PF_SIMD
        for (int x = 1; x < last; x++) gc_pixel(r, x - 1, x, x + 1, out, w, add);
        if (last > 0) gc_pixel(r, last - 1, last, last, out, w, add);
    } else {
        gray_pixel(r, 0, 0, pf_min_int(1, last), out, w, add);
        PF_SIMD
        for (int x = 1; x < last; x++) gray_pixel(r, x - 1, x, x + 1, out, w, add);
        if (last > 0) gray_pixel(r, last - 1, last, last, out, w, add);
    }
}

PF_APART void put_row(const rows_t *r, int constancy, int width, float *out)
{
    tensor_row(r, constancy, width, 0, out);
}

PF_APART void add_row(const rows_t *r, int constancy, int width, float *out)
{
    tensor_row(r, constancy, width, 1, out);
}

static rows_t rows_around(int y, const float *f1, const float *f2, int h, int w, rows_t scales)
{
    for (int k = 0; k < 3; k++) {
        const size_t row = (size_t)pf_max_int(0, pf_min_int(y + k - 1, h - 1)) * w;
        scales.a[k] = f1 + row;
        scales.b[k] = f2 + row;
    }
    return scales;
}

/* Where cell i of n begins. */
static inline int cell_start(int i, int n, int size) { return (int)((int64_t)i * size / n); }

/* Averages of the cells of a row: sum[x] is over `height` rows, window (w values) is scratch.
 *
 * Cells are w / cells pixels wide, or one more. Sums over that many neighbours are made from every pixel on, which
 * takes no more than adding whole lines, and each cell picks its own. */
static void average_cells(const float *PF_RESTRICT sum, int w, const int32_t *start, int cells, int height,
                          float *PF_RESTRICT window, float *PF_RESTRICT out)
{
    const int narrow = w / cells;
    const float shares[2] = {1.0f / (float)(height * narrow), 1.0f / (float)(height * (narrow + 1))};
    if (narrow == 4 && w == 4 * cells) { /* the usual case: one pass */
        PF_SIMD
        for (size_t i = 0; i < (size_t)cells; i++)
            out[i] = (((sum[4 * i] + sum[4 * i + 1]) + sum[4 * i + 2]) + sum[4 * i + 3]) * shares[0];
        return;
    }
    for (int x = 0; x < w; x++) window[x] = sum[x];
    for (int k = 1; k < narrow; k++) {
        const float *PF_RESTRICT shifted = sum + k;
        PF_SIMD
        for (int x = 0; x < w - k; x++) window[x] += shifted[x];
    }
    for (int i = 0; i < cells; i++) {
        const int first = start[i], wide = start[i + 1] - first > narrow;
        out[i] = (wide ? window[first] + sum[first + narrow] : window[first]) * shares[wide];
    }
}

/* Row y of the tensor into `line`, or added to what is there. */
static void make_row(int y, const float *f1, const float *f2, int h, int w, const rows_t *scales, int constancy,
                     signatures_t *kept, int add, float *line)
{
    if (constancy != PF_CENSUS) {
        const rows_t around = rows_around(y, f1, f2, h, w, *scales);
        (add ? add_row : put_row)(&around, constancy, w, line);
        return;
    }
    const signatures_t *three[3];
    for (int k = 0; k < 3; k++) {
        const int row = pf_max_int(0, pf_min_int(y + k - 1, h - 1));
        signatures_t *one = &kept[row % 3];
        if (one->row != row) {
            const rows_t around = rows_around(row, f1, f2, h, w, *scales);
            census_row(&around, w, one);
            one->row = row;
        }
        three[k] = one;
    }
    census_tensor_row(three, scales, w, add, line);
}

static int motion_tensor(const float *f1, const float *f2, int h, int w, int rows, int cols, float h_row, float h_col,
                         int constancy, float zeta, float *out, int n_threads)
{
    if (h <= 0 || w <= 0 || rows <= 0 || rows > h || cols <= 0 || cols > w) return PF_ESHAPE;
    if (constancy < 0 || constancy >= PF_N_CONSTANCIES || !(h_row > 0) || !(h_col > 0) || !(zeta > 0)) return PF_EVALUE;
    const rows_t scales = {.first_x = 0.5f / h_col, .first_y = 0.5f / h_row,
                           .xx = 0.5f / (h_col * h_col), .yy = 0.5f / (h_row * h_row),
                           .xy = 0.125f / (h_row * h_col), .zeta = zeta};
    const size_t line_size = (size_t)w * PF_TENSOR_PLANES;
    const size_t signature_size = constancy == PF_CENSUS ? NEIGHBOURS * ((size_t)w + 2) : 0;
    const int averaged = rows != h || cols != w;
    int failed = 0;
    (void)n_threads;

#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads) if (n_threads > 1) reduction(| : failed)
#endif
    {
        float *line = malloc((line_size + 3 * (size_t)w + 1 + 6 * signature_size) * sizeof(float));
        float *window = line + line_size, *cells = window + w;
        int32_t *start = (int32_t *)(cells + w);
        signatures_t kept[3];
        failed = line == NULL;
        for (int k = 0; k < 3 && line; k++) {
            float *own = window + 3 * (size_t)w + 1 + 2 * (size_t)k * signature_size;
            kept[k] = (signatures_t){.row = -1, .sum = own, .change = own + signature_size};
        }
        for (int i = 0; line && i <= cols; i++) start[i] = cell_start(i, cols, w);
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (int row = 0; row < rows; row++) {
            if (!line) continue;
            const int first = cell_start(row, rows, h), end = cell_start(row + 1, rows, h);
            for (int y = first; y < end; y++) make_row(y, f1, f2, h, w, &scales, constancy, kept, y > first, line);
            for (int plane = 0; plane < PF_TENSOR_PLANES; plane++) {
                const float *sum = line + (size_t)plane * w;
                if (averaged) average_cells(sum, w, start, cols, end - first, window, cells);
                pf_group_row(averaged ? cells : sum, cols, row, out, PF_TENSOR_PLANES, plane);
            }
        }
        free(line);
    }
    return failed ? PF_ENOMEM : PF_OK;
}

const pf_tensor_kernels PF_TABLE(pf_tensor) = {motion_tensor};
