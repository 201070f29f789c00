/* 5x5 median as a selection network, one output row at a time.
 *
 *  1. Sort every column of five vertical neighbours once; five neighbouring pixels share it.
 *  2. Sort the rows of the 5x5 block of sorted columns. Its columns stay sorted, so an element (i, j) has at least
 *     (i+1)(j+1) - 1 elements below it and (5-i)(5-j) - 1 above it: twelve elements cannot be the median.
 *  3. The median of the other thirteen: drop the smallest and the largest of eight, take in the next, repeat.
 * Exchanges whose result is not used are removed by the compiler.
 */
#include "median.h"

#include <stdlib.h>
#include <string.h>

#define EXCHANGE(a, b)                     \
    do {                                   \
        const float lo_ = a < b ? a : b;   \
        const float hi_ = a < b ? b : a;   \
        a = lo_;                           \
        b = hi_;                           \
    } while (0)

#define SORT5(a, b, c, d, e)                                                                      \
    do {                                                                                          \
        EXCHANGE(a, b); EXCHANGE(d, e); EXCHANGE(c, e); EXCHANGE(c, d); EXCHANGE(a, d);           \
        EXCHANGE(a, c); EXCHANGE(b, e); EXCHANGE(b, d); EXCHANGE(b, c);                           \
    } while (0)

/* Move the smallest to the first argument and the largest to the last. */
#define ENDS3(a, b, c) do { EXCHANGE(b, c); EXCHANGE(a, c); EXCHANGE(a, b); } while (0)
#define ENDS4(a, b, c, d) do { EXCHANGE(a, b); EXCHANGE(c, d); EXCHANGE(a, c); EXCHANGE(b, d); } while (0)
#define ENDS5(a, b, c, d, e)                                                               \
    do {                                                                                   \
        EXCHANGE(a, b); EXCHANGE(d, e);                                                    \
        EXCHANGE(a, c); EXCHANGE(a, d); EXCHANGE(c, e); EXCHANGE(b, e);                    \
    } while (0)
#define ENDS6(a, b, c, d, e, f)                                                            \
    do {                                                                                   \
        EXCHANGE(a, d); EXCHANGE(b, e); EXCHANGE(c, f);                                    \
        EXCHANGE(a, b); EXCHANGE(a, c); EXCHANGE(e, f); EXCHANGE(d, f);                    \
    } while (0)
#define ENDS7(a, b, c, d, e, f, g)                                                         \
    do {                                                                                   \
        EXCHANGE(a, e); EXCHANGE(b, f); EXCHANGE(c, g);                                    \
        EXCHANGE(a, b); EXCHANGE(a, c); EXCHANGE(a, d);                                    \
        EXCHANGE(f, g); EXCHANGE(e, g); EXCHANGE(d, g);                                    \
    } while (0)
#define ENDS8(a, b, c, d, e, f, g, h)                                                      \
    do {                                                                                   \
        EXCHANGE(a, e); EXCHANGE(b, f); EXCHANGE(c, g); EXCHANGE(d, h);                    \
        EXCHANGE(a, b); EXCHANGE(c, d); EXCHANGE(a, c);                                    \
        EXCHANGE(e, f); EXCHANGE(g, h); EXCHANGE(f, h);                                    \
    } while (0)

static void sort_columns(const float *const src[5], int w, float *PF_RESTRICT s, size_t stride)
{
    const float *PF_RESTRICT r0 = src[0], *PF_RESTRICT r1 = src[1], *PF_RESTRICT r2 = src[2],
          *PF_RESTRICT r3 = src[3], *PF_RESTRICT r4 = src[4];
    for (int x = 0; x < w; x++) {
        float a = r0[x], b = r1[x], c = r2[x], d = r3[x], e = r4[x];
        SORT5(a, b, c, d, e);
        s[x] = a;
        s[x + stride] = b;
        s[x + 2 * stride] = c;
        s[x + 3 * stride] = d;
        s[x + 4 * stride] = e;
    }
}

PF_INLINE void select_row(const float *PF_RESTRICT s, size_t stride, int w, const int add,
                       float *PF_RESTRICT out)
{
    for (int x = 0; x < w; x++) {
        const float *p = s + x;
        float a0 = p[0], a1 = p[1], a2 = p[2], a3 = p[3], a4 = p[4];
        p += stride;
        float b0 = p[0], b1 = p[1], b2 = p[2], b3 = p[3], b4 = p[4];
        p += stride;
        float c0 = p[0], c1 = p[1], c2 = p[2], c3 = p[3], c4 = p[4];
        p += stride;
        float d0 = p[0], d1 = p[1], d2 = p[2], d3 = p[3], d4 = p[4];
        p += stride;
        float e0 = p[0], e1 = p[1], e2 = p[2], e3 = p[3], e4 = p[4];
        SORT5(a0, a1, a2, a3, a4);
        SORT5(b0, b1, b2, b3, b4);
        SORT5(c0, c1, c2, c3, c4);
        SORT5(d0, d1, d2, d3, d4);
        SORT5(e0, e1, e2, e3, e4);
        ENDS8(a3, a4, b2, b3, c1, d0, d1, e0);
        ENDS7(a4, b2, b3, c1, d0, d1, b4);
        ENDS6(b2, b3, c1, d0, d1, c2);
        ENDS5(b3, c1, d0, d1, c3);
        ENDS4(c1, d0, d1, d2);
        ENDS3(d0, d1, e1);
        out[x] = add ? out[x] + d1 : d1;
    }
}

static int median5x5(const float *src, int h, int w, int add, float *out, int n_threads)
{
    if (h <= 0 || w <= 0) return PF_ESHAPE;
    const size_t stride = (size_t)w + 4;
    int failed = 0;
    (void)n_threads;

#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads) if (n_threads > 1) reduction(| : failed)
#endif
    {
        float *sorted = malloc(5 * stride * sizeof(float));
        failed = sorted == NULL;
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (int y = 0; y < h; y++) {
            if (!sorted) continue;
            const float *from[5];
            for (int k = 0; k < 5; k++) from[k] = src + (size_t)pf_mirror(y + k - 2, h) * w;
            sort_columns(from, w, sorted + 2, stride);
            for (int k = 0; k < 5; k++) {
                float *line = sorted + k * stride + 2;
                for (int e = 1; e <= 2; e++) {
                    line[-e] = line[pf_mirror(-e, w)];
                    line[w - 1 + e] = line[pf_mirror(w - 1 + e, w)];
                }
            }
            if (add) select_row(sorted, stride, w, 1, out + (size_t)y * w);
            else select_row(sorted, stride, w, 0, out + (size_t)y * w);
        }
        free(sorted);
    }
    return failed ? PF_ENOMEM : PF_OK;
}

const pf_median_kernels PF_TABLE(pf_median) = {median5x5};
