"""pyflowreg's `FlowRegLive`: frames registered one by one, by `pyflow.motion.live.LiveRegistration`."""

from collections import deque
from typing import Any

import numpy as np

from pyflow.compat.pyflowreg.motion import compensate_arr
from pyflow.compat.pyflowreg.names import differs
from pyflow.compat.pyflowreg.options import OFOptions
from pyflow.compat.pyflowreg.words import QualitySetting
from pyflow.motion.live import LiveRegistration


class FlowRegLive:
    """Registers frames one by one: ``registered, w = live(frame)``.

    Parameters
    ----------
    options
        How, with ``quality_setting="fast"`` whatever they say.
    reference_buffer_size
        How many frames are kept for `set_reference` until there is a reference.
    reference_update_interval
        After so many frames, the reference is made anew.
    reference_update_weight, truncate
        Have no meaning here.
    **kwargs
        Options that go before `options`.
    """

    def __init__(
        self,
        options: OFOptions | None = None,
        reference_buffer_size: int = 50,
        reference_update_interval: int = 20,
        reference_update_weight: float = 0.2,
        truncate: float = 4.0,
        **kwargs: Any,
    ) -> None:
        given = {} if options is None else dict(options)
        given = {**given, **kwargs, "min_level": -1, "quality_setting": QualitySetting.FAST}
        if given.pop("n_references", 1) != 1:
            differs("FlowRegLive, n_references: there is one reference, which is made anew from the last frames")
        self.options = OFOptions(**given)
        self.reference_buffer: deque[np.ndarray] = deque(maxlen=reference_buffer_size)
        self.reference_update_interval = reference_update_interval
        self.reference_update_weight = reference_update_weight
        self.truncate = truncate
        self.reference_raw: np.ndarray | None = None
        self.frame_count = 0
        self.last_flow: np.ndarray | None = None
        self._live: LiveRegistration | None = None
        differs(
            "FlowRegLive, reference_update_weight: after reference_update_interval frames the reference is made "
            "anew from the last of them, and not mixed"
        )
        if truncate != 4.0:
            differs("FlowRegLive, truncate: filters are cut off where nothing is left of them")

    def set_reference(self, frames: np.ndarray | None = None) -> None:
        """Register to an image, to frames (T, H, W, C), registered among themselves, or to the frames kept so far."""
        if frames is None:
            if not self.reference_buffer:
                raise ValueError("there are no frames to make a reference from: give some, or call with frames first")
            frames = np.stack([_with_channels(frame) for frame in self.reference_buffer])
        frames = np.asarray(frames)
        if frames.ndim == 4:
            options = OFOptions(**{**dict(self.options), "quality_setting": QualitySetting.BALANCED})
            frames = compensate_arr(frames, frames.mean(axis=0), options)[0].mean(axis=0)
        self.reference_raw = _with_channels(frames)
        self.last_flow = None
        self.close()
        self._live = LiveRegistration(
            self.options.to_pyflow(
                input_file=None, bin_size=1, update_reference=True, buffer_size=self.reference_update_interval
            ),
            reference=self.reference_raw,
            n_first=0,
            max_latency_ms=None,
        )

    def reset_reference(self, new_reference: np.ndarray) -> None:
        """Register to another image from now on."""
        self.set_reference(new_reference)

    def __call__(self, frame: np.ndarray, normalize: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Return a frame, registered (H, W, C), and its displacement (H, W, 2); as it is without a reference."""
        frame = np.asarray(frame)
        if self._live is None:
            self.reference_buffer.append(frame.copy())
            return frame, np.zeros((*frame.shape[:2], 2), np.float32)
        self.frame_count += 1
        registered, self.last_flow = self._live.register(_with_channels(frame))
        return registered, self.last_flow

    def register_frames(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return frames (T, H, W, C), registered one after the other, and their displacements (T, H, W, 2)."""
        registered, fields = zip(*(self(frame) for frame in frames), strict=True)
        return np.stack(registered), np.stack(fields)

    def get_current_flow(self) -> np.ndarray | None:
        """Return the displacement of the last frame."""
        return None if self.last_flow is None else self.last_flow.copy()

    def set_flow_init(self, w_init: np.ndarray) -> None:
        """Say that the next frame does not start from `w_init`."""
        differs("FlowRegLive, set_flow_init: each frame starts from those before; the field is not used")

    def close(self) -> None:
        """Let go of the threads."""
        if self._live is not None:
            self._live.close()
            self._live = None


def _with_channels(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else image[..., np.newaxis]
