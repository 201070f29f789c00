/* Weighted sums of lines: what a separable map is made of, and a displacement between the rows of a coarser one. */
#ifndef PF_LINES_H
#define PF_LINES_H

#include "axis.h"

/* out = sum of weighted lines in groups of PF_TAPS, one group after the other; `last` of them in the last one. Constant
 * numbers leave one pass with everything in registers. */
PF_INLINE void pf_weighted_sum(const float *const *from, const float *PF_RESTRICT weight, const int groups, const int last,
                               int n, float *PF_RESTRICT out)
{
    PF_SIMD
    for (int i = 0; i < n; i++) {
        float sum = 0.0f;
        for (int g = 0; g < groups; g++) {
            const float *const *f = from + g * PF_TAPS;
            const float *k = weight + g * PF_TAPS;
            const float group = g == groups - 1 && last == 1
                ? k[0] * f[0][i]
                : (k[0] * f[0][i] + k[1] * f[1][i]) + (k[2] * f[2][i] + k[3] * f[3][i]);
            sum = g == 0 ? group : sum + group;
        }
        out[i] = sum;
    }
}

#define PF_MOST_GROUPS 5 /* of taps that are summed in one pass */

/* One output line from lines `stride` apart. */
PF_INLINE void pf_combine(const float *src, size_t stride, const pf_axis *axis, int row, int n, float *PF_RESTRICT out)
{
    const int32_t *index = axis->index + (size_t)row * axis->taps;
    const float *weight = axis->weight + (size_t)row * axis->taps;
    const float *from[PF_MOST_GROUPS * PF_TAPS];
    const int groups = axis->taps / PF_TAPS;
    for (int p = 0; p < axis->taps && p < PF_MOST_GROUPS * PF_TAPS; p++) from[p] = src + (size_t)index[p] * stride;
    switch (groups) {
    case 1: pf_weighted_sum(from, weight, 1, PF_TAPS, n, out); return;
    case 2: pf_weighted_sum(from, weight, 2, PF_TAPS, n, out); return;
    case 3: /* a Gaussian of one pixel has nine taps */
        if (weight[9] == 0.0f && weight[10] == 0.0f && weight[11] == 0.0f) pf_weighted_sum(from, weight, 3, 1, n, out);
        else pf_weighted_sum(from, weight, 3, PF_TAPS, n, out);
        return;
    case 4: pf_weighted_sum(from, weight, 4, PF_TAPS, n, out); return;
    case 5: pf_weighted_sum(from, weight, 5, PF_TAPS, n, out); return;
    default: break;
    }
    pf_weighted_sum(from, weight, PF_MOST_GROUPS, PF_TAPS, n, out);
    for (int p = PF_MOST_GROUPS * PF_TAPS; p < axis->taps; p += PF_TAPS) {
        const float *PF_RESTRICT a = src + (size_t)index[p] * stride, *PF_RESTRICT b = src + (size_t)index[p + 1] * stride;
        const float *PF_RESTRICT c = src + (size_t)index[p + 2] * stride, *PF_RESTRICT d = src + (size_t)index[p + 3] * stride;
        const float wa = weight[p], wb = weight[p + 1], wc = weight[p + 2], wd = weight[p + 3];
        PF_SIMD
        for (int i = 0; i < n; i++) out[i] += (wa * a[i] + wb * b[i]) + (wc * c[i] + wd * d[i]);
    }
}

#endif
