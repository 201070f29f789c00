"""The solver's checkerboard layout, to and from planes (P, H, W)."""

import numpy as np

from pyflow._ext import _tensor


def columns(y, colour):
    return slice((y + colour) % 2, None, 2)


def split(planes):
    count, height, width = planes.shape
    out = np.zeros((height, 2, count, _tensor.split_stride(width)), np.float32)
    for y, colour in np.ndindex(height, 2):
        values = planes[:, y, columns(y, colour)]
        out[y, colour, :, _tensor.SPLIT_PAD : _tensor.SPLIT_PAD + values.shape[1]] = values
    return out


def merge(layout, width):
    out = np.zeros((layout.shape[2], len(layout), width), np.float32)
    for y, colour in np.ndindex(*layout.shape[:2]):
        target = out[:, y, columns(y, colour)]
        target[:] = layout[y, colour, :, _tensor.SPLIT_PAD : _tensor.SPLIT_PAD + target.shape[1]]
    return out
