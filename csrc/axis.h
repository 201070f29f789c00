/* How the samples along one axis of an image are made of others. */
#ifndef PF_AXIS_H
#define PF_AXIS_H

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

#endif
