"""The tensor's layout, interleaved groups of a checkerboard, to and from planes (P, H, W)."""

import numpy as np

from pyflow._ext import _tensor


def columns(y, colour):
    return slice((y + colour) % 2, None, 2)


def split(planes):
    _, height, width = planes.shape
    out = np.zeros(_tensor.layout_shape(height, width), np.float32)
    for y, colour in np.ndindex(height, 2):
        values = planes[:, y, columns(y, colour)]
        for i in range(values.shape[1]):
            out[y, colour, i // _tensor.LANES, :, i % _tensor.LANES] = values[:, i]
    return out


def merge(layout, width):
    out = np.zeros((layout.shape[3], len(layout), width), np.float32)
    for y, colour in np.ndindex(*layout.shape[:2]):
        target = out[:, y, columns(y, colour)]
        lanes = np.moveaxis(layout[y, colour], 1, 0).reshape(len(target), -1)
        target[:] = lanes[:, : target.shape[1]]
    return out
