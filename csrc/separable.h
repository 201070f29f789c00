/* Separable linear map of an image: resizing (antialiased or not) and Gaussian smoothing are both of this form.
 *
 * out(y, x) = sum_p sum_q wy(y, p) wx(x, q) src(iy(y, p), ix(x, q))
 */
#ifndef PF_SEPARABLE_H
#define PF_SEPARABLE_H

#include "axis.h"

typedef struct {
    /* src (h, w) and out (y->size, x->size), float32, row-major; must not overlap. */
    int (*map_separable)(const float *src, int h, int w, const pf_axis *y, const pf_axis *x, float *out, int n_threads);
    /* The same with the sums along columns first: faster where there are many more rows afterwards; rounded otherwise. */
    int (*enlarge_separable)(const float *src, int h, int w, const pf_axis *y, const pf_axis *x, float *out,
                             int n_threads);
    /* The sums along columns alone: out (h, x->size). */
    int (*widen)(const float *src, int h, int w, const pf_axis *x, float *out, int n_threads);
} pf_separable_kernels;

PF_SELECT(pf_separable_kernels, pf_separable)

#endif
