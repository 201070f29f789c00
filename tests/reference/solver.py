"""Level solver: red-black SOR with lagged nonlinearity, pixel colours as boolean masks, in float64."""

import numpy as np

OMEGA, EPSILON = 1.95, 1e-5


def psi(s, a):
    return a * (np.maximum(s, 0) + EPSILON) ** (a - 1)


def solve(tensor, u, v, *, spacing, alpha, a_smooth, a_data, weight, weight_map=None, iterations, update_lag):
    """Increment (du, dv) for tensors (C, 6, H, W); spacing (row, column), alpha (x, y)."""
    du, dv = np.zeros(u.shape), np.zeros(u.shape)
    colours = np.indices(u.shape).sum(axis=0) % 2
    k_x, k_y = alpha[0] / spacing[1] ** 2, alpha[1] / spacing[0] ** 2
    for iteration in range(iterations):
        if iteration % update_lag == 0:
            d = [omega * psi(residual(j, du, dv), a) for j, omega, a in zip(tensor, weight, a_data, strict=True)]
            if weight_map is not None:
                d = [one * factor for one, factor in zip(d, weight_map, strict=True)]
            j11, j22, _, j12, j13, j23 = sum(one * j for one, j in zip(d, tensor, strict=True))
            smooth = np.ones(u.shape)
            if a_smooth != 1:
                smooth = psi(sum(g**2 for f in (u + du, v + dv) for g in gradient(f, spacing)), a_smooth)
            east, south = k_x * mean_of_neighbours(smooth, 1), k_y * mean_of_neighbours(smooth, 0)
        for colour in (0, 1):
            here = colours == colour
            pull, edges = neighbours(u + du, east, south)
            du = np.where(here, step(du, pull - edges * u - j13 - j12 * dv, edges + j11), du)
            pull, edges = neighbours(v + dv, east, south)
            dv = np.where(here, step(dv, pull - edges * v - j23 - j12 * du, edges + j22), dv)
    return du, dv


def step(old, numerator, denominator):
    return (1 - OMEGA) * old + OMEGA * numerator / denominator


def residual(j, du, dv):
    j11, j22, j33, j12, j13, j23 = j
    return j11 * du**2 + j22 * dv**2 + 2 * (j12 * du * dv + j13 * du + j23 * dv) + j33


def gradient(field, spacing):
    padded = np.pad(field, 1, mode="edge")
    yield (padded[2:, 1:-1] - padded[:-2, 1:-1]) / (2 * spacing[0])
    yield (padded[1:-1, 2:] - padded[1:-1, :-2]) / (2 * spacing[1])


def mean_of_neighbours(smooth, axis):
    """Weight of the edge from each pixel to the next; none leaves the image."""
    mean = (smooth + np.roll(smooth, -1, axis)) / 2
    np.moveaxis(mean, axis, 0)[-1] = 0
    return mean


def neighbours(field, east, south):
    """Sum of the neighbours times their edges, and of the edges."""
    pull, edges = np.zeros(field.shape), np.zeros(field.shape)
    for axis, weight in ((1, east), (0, south)):
        behind = np.roll(weight, 1, axis)
        pull += weight * np.roll(field, -1, axis) + behind * np.roll(field, 1, axis)
        edges += weight + behind
    return pull, edges
