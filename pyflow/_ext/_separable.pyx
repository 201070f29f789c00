from libc.stdint cimport int32_t

from pyflow._ext._simd import LEVEL
from pyflow._ext._status import check


cdef extern from "separable.h" nogil:
    int PF_TAPS
    ctypedef struct pf_axis:
        int size
        int taps
        const int32_t *index
        const float *weight
    ctypedef struct pf_separable_kernels:
        int (*map_separable)(const float *src, int h, int w, const pf_axis *y, const pf_axis *x, float *out,
                             int n_threads) noexcept nogil
        int (*enlarge_separable)(const float *src, int h, int w, const pf_axis *y, const pf_axis *x, float *out,
                                 int n_threads) noexcept nogil
        int (*widen)(const float *src, int h, int w, const pf_axis *x, float *out, int n_threads) noexcept nogil
    const pf_separable_kernels *pf_separable_select(int level)

TAPS = PF_TAPS

cdef const pf_separable_kernels *kernels = pf_separable_select(LEVEL)


def map_separable(const float[:, :, ::1] src, const int32_t[:, ::1] index_y, const float[:, ::1] weight_y,
                  const int32_t[:, ::1] index_x, const float[:, ::1] weight_x, float[:, :, ::1] out, int n_threads,
                  bint columns_first=False):
    """src (planes, rows, cols) into out, plane by plane."""
    cdef pf_axis y, x
    cdef int h = src.shape[1], w = src.shape[2], status = 0
    cdef Py_ssize_t plane
    y.size, y.taps, y.index, y.weight = index_y.shape[0], index_y.shape[1], &index_y[0, 0], &weight_y[0, 0]
    x.size, x.taps, x.index, x.weight = index_x.shape[0], index_x.shape[1], &index_x[0, 0], &weight_x[0, 0]
    with nogil:
        for plane in range(src.shape[0]):
            if status == 0:
                status = (kernels.enlarge_separable if columns_first else kernels.map_separable)(
                    &src[plane, 0, 0], h, w, &y, &x, &out[plane, 0, 0], n_threads)
    if status:
        check(status, "map_separable", shape=(h, w))


def widen(const float[:, :, ::1] src, const int32_t[:, ::1] index, const float[:, ::1] weight, float[:, :, ::1] out,
          int n_threads):
    """src (planes, rows, cols) into out, plane by plane."""
    cdef pf_axis x
    cdef int h = src.shape[1], w = src.shape[2], status = 0
    cdef Py_ssize_t plane
    x.size, x.taps, x.index, x.weight = index.shape[0], index.shape[1], &index[0, 0], &weight[0, 0]
    with nogil:
        for plane in range(src.shape[0]):
            if status == 0:
                status = kernels.widen(&src[plane, 0, 0], h, w, &x, &out[plane, 0, 0], n_threads)
    if status:
        check(status, "widen", shape=(h, w))
