"""Resizing, Gaussian and median, as sums over pixels."""

import numpy as np


def mirrored(i, n):
    i %= 2 * n
    return i if i < n else 2 * n - 1 - i


def keys(x):
    x = abs(x)
    if x <= 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x <= 2 else 0.0


def resize_matrix(n, m, antialias=True):
    """(m, n): what each output is made of."""
    scale = m / n
    stretch = min(scale, 1.0) if antialias else 1.0
    matrix = np.zeros((m, n))
    for k in range(m):
        centre = (k + 0.5) / scale - 0.5
        for i in range(int(centre - 2 / stretch) - 2, int(centre + 2 / stretch) + 3):
            matrix[k, mirrored(i, n)] += keys((centre - i) * stretch)
        matrix[k] /= matrix[k].sum()
    return matrix


def resize(image, shape, antialias=True):
    rows, columns = (resize_matrix(n, m, antialias) for n, m in zip(image.shape, shape, strict=True))
    return rows @ image.astype(float) @ columns.T


def gaussian_matrix(n, sigma):
    radius = int(4 * sigma + 0.5)
    matrix = np.zeros((n, n))
    for k in range(n):
        for d in range(-radius, radius + 1):
            matrix[k, mirrored(k + d, n)] += np.exp(-0.5 * (d / sigma) ** 2) if d else 1.0
        matrix[k] /= matrix[k].sum()
    return matrix


def gaussian(image, sigma_y, sigma_x):
    return gaussian_matrix(image.shape[0], sigma_y) @ image.astype(float) @ gaussian_matrix(image.shape[1], sigma_x).T


def median5x5(image):
    padded = np.pad(image, 2, mode="symmetric") if min(image.shape) >= 2 else _pad_short(image)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    return np.median(windows, axis=(2, 3))


def _pad_short(image):
    rows, columns = ([mirrored(i, n) for i in range(-2, n + 2)] for n in image.shape)
    return image[np.ix_(rows, columns)]
