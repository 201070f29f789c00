"""How deep the focus lay in each frame of a recording, found in a stack of the same tissue.

Motion correction moves pixels within the plane. A shift along z shows other tissue, which nothing can mend; it can be
found, so that it is not taken for activity.

1. The planes of the stack are aligned with each other, from the plane that looks most like the recording's average
   outwards, and all of them with the average, by the flow of that one plane.
2. Each frame is shifted as a whole onto the average, then onto the plane that it resembles most. It is not bent:
   registration bends cells of one depth towards those of the reference's, and a frame would seem to lie nearer to it.
3. Each frame is correlated with each plane, over what is finer than about a cell.
4. The depth of a frame is where the image between two planes, mixed of both, is most like it. As a single frame is
   noisy, the correlations are also averaged over neighbouring frames before that is sought.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from pyflow._help import short_repr
from pyflow.flow.displacement import get_displacement
from pyflow.flow.rigid import RigidShift
from pyflow.flow.warp import imregister, valid_mask
from pyflow.io import VideoReader
from pyflow.io.atomic import replacing
from pyflow.layout import read_npz
from pyflow.motion.quality import PROBLEMS, frame_problem
from pyflow.threads import resolve_threads

_FINE_PX, _COARSE_PX = 1.0, 8.0  # structure between these sizes tells planes apart; below is noise, above is light
_AVERAGE_FRAMES = 200
_PIECE = 32  # frames read at once
_ALPHA = 60.0  # between averages of different days, as smooth as between recordings
_LEAST_PIXELS = 1024
_STEPS_PER_PX = 8  # of a frame's shift
_ALIKE = 1e-4  # planes that correlate to 1 but for this are one plane: nothing lies between them


@short_repr
@dataclass(frozen=True)
class DepthEstimate:
    """What `estimate_depth` found.

    Attributes
    ----------
    depth : ndarray, shape (T,), float64
        Depth of each frame by itself, in planes of the stack counted from 0; NaN for a frame without structure, and
        for one that contains NaN or inf.
    smoothed : ndarray, shape (T,), float64
        The same from correlations that are averaged over neighbouring frames.
    correlation : ndarray, shape (T, Z), float32
        Correlation of each frame with each plane, not averaged.
    center : float
        Depth of the recording's average, in planes; NaN where no frame has structure.
    likeness : float
        Correlation of the average with the plane that it resembles most; near 0 for a stack of other tissue.
    change : float
        By what share planes half the stack apart correlate less than neighbours; near 0 where all show one depth.
    planes : ndarray, shape (Z, H, W), float32
        The stack, aligned with the recording; not saved, and none after `load`.
    valid : ndarray, shape (H, W), bool
        Pixels that were compared.
    """

    depth: np.ndarray
    smoothed: np.ndarray
    correlation: np.ndarray
    center: float
    likeness: float
    change: float
    planes: np.ndarray
    valid: np.ndarray

    @property
    def at_border(self) -> np.ndarray:
        """(T,) bool: the best plane is the stack's first or last, so that the focus may lie beyond it."""
        last = self.correlation.shape[1] - 1
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
                likeness=self.likeness,
                change=self.change,
                valid=self.valid,
            )

    @classmethod
    def load(cls, path: str | Path) -> "DepthEstimate":
        """Read what `save` wrote.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is damaged, or not one of these; the message names the file.
        """
        names = ("depth", "smoothed", "correlation", "center", "likeness", "change", "valid")
        data: dict[str, Any] = read_npz(Path(path), names)
        numbers = {name: float(data.pop(name)) for name in ("center", "likeness", "change")}
        return cls(**data, **numbers, planes=np.zeros((0, *data["valid"].shape), np.float32))


def estimate_depth(
    movie: np.ndarray | VideoReader,
    stack: np.ndarray,
    *,
    valid: np.ndarray | None = None,
    smoothing_frames: float = 15.0,
    n_threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> DepthEstimate:
    """Find the depth of each frame of a recording in a stack.

    Parameters
    ----------
    movie : ndarray or VideoReader, shape (T, H, W) or (T, H, W, C)
        Frames as they were recorded; of several channels the mean is used. Registered ones do as well; over a
        drift of several planes they seem to lie a little nearer to the reference than they do.
    stack : ndarray, shape (Z, H, W) or (Z, H, W, C)
        At least three planes of the same tissue at equal distances, seen with the recording's pixel size.
    valid : ndarray, shape (H, W), bool, optional
        Pixels of the recording that can be believed in every frame; None: all.
    smoothing_frames : float
        Standard deviation of the Gaussian that averages correlations over time, in frames; 0: none.
    n_threads : int
        Threads; 0 for all that this process may use.
    progress : callable, optional
        Called as ``progress(done, total)`` with frames.

    Returns
    -------
    DepthEstimate

    Raises
    ------
    ValueError
        The stack has fewer than three planes or another frame size than the recording, or a plane without an image;
        something has a wrong number of axes, or the aligned stack overlaps with too few valid pixels.
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
    if not 0 <= smoothing_frames < np.inf:
        raise ValueError(f"smoothing_frames is {smoothing_frames}, expected 0 or more")
    inside = np.ones(movie.shape[1:3], bool) if valid is None else np.asarray(valid, bool)
    if inside.shape != movie.shape[1:3]:
        raise ValueError(f"valid has shape {inside.shape}, expected {movie.shape[1:3]}")
    _check_pixels(inside)
    gray = _gray(stack)
    for z, plane in enumerate(gray):
        if problem := frame_problem(plane):
            raise ValueError(f"plane {z} of the stack: {PROBLEMS[problem]}, expected an image in each plane")
    average = _average(movie)
    planes, inside = _aligned(gray, average, inside)
    _check_pixels(inside)
    even = [_even(plane) for plane in planes]
    templates = np.stack([_standardized(plane, inside) for plane in even])
    onto = [RigidShift(image, upsample=_STEPS_PER_PX) for image in (_even(average), *even)]

    def compare(frame: np.ndarray) -> np.ndarray:
        if frame_problem(frame):
            return np.full(len(planes), np.nan)
        image = _even(frame)
        found = templates @ _standardized(_shifted(image, onto[0](image)), inside)
        if not np.isfinite(found).all():
            return found
        again = templates @ _standardized(_shifted(image, onto[1 + int(found.argmax())](image)), inside)
        return again if again.max() > found.max() else found

    correlation = np.empty((len(movie), len(planes)), np.float32)
    with ThreadPoolExecutor(resolve_threads(n_threads)) as pool:
        for first in range(0, len(movie), _PIECE):
            frames = _gray(np.asarray(movie[first : first + _PIECE]))
            correlation[first : first + len(frames)] = list(pool.map(compare, frames))
            if progress is not None:
                progress(first + len(frames), len(movie))
    neighbours = (templates[:-1] * templates[1:]).sum(axis=1)
    of_average = templates @ _standardized(_even(average), inside)
    return DepthEstimate(
        depth=_peaks(correlation, neighbours),
        smoothed=_peaks(_smoothed(correlation, smoothing_frames), neighbours),
        correlation=correlation,
        center=float(_peaks(of_average[np.newaxis], neighbours)[0]),
        likeness=float(of_average.max()),
        change=_change(templates @ templates.T),
        planes=planes,
        valid=inside,
    )


def _change(alike: np.ndarray) -> float:
    """How much of the correlation of neighbouring planes is lost half the stack further; of correlations (Z, Z)."""
    by_distance = [float(np.diagonal(alike, distance).mean()) for distance in range(len(alike))]
    far = float(np.mean(by_distance[max(2, len(alike) // 2) :]))
    return 1 - far / by_distance[1] if by_distance[1] > 0 else 0.0


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
    """Mean of frames spread over the recording, each shifted onto the mean before, (H, W) float32; zeros of none."""
    times = range(0, len(movie), max(1, len(movie) // _AVERAGE_FRAMES))

    def mean(finished: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        total, count = np.zeros(movie.shape[1:3]), 0
        for t in times:  # read anew each time, since so many frames together may not fit
            frame = _gray(np.asarray(movie[t])[np.newaxis])[0]
            if not frame_problem(frame):
                total += finished(frame)
                count += 1
        return (total / max(count, 1)).astype(np.float32)

    average = mean(lambda frame: frame)
    for _ in range(2):
        onto = RigidShift(_even(average), upsample=_STEPS_PER_PX)
        average = mean(lambda frame, onto=onto: _shifted(frame, onto(_even(frame))))
    return average


def _shifted(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    return imregister(image, _constant(shift, image.shape), fill=image, n_threads=1)


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


def _peaks(correlation: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Depth of the mixture of two neighbouring planes that is most like each row (N, Z); NaN where nothing is known.

    With correlations c0 and c1, and r of the planes with each other (Z - 1,), the mixture (1 - a) p0 + a p1 correlates
    to ((1 - a) c0 + a c1) / |(1 - a) p0 + a p1|, which is largest at a = (c1 - r c0) / ((1 - r) (c0 + c1)).
    """
    places = np.full(len(correlation), np.nan)
    known = np.isfinite(correlation).all(axis=1)
    before, after = correlation[known, :-1].astype(np.float64), correlation[known, 1:].astype(np.float64)
    scale = np.maximum(1 - neighbours, 0) * (before + after)
    share = np.where(after > before, 1.0, 0.0)
    np.divide(after - neighbours * before, scale, out=share, where=(scale > 0) & (1 - neighbours > _ALIKE))
    share = np.clip(share, 0, 1)
    length = np.sqrt((1 - share) ** 2 + share**2 + 2 * share * (1 - share) * neighbours)
    best = (((1 - share) * before + share * after) / length).argmax(axis=1)
    places[known] = best + np.take_along_axis(share, best[:, np.newaxis], axis=1)[:, 0]
    return places
