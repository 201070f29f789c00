/* 5x5 median filter, border mirrored with the edge pixel repeated. */
#ifndef PF_MEDIAN_H
#define PF_MEDIAN_H

#include "core.h"

typedef struct {
    /* src and out (h, w), float32, row-major; must not overlap. NaN-free input. add: added to out. */
    int (*median5x5)(const float *src, int h, int w, int add, float *out, int n_threads);
} pf_median_kernels;

PF_SELECT(pf_median_kernels, pf_median)

#endif
