"""Rigid shifts between images, by phase cross-correlation."""

from math import ceil

import numpy as np
import scipy.fft

from pyflow.flow.filters import resize

# Frequencies whose common energy is below this fraction of the strongest one's carry rounding and noise, not
# position.
_SPECTRAL_FLOOR = 1e-3

# OpenBLAS spreads complex products of more multiplications over threads of its own. They save nothing here, and on a
# busy machine the product waits a scheduler's time slice for them: 20 to 100 ms instead of 0.2.
_LARGEST_PRODUCT = 1 << 16


class RigidShift:
    """Finds how far images are shifted against a reference, whose spectrum is computed once; thread-safe.

    The peak of the phase correlation is found to a pixel by inverse FFT and refined on a grid of 1 /
    `upsample` pixel by a Fourier sum around it (Guizar-Sicairos et al., Opt. Lett. 33, 156, 2008).

    Parameters
    ----------
    reference
        Image (H, W) or (H, W, C).
    weight
        Weight of each channel, (C,) or (H, W, C); None: all alike.
    max_size
        Images with a longer side are reduced to this many pixels on it, or to (rows, columns); None: never.
    upsample
        Steps per pixel of the reduced image.

    Examples
    --------
    >>> u, v = RigidShift(reference, upsample=4)(moving)
    """

    def __init__(
        self,
        reference: np.ndarray,
        *,
        weight: np.ndarray | None = None,
        max_size: int | tuple[int, int] | None = None,
        upsample: int = 1,
    ) -> None:
        self._shape = reference.shape
        self._weight = weight
        self._upsample = upsample
        full = reference.shape[:2]
        largest = full if max_size is None else np.broadcast_to(max_size, 2).tolist()
        self._size = tuple(map(min, full, largest))
        self._window = np.outer(*(np.hanning(n + 2)[1:-1] for n in self._size)).astype(np.float32)
        self._spectrum = self._transform(reference).conj()

    def _transform(self, image: np.ndarray) -> np.ndarray:
        planes = image if image.ndim == 3 else image[..., None]
        plane = (planes if self._weight is None else planes * self._weight).sum(axis=2, dtype=np.float32)
        if plane.shape != self._size:
            plane = resize(plane, self._size, n_threads=1)
        return scipy.fft.fft2((plane - plane.mean()) * self._window)

    def __call__(self, moving: np.ndarray) -> tuple[float, float]:
        """Return the shift of an image.

        Parameters
        ----------
        moving
            Image of the reference's shape.

        Returns
        -------
        tuple of float
            (u, v) in pixels, backward: ``reference(y, x)`` looks like ``moving(y + v, x + u)``. (0, 0) where
            one of the images is constant.

        Raises
        ------
        ValueError
            The shapes differ.
        """
        if moving.shape != self._shape:
            raise ValueError(f"moving shape {moving.shape} does not match reference shape {self._shape}")
        cross = self._transform(moving) * self._spectrum
        magnitude = np.abs(cross)
        largest = magnitude.max()
        if not largest > 0:
            return 0.0, 0.0
        cross /= magnitude + _SPECTRAL_FLOOR * largest

        correlation = scipy.fft.ifft2(cross).real
        peak = np.unravel_index(correlation.argmax(), correlation.shape)
        offsets = np.arange(-self._upsample, self._upsample + 1) / self._upsample
        near = [p + offsets for p in peak]
        rows, cols = (
            np.exp(2j * np.pi * np.outer(p, scipy.fft.fftfreq(n))) for p, n in zip(near, self._size, strict=True)
        )
        fine = _product(_product(rows, cross), cols.T).real
        best = np.unravel_index(fine.argmax(), fine.shape)
        v, u = (
            float((p[b] + n / 2) % n - n / 2) * full / n
            for p, b, n, full in zip(near, best, self._size, self._shape[:2], strict=True)
        )
        return u, v


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Multiply matrices on this thread."""
    # of even size: for a single column left over, a vector, the limit is lower
    n_pieces = ceil(right.shape[1] / max(1, _LARGEST_PRODUCT // left.size))
    return np.concatenate([left @ piece for piece in np.array_split(right, n_pieces, axis=1)], axis=1)
