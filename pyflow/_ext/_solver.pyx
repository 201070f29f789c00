from pyflow._ext._simd import LEVEL
from pyflow._ext._status import check


cdef extern from "solver.h" nogil:
    ctypedef struct pf_solver_params:
        int h, w
        int n_channels
        float h_row, h_col
        float alpha_x, alpha_y
        float a_smooth
        const float *a_data
        const float *weight
        const float *weight_map
        int iterations
        int update_lag
    ctypedef struct pf_solver_kernels:
        size_t (*scratch_size)(const pf_solver_params *p, int n_threads) noexcept nogil
        int (*solve)(const pf_solver_params *p, const float *tensor, const float *u, const float *v, float *du,
                     float *dv, float *scratch, int n_threads) noexcept nogil
    const pf_solver_kernels *pf_solver_select(int level)

cdef const pf_solver_kernels *kernels = pf_solver_select(LEVEL)


cdef class LevelParams:
    """Parameters of one level, bound once and used for every frame."""
    cdef pf_solver_params c
    cdef const float[::1] a_data, weight
    cdef const float[:, :, ::1] weight_map

    def __init__(self, shape, spacing, alpha, float a_smooth, const float[::1] a_data, const float[::1] weight,
                 const float[:, :, ::1] weight_map, int iterations, int update_lag):
        self.a_data, self.weight, self.weight_map = a_data, weight, weight_map
        self.c.h, self.c.w = shape
        self.c.h_row, self.c.h_col = spacing
        self.c.alpha_x, self.c.alpha_y = alpha
        self.c.a_smooth = a_smooth
        self.c.n_channels = <int>weight.shape[0]
        self.c.a_data = &a_data[0]
        self.c.weight = &weight[0]
        self.c.weight_map = NULL if weight_map is None else &weight_map[0, 0, 0]
        self.c.iterations, self.c.update_lag = iterations, update_lag

    def scratch_size(self, int n_threads):
        return kernels.scratch_size(&self.c, n_threads)


def solve(LevelParams params, const float[:, :, :, :, :, ::1] tensor, const float[:, ::1] u, const float[:, ::1] v,
          float[:, ::1] du, float[:, ::1] dv, float[::1] scratch, int n_threads):
    cdef int status
    with nogil:
        status = kernels.solve(&params.c, &tensor[0, 0, 0, 0, 0, 0], &u[0, 0], &v[0, 0], &du[0, 0], &dv[0, 0],
                               &scratch[0], n_threads)
    if status:
        check(status, "solve", shape=(params.c.h, params.c.w), alpha=(params.c.alpha_x, params.c.alpha_y),
              iterations=params.c.iterations, update_lag=params.c.update_lag)
