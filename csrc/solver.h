/* Level solver: the increment (du, dv) that minimises, on one level,
 *   sum_c omega_c Psi_data(residual_c(du, dv)) + alpha Psi_smooth(|grad(u + du)|^2 + |grad(v + dv)|^2)
 * by red-black SOR with lagged nonlinearity.
 */
#ifndef PF_SOLVER_H
#define PF_SOLVER_H

#include "core.h"

typedef struct {
    int h, w;
    int n_channels;
    float h_row, h_col;     /* grid spacing in full-size pixels */
    float alpha_x, alpha_y; /* smoothness weight of edges along x and y */
    float a_smooth;         /* exponent of Psi_smooth; 1 is quadratic */
    const float *a_data;    /* (n_channels,) exponent of Psi_data */
    const float *weight;    /* (n_channels,) omega_c */
    const float *weight_map; /* (n_channels, h, w) factor on omega_c, or NULL */
    int iterations;         /* full sweeps: both colours */
    int update_lag;         /* sweeps between two updates of psi */
} pf_solver_params;

typedef struct {
    /* Floats of scratch that solve needs on that many threads. */
    size_t (*scratch_size)(const pf_solver_params *p, int n_threads);
    /* tensor: (n_channels) tensors in split layout, as motion_tensor writes them.
     * u, v: (h, w) current displacement in full-size pixels; du, dv: (h, w) output increments.
     * tensor and scratch (scratch_size floats) may hold any finite values where nobody wrote: allocate them as zeros
     * once and use them for every level and frame. */
    int (*solve)(const pf_solver_params *p, const float *tensor, const float *u, const float *v, float *du, float *dv,
                 float *scratch, int n_threads);
} pf_solver_kernels;

PF_SELECT(pf_solver_kernels, pf_solver)

#endif
