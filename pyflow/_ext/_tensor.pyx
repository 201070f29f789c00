from pyflow._ext._simd import LEVEL
from pyflow._ext._status import check


cdef extern from "split.h" nogil:
    int PF_PAD
    int pf_groups(int w)

cdef extern from "tensor.h" nogil:
    ctypedef struct pf_tensor_kernels:
        int (*motion_tensor)(const float *f1, const float *f2, int h, int w, int rows, int cols, float h_row,
                             float h_col, int constancy, float zeta, float *out, int n_threads) noexcept nogil
    int PLANES "PF_TENSOR_PLANES"
    int PF_N_CONSTANCIES
    const char *pf_constancy_name(int constancy)
    const pf_tensor_kernels *pf_tensor_select(int level)

cdef const pf_tensor_kernels *kernels = pf_tensor_select(LEVEL)

CONSTANCIES = {pf_constancy_name(number).decode("ascii"): number for number in range(PF_N_CONSTANCIES)}
LANES = PF_PAD


def layout_shape(int h, int w):
    """Shape of the tensor of a (h, w) level: row, colour, group, component, lane."""
    return h, 2, pf_groups(w), PLANES, PF_PAD


def motion_tensor(const float[:, ::1] f1, const float[:, ::1] f2, int rows, int cols, float h_row, float h_col,
                  int constancy, float zeta, float[:, :, :, :, ::1] out, int n_threads):
    cdef int h = f1.shape[0], w = f1.shape[1], status
    with nogil:
        status = kernels.motion_tensor(&f1[0, 0], &f2[0, 0], h, w, rows, cols, h_row, h_col, constancy, zeta,
                                       &out[0, 0, 0, 0, 0], n_threads)
    if status:
        check(status, "motion_tensor", shape=(h, w), grid=(rows, cols), h_row=h_row, h_col=h_col, constancy=constancy,
              zeta=zeta)
