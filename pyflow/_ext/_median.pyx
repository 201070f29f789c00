from pyflow._ext._simd import LEVEL
from pyflow._ext._status import check


cdef extern from "median.h" nogil:
    ctypedef struct pf_median_kernels:
        int (*median5x5)(const float *src, int h, int w, int add, float *out, int n_threads) noexcept nogil
    const pf_median_kernels *pf_median_select(int level)

cdef const pf_median_kernels *kernels = pf_median_select(LEVEL)


def median5x5(const float[:, ::1] src, float[:, ::1] out, int n_threads):
    run(src, 0, out, n_threads)


def add_median5x5(const float[:, :, ::1] src, float[:, :, ::1] out, int n_threads):
    """Add the filtered planes of src to those of out."""
    cdef Py_ssize_t plane
    for plane in range(src.shape[0]):
        run(src[plane], 1, out[plane], n_threads)


cdef run(const float[:, ::1] src, int add, float[:, ::1] out, int n_threads):
    cdef int h = src.shape[0], w = src.shape[1], status
    with nogil:
        status = kernels.median5x5(&src[0, 0], h, w, add, &out[0, 0], n_threads)
    if status:
        check(status, "median5x5", shape=(h, w))
