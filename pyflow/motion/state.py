"""The state of the frame loop between two frames."""

from dataclasses import dataclass, fields

import numpy as np

from pyflow.motion.noise import Tuning
from pyflow.motion.register import RegisteredFrame

STATISTICS = ("mean_disp", "max_disp", "mean_div", "mean_translation", "misfit")


@dataclass
class RunningMean:
    """Mean of arrays, summed in float64; the first of them tells the shape.

    Parameters
    ----------
    total
        Their sum so far, float64.
    count
        Their number.
    """

    total: np.ndarray
    count: int = 0

    def add(self, array: np.ndarray) -> None:
        """Take account of an array."""
        self.total = np.add(self.total, array, out=self.total if self.count else None)
        self.count += 1

    def take(self, default: np.ndarray) -> np.ndarray:
        """Return the mean in the type of `default`, or `default` if there was no array, and begin anew."""
        mean = (self.total / self.count).astype(default.dtype) if self.count else default
        self.total, self.count = np.zeros(self.total.shape), 0
        return mean


@dataclass
class LoopState:
    """All that the loop needs to go on after any frame.

    Parameters
    ----------
    reference
        Raw reference, float64 (H, W, C).
    others
        Raw further references in the frame of the first, float64 (n, H, W, C); see `pyflow.motion.states`.
    template
        What frames are registered to: the reference, preprocessed; float32 (H, W, C).
    alpha
        Smoothness weight (x, y), float64.
    noise_px
        Noise of a frame's deformation, float64, a scalar; 0: frames do not inform each other.
    misfit_limit
        Largest misfit of a frame that is registered, float64, a scalar.
    start
        Displacement in pixels that this batch starts from, on the grid of its frames' (`FrameEstimate.residual`), or of
        one cell before there were any; float32 (rows, cols, 2).
    next_start, next_template
        What this batch has for the next one's `start` and `template` so far.
    total
        Sum of the registered frames, float64 (H, W, C).
    valid
        Pixels that are valid in all registered frames so far, bool (H, W).
    statistics
        A row for each of `STATISTICS`, a column per frame, float64; NaN for frames that could not be
        registered, and for frames to come, for which there may be room.
    chosen
        Per frame which reference it is registered to, counted from 0; uint8.
    problem
        Per frame why it could not be registered, a key of `PROBLEMS`; 0 if it was, or is to come. uint8.
    frames_done
        Number of frames in all this.
    """

    reference: np.ndarray
    others: np.ndarray
    template: np.ndarray
    alpha: np.ndarray
    noise_px: np.ndarray
    misfit_limit: np.ndarray
    start: np.ndarray
    next_start: RunningMean
    next_template: RunningMean
    total: np.ndarray
    valid: np.ndarray
    statistics: np.ndarray
    chosen: np.ndarray
    problem: np.ndarray
    frames_done: int = 0

    @classmethod
    def begin(
        cls,
        reference: np.ndarray,
        template: np.ndarray,
        tuning: Tuning,
        misfit_limit: float,
        others: np.ndarray | None = None,
    ) -> "LoopState":
        """Return the state before the first frame."""
        unmoved = np.zeros((1, 1, 2), np.float32)
        return cls(
            reference=reference,
            others=np.zeros((0, *reference.shape)) if others is None else others,
            template=template,
            alpha=np.array(np.broadcast_to(tuning.alpha, 2), float),
            noise_px=np.float64(tuning.noise_px),
            misfit_limit=np.float64(misfit_limit),
            start=unmoved,
            next_start=RunningMean(np.zeros(unmoved.shape)),
            next_template=RunningMean(np.zeros(template.shape)),
            total=np.zeros(reference.shape),
            valid=np.ones(reference.shape[:2], bool),
            statistics=np.zeros((len(STATISTICS), 0)),
            chosen=np.zeros(0, np.uint8),
            problem=np.zeros(0, np.uint8),
        )

    def add(self, result: RegisteredFrame) -> None:
        """Take account of the next frame."""
        t = self.frames_done
        if t == len(self.problem):  # room for as many again: the number of frames is not known
            room = max(t, 64)
            self.problem = np.pad(self.problem, (0, room))
            self.chosen = np.pad(self.chosen, (0, room))
            self.statistics = np.pad(self.statistics, ((0, 0), (0, room)), constant_values=np.nan)
        self.problem[t] = result.problem
        self.chosen[t] = result.reference
        if not result.problem:
            self.statistics[:, t] = result.statistics
            self.total += result.frame
            self.valid &= result.valid
        self.frames_done += 1

    def forget_frames(self) -> None:
        """Count anew, so that memory does not grow; what the next frames start from stays."""
        self.statistics = self.statistics[:, :0].copy()
        self.problem, self.chosen = self.problem[:0].copy(), self.chosen[:0].copy()
        self.total[:], self.valid[:] = 0, True
        self.frames_done = 0

    @property
    def temporal_average(self) -> np.ndarray:
        """Mean of the registered frames, float64 (H, W, C)."""
        return self.total / np.count_nonzero(self.problem[: self.frames_done] == 0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all of it as arrays by name, for `from_arrays`."""
        values = {name: value for name, value in vars(self).items() if not isinstance(value, RunningMean)}
        for name, value in vars(self).items():
            if isinstance(value, RunningMean):
                values |= {f"{name}_total": value.total, f"{name}_count": value.count}
        return {name: np.array(value) for name, value in values.items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "LoopState":
        """Return the state that gave the arrays; a KeyError names one that is missing."""
        means = {
            name: RunningMean(arrays[f"{name}_total"], int(arrays[f"{name}_count"]))
            for name in ("next_start", "next_template")
        }
        plain = {field.name: arrays[field.name] for field in fields(cls) if field.name not in means}
        return cls(**{**plain, **means, "frames_done": int(plain["frames_done"])})
