"""How deep the focus lay in each frame of a registered recording, found in a stack of the same tissue.

Motion correction moves pixels within the plane. A shift along z shows other tissue, which nothing can mend; it can be
found, so that it is not taken for activity.

1. The planes of the stack are aligned with each other, from the plane that looks most like the recording's average
   outwards, and all of them with the average, by the flow of that one plane.
2. Each frame is correlated with each plane, over what is finer than about a cell.
3. The depth of a frame is the peak of a parabola through the best plane and its neighbours. As a single frame is noisy,
   the correlations are also averaged over neighbouring frames before the peak is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from pyflow.flow.displacement import get_displacement
from pyflow.flow.rigid import RigidShift
from pyflow.flow.warp import imregister, valid_mask
from pyflow.io import VideoReader
from pyflow.io.atomic import replacing

_FINE_PX, _COARSE_PX = 1.0, 8.0  # structure between these sizes tells planes apart; below is noise, above is light
_AVERAGE_FRAMES = 200
_PIECE = 32  # frames read at once
_ALPHA = 60.0  # between averages of different days, as smooth as between recordings
_LEAST_PIXELS = 1024


@dataclass(frozen=True)
class DepthEstimate:
    """What `estimate_depth` found.

    Attributes
    ----------
    depth : ndarray, shape (T,), float64
        Depth of each frame by itself, in planes of the stack counted from 0; NaN for a frame without structure.
    smoothed : ndarray, shape (T,), float64
        The same from correlations that are averaged over neighbouring frames.
    correlation : ndarray, shape (T, Z), float32
        Correlation of each frame with each plane, not averaged.
    center : float
        Depth of the recording's average, in planes.
    planes : ndarray, shape (Z, H, W), float32
        The stack, aligned with the recording.
    valid : ndarray, shape (H, W), bool
        Pixels that were compared.
    """

    depth: np.ndarray
    smoothed: np.ndarray
    correlation: np.ndarray
    center: float
    planes: np.ndarray
    valid: np.ndarray

    @property
    def at_border(self) -> np.ndarray:
        """(T,) bool: the best plane is the stack's first or last, so that the focus may lie beyond it."""
        last = len(self.planes) - 1
        return (self.smoothed <= 0) | (self.smoothed >= last)

    def save(self, path: str | Path) -> None:
        """Write everything but the planes as a NumPy archive.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        with replacing(Path(path)) as partial, open(partial, "wb") as file:
            np.savez(
                file,
                depth=self.depth,
                smoothed=self.smoothed,
                correlation=self.correlation,
                center=self.center,
                valid=self.valid,
            )


def estimate_depth(
    movie: np.ndarray | VideoReader,
    stack: np.ndarray,
    *,
    valid: np.ndarray | None = None,
    smoothing_frames: float = 15.0,
    progress: Callable[[int, int], None] | None = None,
) -> DepthEstimate:
    """Find the depth of each frame of a registered recording in a stack.

    Parameters
    ----------
    movie : ndarray or VideoReader, shape (T, H, W) or (T, H, W, C)
        Registered frames; of several channels the mean is used.
    stack : ndarray, shape (Z, H, W) or (Z, H, W, C)
        At least three planes of the same tissue at equal distances, seen with the recording's pixel size.
    valid : ndarray, shape (H, W), bool, optional
        Pixels of the recording that can be believed in every frame; None: all.
    smoothing_frames : float
        Standard deviation of the Gaussian that averages correlations over time, in frames; 0: none.
    progress : callable, optional
        Called as ``progress(done, total)`` with frames.

    Returns
    -------
    DepthEstimate

    Raises
    ------
    ValueError
        The stack has fewer than three planes or another frame size than the recording, something has a wrong number
        of axes, or the aligned stack overlaps with too few valid pixels.
    """
    if stack.ndim not in (3, 4) or len(stack) < 3:
        raise ValueError(f"stack has shape {stack.shape}, expected (Z, H, W) or (Z, H, W, C) with at least 3 planes")
    if len(movie.shape) not in (3, 4) or 0 in movie.shape:
        raise ValueError(f"movie has shape {movie.shape}, expected (T, H, W) or (T, H, W, C) with no empty axis")
    if stack.shape[1:3] != movie.shape[1:3]:
        raise ValueError(
            f"stack has planes of {stack.shape[1:3]} pixels, expected the recording's {movie.shape[1:3]}; "
            "scale the stack to the recording's pixel size and cut it to its field of view"
        )
    if smoothing_frames < 0:
        raise ValueError(f"smoothing_frames is {smoothing_frames}, expected 0 or more")
    inside = np.ones(movie.shape[1:3], bool) if valid is None else np.asarray(valid, bool)
    if inside.shape != movie.shape[1:3]:
        raise ValueError(f"valid has shape {inside.shape}, expected {movie.shape[1:3]}")
    _check_pixels(inside)
    average = _average(movie)
    planes, inside = _aligned(_gray(stack), average, inside)
    _check_pixels(inside)
    templates = np.stack([_standardized(_even(plane), inside) for plane in planes])
    correlation = np.empty((len(movie), len(planes)), np.float32)
    for first in range(0, len(movie), _PIECE):
        for t, frame in enumerate(_gray(np.asarray(movie[first : first + _PIECE])), first):
            correlation[t] = templates @ _standardized(_even(frame), inside)
        if progress is not None:
            progress(min(first + _PIECE, len(movie)), len(movie))
    return DepthEstimate(
        depth=_peaks(correlation),
        smoothed=_peaks(_smoothed(correlation, smoothing_frames)),
        correlation=correlation,
        center=float(_peaks((templates @ _standardized(_even(average), inside))[np.newaxis])[0]),
        planes=planes,
        valid=inside,
    )


def _check_pixels(inside: np.ndarray) -> None:
    if inside.sum() < _LEAST_PIXELS:
        raise ValueError(
            f"{int(inside.sum())} pixels are valid in the recording and in every plane aligned with it, expected at "
            f"least {_LEAST_PIXELS}"
        )


def _gray(images: np.ndarray) -> np.ndarray:
    """(N, H, W) float32, the mean of the channels."""
    return images.astype(np.float32) if images.ndim == 3 else images.mean(axis=3, dtype=np.float32)


def _average(movie: np.ndarray | VideoReader) -> np.ndarray:
    """Mean of frames spread over the recording, (H, W) float32."""
    step = max(1, len(movie) // _AVERAGE_FRAMES)
    return np.mean([_gray(np.asarray(movie[t])[np.newaxis])[0] for t in range(0, len(movie), step)], axis=0)


def _fine(image: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(image, _FINE_PX) - ndimage.gaussian_filter(image, _COARSE_PX)


def _even(image: np.ndarray) -> np.ndarray:
    """Fine structure with the same contrast everywhere, so that a bright cell counts no more than a dim one."""
    fine = _fine(image)
    contrast = np.sqrt(ndimage.gaussian_filter(fine**2, 2 * _COARSE_PX))
    return fine / (contrast + 0.1 * contrast.mean() + np.finfo(np.float32).tiny)


def _standardized(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Pixels inside, of mean 0 and length 1; NaN if they are all alike."""
    pixels = image[inside]
    pixels = pixels - pixels.mean()
    length = np.linalg.norm(pixels)
    return pixels / length if length > 0 else np.full_like(pixels, np.nan)


def _aligned(stack: np.ndarray, average: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Warp the planes (Z, H, W) onto the average; also the pixels (H, W) that all of them have."""
    target = _even(average)
    even = [_even(plane) for plane in stack]
    onto_average = RigidShift(target, upsample=16)
    shifts = [onto_average(plane) for plane in even]
    likeness = [
        float(
            (
                _standardized(imregister(plane, _constant(shift, plane.shape)), inside) * _standardized(target, inside)
            ).sum()
        )
        for plane, shift in zip(even, shifts, strict=True)
    ]
    best = int(np.argmax(likeness))
    # neighbouring planes look alike where far ones do not, so shifts are added up from plane to plane
    total = np.zeros((len(stack), 2), np.float32)
    total[best] = shifts[best]
    for way in (range(best + 1, len(stack)), range(best - 1, -1, -1)):
        for z in way:
            nearer = z - 1 if z > best else z + 1
            total[z] = total[nearer] + RigidShift(even[nearer], upsample=16)(even[z])
    start = _constant(total[best], target.shape)
    bend = get_displacement(target, even[best], alpha=_ALPHA, uv=start) - start
    planes = np.empty_like(stack)
    for z, plane in enumerate(stack):
        field = bend + _constant(total[z], target.shape)
        planes[z] = imregister(plane, field)
        inside = inside & valid_mask(field)
    return planes, inside


def _constant(shift: tuple[float, float] | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.asarray(shift, np.float32), (*shape, 2)).copy()


def _smoothed(correlation: np.ndarray, frames: float) -> np.ndarray:
    """Average over time; frames without structure count nothing."""
    if frames == 0:
        return correlation
    known = np.isfinite(correlation)
    total = ndimage.gaussian_filter1d(
        np.where(known, correlation, 0), frames, axis=0, mode="constant", output=np.float64
    )
    weight = ndimage.gaussian_filter1d(known.astype(np.float64), frames, axis=0, mode="constant")
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)


def _peaks(correlation: np.ndarray) -> np.ndarray:
    """Place of the peak of each row (N, Z), between planes, within the stack; NaN where nothing is known."""
    places = np.full(len(correlation), np.nan)
    known = np.isfinite(correlation).all(axis=1)
    rows = correlation[known].astype(np.float64)
    middle = np.clip(rows.argmax(axis=1), 1, correlation.shape[1] - 2)
    before, at, after = (np.take_along_axis(rows, middle[:, None] + k, axis=1)[:, 0] for k in (-1, 0, 1))
    bend = before - 2 * at + after
    offset = np.divide(before - after, 2 * bend, out=np.zeros_like(at), where=bend < 0)
    best = rows.argmax(axis=1)
    peak = np.where(bend < 0, middle + np.clip(offset, -1, 1), best)
    places[known] = np.clip(peak, 0, correlation.shape[1] - 1)
    return places
