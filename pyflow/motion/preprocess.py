"""Prepare frames for the flow: scale their grey values, and filter them in space and time."""

from collections.abc import Sequence

import numpy as np

from pyflow.flow.filters import gaussian_filter
from pyflow.motion.option_types import Sigma
from pyflow.motion.options import OFOptions
from pyflow.motion.quality import frame_problem


class Preprocessor:
    """Scales and filters frames; made once per recording, thread-safe.

    Grey values x become (x - low) / (high - low), where low and high are the reference's extremes, so that a
    recording and its reference stay comparable. The filter in time needs `radius` neighbours on each side;
    its kernel ends at four standard deviations.

    Parameters
    ----------
    reference
        Raw reference (H, W, C).
    options
        `preprocess`, `channel_normalization` and `sigma` count.
    dtype
        Data type of the frames: what it cannot hold in float32 is scaled in float64.
    extra_sigma
        Added to (sx, sy, st).

    Raises
    ------
    ValueError
        The reference is constant or not finite, so that nothing can be registered to it; or `OFOptions.preprocess`
        returned something else than an image.
    """

    def __init__(
        self,
        reference: np.ndarray,
        options: OFOptions,
        dtype: np.dtype,
        extra_sigma: Sigma = (0.0, 0.0, 0.0),
    ) -> None:
        if not np.isfinite(reference).all():
            raise ValueError("the reference contains NaN or inf")
        self._function = options.preprocess
        reference = self._looked_at(reference)
        low, high = reference.min(axis=(0, 1)), reference.max(axis=(0, 1))
        if not (high > low).any():
            raise ValueError(f"the reference is constant ({low[0]:g}): nothing can be registered to it")
        if options.channel_normalization == "joint":
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        working = np.result_type(dtype, np.float32)
        self._low = low.astype(working)
        self._scale = (1 / np.where(high > low, high - low, 1)).astype(working)
        sigma = np.array([options.channel_sigma(c) for c in range(reference.shape[2])]) + extra_sigma
        self._sigma_yx = sigma[:, [1, 0]]
        self._kernel = _temporal_kernel(sigma[:, 2])

    @property
    def radius(self) -> int:
        """Number of neighbours in time that a frame needs on each side."""
        return len(self._kernel) // 2

    def image(self, image: np.ndarray) -> np.ndarray:
        """Scale and filter an image in space only.

        Parameters
        ----------
        image
            (H, W, C), any real dtype.

        Returns
        -------
        ndarray
            float32 (H, W, C).
        """
        image = self._looked_at(image)
        scaled = np.subtract(image, self._low, dtype=self._low.dtype)  # in place from here on: memory costs more time
        scaled *= self._scale
        if (self._sigma_yx == self._sigma_yx[0]).all():
            return gaussian_filter(scaled, tuple(self._sigma_yx[0]), n_threads=1)
        planes = [gaussian_filter(scaled[..., c], tuple(s), n_threads=1) for c, s in enumerate(self._sigma_yx)]
        return np.stack(planes, axis=-1)

    def _looked_at(self, image: np.ndarray) -> np.ndarray:
        """Return an image (H, W, C) as the user's function makes it."""
        if self._function is None:
            return image
        given = image.copy()  # it may write into what it gets
        made = np.asarray(self._function(given))
        if made.shape != image.shape or made.dtype.kind not in "uif":
            raise ValueError(
                f"preprocess: returned {made.dtype} of shape {made.shape}, expected real numbers of shape {image.shape}"
            )
        if not np.isfinite(made).all():
            raise ValueError("preprocess: returned NaN or inf for an image that holds neither")
        return made

    def __call__(self, window: Sequence[np.ndarray]) -> np.ndarray:
        """Scale and filter a frame in space and time.

        Parameters
        ----------
        window
            The frame in the middle of its 2 * `radius` neighbours, each (H, W, C). Neighbours that hold no
            image are left out.

        Returns
        -------
        ndarray
            float32 (H, W, C).
        """
        if self.radius == 0:
            return self.image(window[0])
        usable = [k for k, frame in enumerate(window) if frame_problem(frame) == 0]
        weights = self._kernel[usable] / self._kernel[usable].sum(axis=0)
        total = window[usable[0]] * weights[0]
        for k, weight in zip(usable[1:], weights[1:], strict=True):
            total += window[k] * weight
        return self.image(total)


def _temporal_kernel(sigma: np.ndarray) -> np.ndarray:
    """Return Gaussians over time, float32 (2 * radius + 1, C), for standard deviations in frames."""
    radius = int(4 * sigma.max() + 0.5)
    offset = np.arange(-radius, radius + 1)[:, np.newaxis]
    kernel = np.exp(-0.5 * (offset / np.maximum(sigma, 1e-3)) ** 2)
    kernel[np.abs(offset) > (4 * sigma + 0.5).astype(int)] = 0
    return kernel.astype(np.float32)
