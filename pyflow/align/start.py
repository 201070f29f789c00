"""Where an alignment starts: a shift, a similarity or an affine map between two images, by evidence.

1. Both images are reduced to their structure, so that neither light nor single bright cells decide.
2. On small copies, the correlation with the reference is computed for all shifts at once by FFT, of the image as it is.
3. The best shifts are refined by the steps that raise the correlation most (Evangelidis and Psarakis, IEEE TPAMI 30,
   1858, 2008), on copies of growing size: first as shifts, then as similarities, then as affine maps. A map with more
   freedom is taken only if it explains clearly more.
4. Where no map explains much, steps 2 and 3 are repeated for a grid of rotations and scales, and then for a grid of
   rotations and two scales.

How much a map explains is the correlation of the structures where they overlap, times the square root of the overlap:
that falls with the chance to find as much between images that have nothing in common.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import scipy.fft
from scipy import ndimage

from pyflow.align.structure import one_channel, shrink, structure

LEAST_OVERLAP = 0.2
"""Part of the image that has to overlap."""

_SEARCH_SIZE = 96
_REFINE_SIZES = (96, 192)
_FINE, _COARSE = 0.7, 5.0  # of the structure on the copies for the search, in their pixels
_ANGLES = np.deg2rad(np.arange(-10, 10.1, 2.5))
_SCALES = np.exp(0.075 * np.arange(-4, 5))  # 0.74 to 1.35; in between, refining finds the way
_BEST = 4  # candidates of each kind that are refined
_CLEARLY_MORE = 0.02
_CLEAR = 0.5  # nothing between unrelated images comes near
_STEPS = 15
_STILL = 0.02  # pixels of a copy

# Which directions of (m00, m01, m10, m11, x, y) a map of each kind may move along.
_FREEDOM = {
    "shift": np.array([[0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]], float),
    "similarity": np.array([[0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1], [1, 0, 0, 1, 0, 0], [0, -1, 1, 0, 0, 0]], float),
    "affine": np.eye(6),
}


@dataclass(frozen=True)
class Map:
    """An affine map, backward: the reference at p shows the moving image at ``c + matrix @ (p - c) + offset``.

    Parameters
    ----------
    matrix
        (2, 2), coordinates in the order (x, y), c the image's centre.
    offset
        (2,), pixels.
    kind
        ``"shift"``, ``"similarity"`` or ``"affine"``.
    explains
        Correlation times the square root of the overlap.
    """

    matrix: np.ndarray
    offset: np.ndarray
    kind: str = "shift"
    explains: float = 0.0

    def field(self, shape: tuple[int, int]) -> np.ndarray:
        """Return it as a displacement field (H, W, 2), float32, pixels, backward."""
        x, y = _coordinates(shape)
        at = np.stack([x, y], axis=-1) @ (self.matrix - np.eye(2)).T + self.offset
        return at.astype(np.float32)

    def seen_from(self, shape: tuple[int, int], box: tuple[slice, slice], *, inside: bool) -> "Map":
        """Return a map of an image (H, W) as one of what is in a box; where it is `inside`, the other way round."""
        starts, stops = zip(*(side.indices(size)[:2] for side, size in zip(box, shape, strict=True)), strict=True)
        moved = (np.add(starts, stops) - np.array(shape))[::-1] / 2  # the box's centre from the image's, as (x, y)
        offset = (np.eye(2) - self.matrix) @ (moved if inside else -moved)
        return Map(self.matrix, self.offset + offset, self.kind, self.explains)

    def inverse(self) -> "Map":
        """Return the map of the moving image onto the reference."""
        matrix = np.linalg.inv(self.matrix)
        return Map(matrix, -matrix @ self.offset, self.kind, self.explains)


def find_start(reference: np.ndarray, moving: np.ndarray) -> Map:
    """Find the map between two images that the evidence supports.

    Parameters
    ----------
    reference, moving
        (H, W) or (H, W, C), float, with structure.

    Returns
    -------
    Map
        The identity where nothing fits.
    """
    images = one_channel(reference), one_channel(moving)
    copies = _copies(images)
    search = _Search(copies[0])
    shifts = [_refined(copies, shift) for shift in search(np.eye(2))]
    best = max(shifts, key=lambda found: found.explains, default=Map(np.eye(2), np.zeros(2)))
    for kind in ("similarity", "affine"):
        best = _more_free(copies, kind, best, [])
    for kind in ("similarity", "affine"):
        if best.explains >= _CLEAR:
            break
        found = [shift for matrix in _grid(kind) for shift in search(matrix)]
        found.sort(key=lambda candidate: -candidate.explains)
        best = _more_free(copies, kind, best, found[:_BEST])
    return best


def shift_likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Return how much the best shift between two images (H, W) or (H, W, C) explains, 0 to 1."""
    search = _Search(_Copy((one_channel(a), one_channel(b)), _SEARCH_SIZE))
    return max((shift.explains for shift in search(np.eye(2))), default=0.0)


def _grid(kind: str) -> list[np.ndarray]:
    scales = [(s, s) for s in _SCALES] if kind == "similarity" else list(product(_SCALES, _SCALES))
    turns = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in _ANGLES]
    return [turn @ np.diag(scale) for turn in turns for scale in scales]


def _more_free(copies: "list[_Copy]", kind: str, best: Map, candidates: list[Map]) -> Map:
    """Return the best map of a kind that is refined from candidates or the best so far, if it is clearly better."""
    free = [_refined(copies, Map(start.matrix, start.offset, kind)) for start in (best, *candidates)]
    winner = max(free, key=lambda found: found.explains)
    return winner if winner.explains > best.explains + _CLEARLY_MORE else best


class _Copy:
    """Structures of both images at one size; `scale` is the size of its pixels along x and y."""

    def __init__(self, images: tuple[np.ndarray, np.ndarray], size: int) -> None:
        small = [shrink(image, size) for image in images]
        self.shape = small[0].shape
        self.scale = np.array(images[0].shape[::-1]) / np.array(self.shape[::-1])
        coarse = _COARSE * max(1.0, max(self.shape) / _SEARCH_SIZE)
        self.structures = [structure(image, _FINE, coarse) for image in small]
        self.inside = np.zeros(self.shape, np.float32)
        edge = max(1, min(self.shape) // 48)  # detectors and registration leave frames around images
        self.inside[edge:-edge, edge:-edge] = 1

    def shows(self, matrix: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Warp the moving structure and tell which of its pixels come from inside."""
        inside = _warp(self.inside, matrix, offset) > 0.99
        return _warp(self.structures[1] * self.inside, matrix, offset), inside


def _copies(images: tuple[np.ndarray, np.ndarray]) -> list[_Copy]:
    largest = max(images[0].shape)
    return [_Copy(images, size) for size in _REFINE_SIZES if size == _REFINE_SIZES[0] or size < 1.5 * largest]


class _Search:
    """Correlates a reference with images for all shifts at once."""

    def __init__(self, copy: _Copy) -> None:
        self._copy = copy
        self._size = tuple(scipy.fft.next_fast_len(int(1.6 * side)) for side in copy.shape)
        self._spectrum = self._transform(copy.structures[0] * copy.inside, copy.inside).conj()

    def _transform(self, image: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return scipy.fft.rfft2(np.stack([image, inside]), self._size)

    def __call__(self, matrix: np.ndarray) -> list[Map]:
        """Return the shift that fits best where the moving image is mapped by a matrix as well; one, or none."""
        copy = self._copy
        image, inside = copy.shows(matrix, np.zeros(2))
        spectrum = self._transform(image * inside, inside.astype(np.float32)) * self._spectrum
        product_, overlap = scipy.fft.irfft2(spectrum, self._size)
        whole = copy.inside.sum()
        score = np.where(overlap > LEAST_OVERLAP * whole, product_ / np.sqrt(np.maximum(overlap, 1) * whole), -1)
        peak = np.unravel_index(score.argmax(), score.shape)
        y, x = ((p + n // 2) % n - n // 2 for p, n in zip(peak, self._size, strict=True))
        if score[peak] <= 0:
            return []
        # the mapped image was shifted, not the map's argument
        return [Map(matrix, matrix @ np.array([x, y]) * copy.scale, "shift", float(score[peak]))]


def _refined(copies: list[_Copy], start: Map) -> Map:
    """Climb to the best map near a start, from copy to copy."""
    found = start
    for copy in copies:
        matrix = found.matrix * (copy.scale[np.newaxis, :] / copy.scale[:, np.newaxis])
        matrix, offset, explains = _climb(copy, matrix, found.offset / copy.scale, _FREEDOM[start.kind])
        matrix = matrix * (copy.scale[:, np.newaxis] / copy.scale[np.newaxis, :])
        found = Map(matrix, offset * copy.scale, start.kind, explains)
    return found


def _climb(
    copy: _Copy, matrix: np.ndarray, offset: np.ndarray, freedom: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    x, y = _coordinates(copy.shape)
    reference = copy.structures[0]
    along_y, along_x = np.gradient(copy.structures[1])
    best = matrix, offset, -1.0
    for _ in range(_STEPS):
        image, inside = copy.shows(matrix, offset)
        inside &= copy.inside > 0
        overlap = np.count_nonzero(inside) / np.count_nonzero(copy.inside)
        if overlap < LEAST_OVERLAP:
            break
        a, b = (values[inside] - values[inside].mean() for values in (reference, image))
        norm = float(np.sqrt((a @ a) * (b @ b)))
        if norm == 0:
            break
        explains = float(a @ b) / norm * overlap**0.5
        if explains > best[2] + 1e-6:
            best = matrix, offset, explains
        dx, dy = (_warp(slope, matrix, offset)[inside] for slope in (along_x, along_y))
        xs, ys = x[inside], y[inside]
        slopes = (freedom @ np.stack([dx * xs, dx * ys, dy * xs, dy * ys, dx, dy])).T
        slopes -= slopes.mean(axis=0)
        normal = slopes.T @ slopes
        normal += 1e-6 * np.diag(np.diag(normal)) + 1e-12 * np.eye(len(normal))
        of_image, of_reference = slopes.T @ b, slopes.T @ a
        solved = np.linalg.solve(normal, of_image)
        left, common = b @ b - of_image @ solved, a @ b - of_reference @ solved
        gain = left / common if common > 0 else (b @ b / (a @ a)) ** 0.5
        step = np.linalg.solve(normal, gain * of_reference - of_image) @ freedom
        if not np.isfinite(step).all() or np.abs(step[:4]).max() > 0.5:
            break
        matrix, offset = matrix + step[:4].reshape(2, 2), offset + step[4:]
        if np.abs(step[:4]).max() * max(copy.shape) / 2 + np.abs(step[4:]).max() < _STILL:
            break
    return best


def _coordinates(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x and y of every pixel, from the image's centre."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return columns - (shape[1] - 1) / 2, rows - (shape[0] - 1) / 2


def _warp(image: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Look an image up at mapped pixels, linearly; 0 outside."""
    centre = (np.array(image.shape) - 1) / 2
    matrix = matrix[::-1, ::-1]
    return ndimage.affine_transform(
        image, matrix, centre - matrix @ centre + offset[::-1], order=1, cval=0.0, output=np.float32
    )
