/* Motion tensor of one channel on one level: per pixel the symmetric 3x3 form J with
 *   residual(du, dv) = J11 du^2 + J22 dv^2 + 2 J12 du dv + 2 J13 du + 2 J23 dv + J33.
 */
#ifndef PF_TENSOR_H
#define PF_TENSOR_H

#include "core.h"

/* X(number, the name it has in Python). To add a constancy, add a line here and its rows to tensor.c. */
#define PF_CONSTANCIES(X) \
    X(PF_GC, "gc")        \
    X(PF_GRAY, "gray")    \
    X(PF_CENSUS, "census")

#define PF_CONSTANCY_NUMBER(number, name) number,
typedef enum { PF_CONSTANCIES(PF_CONSTANCY_NUMBER) PF_N_CONSTANCIES } pf_constancy;
#undef PF_CONSTANCY_NUMBER

static inline const char *pf_constancy_name(int constancy)
{
    switch (constancy) {
#define PF_CONSTANCY_NAME(number, name) case number: return name;
        PF_CONSTANCIES(PF_CONSTANCY_NAME)
#undef PF_CONSTANCY_NAME
    default: return "";
    }
}

enum { PF_J11, PF_J22, PF_J33, PF_J12, PF_J13, PF_J23, PF_TENSOR_PLANES };

typedef struct {
    /* f1 reference, f2 moving image already warped by the current flow, both (h, w).
     * rows, cols: cells of the grid that the tensor is averaged over; h, w: none.
     * h_row, h_col: grid spacing in full-size pixels.
     * zeta: a squared second derivative; where the image's are smaller, it is flat and says little about the motion.
     *       PF_GC adds it to the squared gradients that it divides by. PF_CENSUS takes the sign of the difference d of
     *       two neighbours as d / sqrt(d^2 + CELL^2 zeta): a cell's edge, CELL pixels wide, turns zeta into a slope.
     *       PF_GRAY does not use it.
     * out: J11, J22, J33, J12, J13, J23 in interleaved groups (split.h). */
    int (*motion_tensor)(const float *f1, const float *f2, int h, int w, int rows, int cols, float h_row, float h_col,
                         int constancy, float zeta, float *out, int n_threads);
} pf_tensor_kernels;

PF_SELECT(pf_tensor_kernels, pf_tensor)

#endif
