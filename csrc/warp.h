/* Backward warp: out(y, x) = src(y + v(y, x) / h_row, x + u(y, x) / h_col).
 *
 * u, v are displacements in pixels of the full-size image, h_row and h_col the spacing of this grid in the same
 * pixels (1 for a full-size image). A pixel is inside where its source lies in [0, h-1] x [0, w-1], closed.
 * Arrays are (h, w), row-major.
 */
#ifndef PF_WARP_H
#define PF_WARP_H

#include "axis.h"

typedef enum { PF_NEAREST = 0, PF_LINEAR = 1, PF_CUBIC = 2 } pf_interpolation;

/* Type of a warped image's pixels; integers are rounded and clipped to their range. */
typedef enum { PF_FLOAT32 = 0, PF_UINT8 = 1, PF_INT16 = 2, PF_UINT16 = 3 } pf_pixel;

/* A displacement: u, v (h, w); or (any, w), and how each of h rows is made of theirs. */
typedef struct {
    const float *u, *v;
    const pf_axis *rows; /* NULL: there are h */
} pf_field;

/* What is said of each row's displacements, in full-size pixels: sum and largest of sqrt(u^2 + v^2), sums of u and of v,
 * last u less first u. */
enum { PF_SUM, PF_LARGEST, PF_SUM_U, PF_SUM_V, PF_STRETCH, PF_LENGTHS };

typedef struct {
    /* out = warped src; outside it takes fill(y, x), or 0 where fill is NULL. src and out must not overlap.
     * valid (h, w): 1 where the source lies inside, else 0; lengths (h, PF_LENGTHS); each may be NULL. */
    int (*warp_image)(const float *src, const pf_field *field, const float *fill, int h, int w, float h_row, float h_col,
                      int interpolation, int type, void *out, uint8_t *valid, float *lengths, int n_threads);
    /* out = nearest neighbour of src (0 or not 0) as 0 or 1; 0 outside. */
    int (*warp_mask)(const uint8_t *src, const float *u, const float *v, int h, int w, uint8_t *out, int n_threads);
    /* out = 1 where the source lies inside, else 0. */
    int (*valid_mask)(const float *u, const float *v, int h, int w, uint8_t *out, int n_threads);
} pf_warp_kernels;

PF_SELECT(pf_warp_kernels, pf_warp)

#endif
