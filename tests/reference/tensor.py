"""Motion tensor, derivative by derivative, in float64."""

import numpy as np

CELL = 10  # pixels over which a second derivative becomes a slope
PLANES = ("J11", "J22", "J33", "J12", "J13", "J23")


def derivative(image, axis, spacing):
    """Central difference; the border's pixels are repeated outside."""
    padded = np.pad(image, 1, mode="edge")
    ahead, behind = (np.roll(padded, -step, axis)[1:-1, 1:-1] for step in (1, -1))
    return (ahead - behind) / (2 * spacing)


def second(image, axis, spacing):
    padded = np.pad(image, 1, mode="edge")
    ahead, behind = (np.roll(padded, -step, axis)[1:-1, 1:-1] for step in (1, -1))
    return (ahead - 2 * image + behind) / spacing**2


def motion_tensor(f1, f2, h_row, h_col, constancy, zeta=1e-6):
    """(6, H, W)."""
    f1, f2 = f1.astype(float), f2.astype(float)
    mean, change = (f1 + f2) / 2, f2 - f1
    fx, fy = derivative(mean, 1, h_col), derivative(mean, 0, h_row)
    if constancy == "gray":
        return outer(fx, fy, change)
    if constancy == "census":
        parts = [
            outer(derivative(a + b, 1, h_col) / 2, derivative(a + b, 0, h_row) / 2, b - a)
            for a, b in zip(census(f1, zeta), census(f2, zeta), strict=True)
        ]
        return np.sum(parts, axis=0)
    fxx, fyy, fxy = second(mean, 1, h_col), second(mean, 0, h_row), derivative(fx, 0, h_row)
    fxt, fyt = derivative(change, 1, h_col), derivative(change, 0, h_row)
    return outer(fxx, fxy, fxt) / (fxx**2 + fxy**2 + zeta) + outer(fxy, fyy, fyt) / (fxy**2 + fyy**2 + zeta)


def census(image, zeta):
    """(8, H, W): smoothed sign of the difference to each neighbour."""
    height, width = image.shape
    padded = np.pad(image, 1, mode="edge")
    steps = [(dy, dx) for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)]
    difference = np.stack([padded[dy : dy + height, dx : dx + width] - image for dy, dx in steps])
    return difference / np.sqrt(difference**2 + CELL**2 * zeta)


def outer(x, y, t):
    return np.stack([x * x, y * y, t * t, x * y, x * t, y * t])
