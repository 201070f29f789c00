from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t

from pyflow._ext._simd import LEVEL
from pyflow._ext._status import check


cdef extern from "warp.h" nogil:
    ctypedef struct pf_axis:
        int size
        int taps
        const int32_t *index
        const float *weight
    ctypedef struct pf_field:
        const float *u
        const float *v
        const pf_axis *rows
    ctypedef struct pf_warp_kernels:
        int (*warp_image)(const float *src, const pf_field *field, const float *fill, int h, int w, float h_row,
                          float h_col, int interpolation, int type, void *out, uint8_t *valid, float *lengths,
                          int n_threads) noexcept nogil
        int (*warp_mask)(const uint8_t *src, const float *u, const float *v, int h, int w, uint8_t *out,
                         int n_threads) noexcept nogil
        int (*valid_mask)(const float *u, const float *v, int h, int w, uint8_t *out, int n_threads) noexcept nogil
    const pf_warp_kernels *pf_warp_select(int level)
    int PF_FLOAT32, PF_UINT8, PF_INT16, PF_UINT16
    int PF_SUM, PF_LARGEST, PF_SUM_U, PF_SUM_V, PF_STRETCH, PF_LENGTHS

ctypedef fused pixel:
    float
    uint8_t
    int16_t
    uint16_t

cdef const pf_warp_kernels *kernels = pf_warp_select(LEVEL)

INTERPOLATIONS = {"nearest": 0, "linear": 1, "cubic": 2}
INTEGERS = ("uint8", "int16", "uint16")
SUM, LARGEST, SUM_U, SUM_V, STRETCH, LENGTHS = PF_SUM, PF_LARGEST, PF_SUM_U, PF_SUM_V, PF_STRETCH, PF_LENGTHS


def warp_image(const float[:, ::1] src, const float[:, ::1] u, const float[:, ::1] v, rows, const float[:, ::1] fill,
               float h_row, float h_col, int interpolation, pixel[:, ::1] out, uint8_t[:, ::1] valid,
               float[:, ::1] lengths, int n_threads):
    """rows: None, or index and weight of the rows of u and v that each row's displacement is made of."""
    cdef int h = src.shape[0], w = src.shape[1], status, type
    cdef pf_field field
    cdef pf_axis axis
    cdef const int32_t[:, ::1] index
    cdef const float[:, ::1] weight
    field.u, field.v, field.rows = &u[0, 0], &v[0, 0], NULL
    if rows is not None:
        index, weight = rows
        axis.size, axis.taps, axis.index, axis.weight = index.shape[0], index.shape[1], &index[0, 0], &weight[0, 0]
        field.rows = &axis
    if pixel is float:
        type = PF_FLOAT32
    elif pixel is uint8_t:
        type = PF_UINT8
    elif pixel is int16_t:
        type = PF_INT16
    else:
        type = PF_UINT16
    cdef const float *outside = NULL if fill is None else &fill[0, 0]
    cdef uint8_t *flags = NULL if valid is None else &valid[0, 0]
    cdef float *sums = NULL if lengths is None else &lengths[0, 0]
    with nogil:
        status = kernels.warp_image(&src[0, 0], &field, outside, h, w, h_row, h_col, interpolation, type, &out[0, 0],
                                    flags, sums, n_threads)
    if status:
        check(status, "warp_image", shape=(h, w), h_row=h_row, h_col=h_col, interpolation=interpolation)


def warp_mask(const uint8_t[:, ::1] src, const float[:, ::1] u, const float[:, ::1] v, uint8_t[:, ::1] out,
              int n_threads):
    cdef int h = src.shape[0], w = src.shape[1], status
    with nogil:
        status = kernels.warp_mask(&src[0, 0], &u[0, 0], &v[0, 0], h, w, &out[0, 0], n_threads)
    if status:
        check(status, "warp_mask", shape=(h, w))


def valid_mask(const float[:, ::1] u, const float[:, ::1] v, uint8_t[:, ::1] out, int n_threads):
    cdef int h = u.shape[0], w = u.shape[1], status
    with nogil:
        status = kernels.valid_mask(&u[0, 0], &v[0, 0], h, w, &out[0, 0], n_threads)
    if status:
        check(status, "valid_mask", shape=(h, w))
