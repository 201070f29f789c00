/* Weighted sums of lines: what a separable map is made of, and a displacement between the rows of a coarser one. */
#ifndef PF_LINES_H
#define PF_LINES_H

#include "core.h"

#define PF_TAPS 4 /* taps are summed in groups of this many */

/* One axis: `taps` source indices and weights for each of `size` outputs, row-major (size, taps); taps is a multiple of
 * PF_TAPS, the surplus with weight 0. */
typedef struct {
    int size;
    int taps;
    const int32_t *index;
    const float *weight;
} pf_axis;

/* out (+)= sum of PF_TAPS weighted lines. */
PF_INLINE void pf_weighted_sum(const float *const from[PF_TAPS], const float *PF_RESTRICT weight, int n,
                               float *PF_RESTRICT out, const int first)
{
    const float *PF_RESTRICT a = from[0], *PF_RESTRICT b = from[1], *PF_RESTRICT c = from[2], *PF_RESTRICT d = from[3];
    const float wa = weight[0], wb = weight[1], wc = weight[2], wd = weight[3];
    PF_SIMD
    for (int i = 0; i < n; i++) {
        const float sum = (wa * a[i] + wb * b[i]) + (wc * c[i] + wd * d[i]);
        out[i] = first ? sum : out[i] + sum;
    }
}

/* One output line from lines `stride` apart. */
PF_INLINE void pf_combine(const float *src, size_t stride, const pf_axis *axis, int row, int n, float *out)
{
    const int32_t *index = axis->index + (size_t)row * axis->taps;
    const float *weight = axis->weight + (size_t)row * axis->taps;
    for (int p = 0; p < axis->taps; p += PF_TAPS) {
        const float *from[PF_TAPS];
        for (int k = 0; k < PF_TAPS; k++) from[k] = src + (size_t)index[p + k] * stride;
        if (p == 0) pf_weighted_sum(from, weight, n, out, 1);
        else pf_weighted_sum(from, weight + p, n, out, 0);
    }
}

#endif
