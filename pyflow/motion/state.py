"""What the frame loop knows between two frames."""

from dataclasses import dataclass

import numpy as np

from pyflow.motion.noise import Tuning
from pyflow.motion.register import RegisteredFrame

STATISTICS = ("mean_disp", "max_disp", "mean_div", "mean_translation", "misfit")


@dataclass
class LoopState:
    """What the frames so far leave behind; all that the loop needs to go on after a batch.

    Parameters
    ----------
    reference
        Raw reference, float64 (H, W, C).
    template
        What frames are registered to: the reference, preprocessed; float32 (H, W, C).
    alpha
        Smoothness weight (x, y), float64.
    noise_px
        Noise of a frame's deformation, float64, a scalar; 0: frames do not inform each other.
    misfit_limit
        Largest misfit of a frame that is registered, float64, a scalar.
    start
        Displacement that the next batch starts from, float32 (H, W, 2).
    total
        Sum of the registered frames, float64 (H, W, C).
    statistics
        A row for each of `STATISTICS`, a column per frame, float64; NaN for frames that could not be
        registered.
    problem
        Per frame why it could not be registered, a key of `PROBLEMS`; 0 if it was. uint8.
    frames_done
        Number of frames in all this.
    """

    reference: np.ndarray
    template: np.ndarray
    alpha: np.ndarray
    noise_px: np.ndarray
    misfit_limit: np.ndarray
    start: np.ndarray
    total: np.ndarray
    statistics: np.ndarray
    problem: np.ndarray
    frames_done: int = 0

    @classmethod
    def begin(
        cls, reference: np.ndarray, template: np.ndarray, tuning: Tuning, misfit_limit: float, n_frames: int
    ) -> "LoopState":
        """Return the state before the first frame."""
        return cls(
            reference=reference,
            template=template,
            alpha=np.array(np.broadcast_to(tuning.alpha, 2), float),
            noise_px=np.float64(tuning.noise_px),
            misfit_limit=np.float64(misfit_limit),
            start=np.zeros((*reference.shape[:2], 2), np.float32),
            total=np.zeros(reference.shape),
            statistics=np.full((len(STATISTICS), n_frames), np.nan),
            problem=np.zeros(n_frames, np.uint8),
        )

    def add(self, result: RegisteredFrame) -> None:
        """Take account of the next frame."""
        t = self.frames_done
        self.problem[t] = result.problem
        if not result.problem:
            self.statistics[:, t] = result.statistics
            self.total += result.frame
        self.frames_done += 1

    @property
    def temporal_average(self) -> np.ndarray:
        """Mean of the registered frames, float64 (H, W, C)."""
        return self.total / np.count_nonzero(self.problem[: self.frames_done] == 0)


class RunningMean:
    """Mean of arrays, summed in float64."""

    def __init__(self) -> None:
        self._total: np.ndarray | None = None
        self._count = 0

    def add(self, array: np.ndarray) -> None:
        """Take account of an array."""
        if self._total is None:
            self._total = np.zeros(array.shape)
        self._total += array
        self._count += 1

    def get(self, default: np.ndarray) -> np.ndarray:
        """Return the mean in the type of `default`, or `default` if there was no array."""
        return default if self._total is None else (self._total / self._count).astype(default.dtype)
