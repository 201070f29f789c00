"""One frame: from raw neighbours to displacement, registered frame and valid pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyflow.flow.displacement import prepare
from pyflow.flow.filters import enlarge_field
from pyflow.flow.planes import cast_like, to_planes
from pyflow.flow.rigid import RigidShift
from pyflow.flow.warp import RegisteredImage, register_image
from pyflow.motion.coherence import RADIUS, coherent, deformation
from pyflow.motion.options import OFOptions
from pyflow.motion.preprocess import Preprocessor
from pyflow.motion.quality import LEAST_OVERLAP, MISFIT, OUTSIDE, TOO_FAR, Misfit, frame_problem, overlap


@dataclass(frozen=True)
class FrameEstimate:
    """The displacement of a frame, as it is found from that frame alone.

    Parameters
    ----------
    frame
        Raw frame (H, W, C).
    problem
        Why the frame cannot be registered, a key of `PROBLEMS`, or 0. Then there is nothing else.
    field
        float32 (rows, cols, 2): the displacement in pixels, backward, on the grid on which the flow is found; of the
        frame's size, or coarser.
    residual
        `field` without the frame's rigid shift: what the flow was asked for.
    deformation
        See `pyflow.motion.coherence`; where frames inform each other.
    filtered
        float32 (H, W, C): the preprocessed frame; with `update_reference`.
    reference
        Of several references the one that the frame is registered to, counted from 0.
    """

    frame: np.ndarray
    problem: int = 0
    reference: int = 0
    field: np.ndarray | None = None
    residual: np.ndarray | None = None
    deformation: np.ndarray | None = None
    filtered: np.ndarray | None = None

    @property
    def displacement(self) -> np.ndarray:
        """float32 (H, W, 2), pixels, backward."""
        return enlarge_field(self.field, self.frame.shape[:2])


@dataclass(frozen=True)
class RegisteredFrame:
    """A frame after registration, or one that could not be registered and is passed on.

    Parameters
    ----------
    frame
        Registered frame (H, W, C).
    valid
        bool (H, W): the pixel comes from inside the frame.
    field
        float32 (rows, cols, 2): the displacement in pixels, backward, of the frame's size or on a coarser grid.
    residual
        As the frame alone told it, on the same grid and without its rigid shift: what the flow was asked for.
    statistics
        Mean and largest length of the displacement in pixels, its mean divergence in pixels per pixel, the length of
        its mean in pixels, and the misfit; where the frame could be registered.
    filtered
        float32 (H, W, C): the preprocessed frame, registered; with `update_reference`.
    problem
        Why the frame could not be registered, a key of `PROBLEMS`; 0 if it was. Such a frame is passed on as
        it is, with no valid pixel and no displacement.
    reference
        Of several references the one that the frame is registered to, counted from 0.
    """

    frame: np.ndarray
    valid: np.ndarray
    field: np.ndarray
    residual: np.ndarray
    statistics: tuple[float, ...] | None = None
    filtered: np.ndarray | None = None
    problem: int = 0
    reference: int = 0

    @property
    def displacement(self) -> np.ndarray:
        """float32 (H, W, 2), pixels, backward."""
        return enlarge_field(self.field, self.frame.shape[:2])


class FrameRegistration:
    """Registers frames to one template; thread-safe, the template's pyramid is computed once.

    Parameters
    ----------
    template
        Preprocessed reference, float32 (H, W, C).
    fill
        Raw reference (H, W, C): the value of pixels from outside a frame.
    preprocess
        What turned the reference into the template.
    options
        How to compute the flow.
    dtype
        Data type of the registered frames.
    noise_px
        Noise of a frame's deformation, see `pyflow.motion.coherence`; 0: frames do not inform each other.
    misfit_limit
        Frames with a larger misfit are not registered. None: misfits are not measured.
    """

    def __init__(
        self,
        template: np.ndarray,
        fill: np.ndarray,
        preprocess: Preprocessor,
        options: OFOptions,
        dtype: np.dtype,
        noise_px: float = 0.0,
        misfit_limit: float | None = np.inf,
    ) -> None:
        self._noise_px = noise_px
        weight = options.channel_weights(template.shape)
        self._counted = counted_channels(weight)
        self._misfit = None if misfit_limit is None else Misfit(fill[..., self._counted])
        self._misfit_limit = np.inf if misfit_limit is None else misfit_limit
        self._max_displacement = np.inf if options.max_displacement is None else options.max_displacement
        self._template = template
        self._fill = fill.astype(np.float32)
        self._preprocess = preprocess
        self._interpolation = options.interpolation_method
        self._dtype = dtype
        self._keep_filtered = options.update_reference
        self._shift = (
            RigidShift(template, weight=weight, max_size=options.cc_hw, upsample=options.cc_up)
            if options.cc_initialization
            else None
        )
        self._flow = prepare(
            template,
            options.flow(),
            weight=weight,
            backend=options.flow_backend,
            backend_params=options.backend_params,
        )

    @classmethod
    def onto(cls, reference: np.ndarray, preprocess: Preprocessor, options: OFOptions) -> "FrameRegistration":
        """Register frames to a raw image (H, W, C), into float32 and whatever their misfit."""
        return cls(preprocess.image(reference), reference, preprocess, options, np.dtype(np.float32), misfit_limit=None)

    def start(self, uv: np.ndarray) -> Any:
        """Prepare a displacement to start from, float32 (rows, cols, 2), for all frames that do."""
        return self._flow.start(uv)

    @property
    def radius(self) -> int:
        """Number of estimates on each side that `finish` needs."""
        return RADIUS if self._noise_px else 0

    def estimate(self, window: Sequence[np.ndarray], start: Any = None) -> FrameEstimate:
        """Find a frame's displacement.

        Parameters
        ----------
        window
            The raw frame in the middle of its neighbours in time, each (H, W, C).
        start
            The displacement to start from, as `start` returned it; None: zero.
        """
        frame = window[len(window) // 2]
        problem = frame_problem(frame)
        if problem:
            return FrameEstimate(frame, problem)
        filtered = self._preprocess(window)
        if self._shift is None:
            field = residual = self._field(filtered, start)
        else:
            shift = np.array(self._shift(filtered), np.float32)
            shifted = self.warp(filtered, shift[np.newaxis, np.newaxis], self._template).image
            residual = self._field(shifted, start)
            field = residual + shift
        return FrameEstimate(
            frame=frame,
            field=field,
            residual=residual,
            deformation=deformation(field) if self._noise_px else None,
            filtered=filtered if self._keep_filtered else None,
        )

    def finish(self, estimates: Sequence[FrameEstimate | None]) -> RegisteredFrame:
        """Register a frame.

        Parameters
        ----------
        estimates
            2 * `radius` + 1 of them, the frame's own in the middle; None for neighbours that the recording, or the
            batch, does not have.
        """
        own = estimates[len(estimates) // 2]
        if own.problem:
            return passed_on(own.frame, own.problem, self._dtype)
        field = own.field
        if self._noise_px:
            around = [None if estimate is None else estimate.deformation for estimate in estimates]
            field = coherent(field, around, self._noise_px)
        frame = own.frame.astype(self._dtype, copy=False) if self._dtype.kind == "f" else own.frame
        found = self.warp(frame, field, self._fill)
        if found.largest_length > self._max_displacement:
            return passed_on(own.frame, TOO_FAR, self._dtype)
        if overlap(found.valid) < LEAST_OVERLAP:
            return passed_on(own.frame, OUTSIDE, self._dtype)
        misfit = np.nan if self._misfit is None else self._misfit(found.image[..., self._counted], found.valid)
        if misfit > self._misfit_limit:
            return passed_on(own.frame, MISFIT, self._dtype)
        translation = float(np.hypot(*found.mean))
        return RegisteredFrame(
            frame=_cast(found.image, self._dtype),
            valid=found.valid,
            field=field,
            residual=own.residual,
            statistics=(found.mean_length, found.largest_length, found.mean_divergence, translation, misfit),
            filtered=self.warp(own.filtered, field, self._template).image if self._keep_filtered else None,
        )

    def alone(self, window: Sequence[np.ndarray]) -> RegisteredFrame:
        """Register a frame in the middle of its raw neighbours by itself."""
        return self.finish([self.estimate(window)])

    def onto_template(self, filtered: np.ndarray) -> np.ndarray:
        """Register a preprocessed image, float32 (H, W, C)."""
        return self.warp(filtered, self._field(filtered, None), self._template).image

    def warp(self, image: np.ndarray, field: np.ndarray, fill: np.ndarray | None) -> RegisteredImage:
        """Warp an image as frames are warped; pixels from outside take `fill`, or 0."""
        return register_image(image, field, fill=fill, interpolation=self._interpolation)

    def _field(self, image: np.ndarray, start: Any) -> np.ndarray:
        return self._flow.estimate(to_planes(image)[np.newaxis], start, n_threads=1)[0]


def passed_on(frame: np.ndarray, problem: int, dtype: np.dtype) -> RegisteredFrame:
    """Return a frame (H, W, C) that is not registered, as it is, in the type of registered ones."""
    zero = np.zeros((1, 1, 2), np.float32)
    frame = frame if dtype.kind == "f" or frame.dtype.kind != "f" else np.nan_to_num(frame)
    return RegisteredFrame(_cast(frame, dtype), np.zeros(frame.shape[:2], bool), zero, zero, problem=problem)


def counted_channels(weight: np.ndarray) -> Any:
    """Return the index of the channels with a weight (C,), or a map (H, W, C), anywhere above 0."""
    counted = weight.reshape(-1, weight.shape[-1]).any(axis=0)
    return slice(None) if counted.all() else np.flatnonzero(counted)


def _cast(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return image if image.dtype == dtype else cast_like(image, dtype)
