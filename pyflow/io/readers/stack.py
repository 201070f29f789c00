"""Videos in arrays on disk, of any axes: one array with everything, or one per channel."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.io.readers.axes import Layout, axes_by_rule, neighbours, normal_axes, other_order, time_axis
from pyflow.io.readers.video import VideoReader

# Of what is in a file without a video, so much is named in a message.
_LISTED = 5


class StackReader(VideoReader):
    """What readers of arrays have in common; a format implements `_take` and calls `_lay_out`."""

    _layout: Layout
    _names: Sequence[str]

    @abstractmethod
    def _take(self, name: str, key: tuple[Any, ...]) -> np.ndarray:
        """Index an array of the file as `Layout.take` does."""

    def _lay_out(
        self,
        path: Path,
        shapes: Mapping[str, tuple[int, ...]],
        dtypes: Mapping[str, np.dtype],
        axes: str | None,
        found: tuple[str, str] | None,
        plane: int | None,
        *,
        matlab: bool = False,
    ) -> None:
        """Say which axis is what.

        Parameters
        ----------
        path
            The file.
        shapes, dtypes
            Of the arrays, by name: one per channel, or one alone.
        axes
            As the user says, or None.
        found
            Axes as the file says, and where, or None.
        plane
            Which plane to read.
        matlab
            The axes are in MATLAB's order, and the arrays' in the reverse.
        """
        self.path, self._names = path, list(shapes)
        first = self._names[0]
        shape, self.dtype = shapes[first], np.dtype(dtypes[first]).newbyteorder("=")
        for other in self._names[1:]:
            if shapes[other] != shape or dtypes[other] != dtypes[first]:
                raise ValueError(
                    f"{path}: channels differ: {first} is {shape} {dtypes[first]}, "
                    f"{other} is {shapes[other]} {dtypes[other]}"
                )
        if self.dtype.kind not in "buif":
            raise ValueError(f"{path}: {first} has dtype {self.dtype}, expected real numbers")
        name = str(path) if first == path.name else f"{path}: {first}"
        if 0 in shape:
            raise ValueError(f"{name} has shape {shape}: it holds no frames")
        shown = shape[::-1] if matlab else shape
        if axes is not None:
            letters, where, doubt = normal_axes(axes, name), f"axes={axes!r}, as given", []
        else:
            letters, where, *doubt = found or axes_by_rule(shown, name, matlab=matlab)
        self._guessed, self._matlab, self._doubt = bool(doubt), matlab, "".join(doubt)
        self._layout = Layout.of(shown, letters, plane, name)
        if len(self._names) > 1 and "C" in letters:
            raise ValueError(f"{path}: {', '.join(self._names)} with axes {letters}, expected one, or each a channel")
        if matlab:
            self._layout = Layout(letters[::-1], shape, self._layout.plane)
        video = self._layout.video_shape
        self.shape = video if len(self._names) == 1 else (*video[:3], len(self._names))
        self.n_planes, self.plane = self._layout.n_planes, self._layout.plane
        self.origin = {"axes": where, "array": ", ".join(self._names)}

    def _check_guess(self) -> None:
        """Look at the images where only a rule gave the axes.

        Raises
        ------
        ValueError
            They show that time is another axis, or the shape is improbable and they show nothing; the message names the
            option that decides.
        """
        if not self._guessed:
            return
        axes, time = self._layout.axes, 1
        if axes[0] == "T":
            slices = self._read(neighbours(len(self)))[..., 0]
            # With rows and columns as they lie in the file.
            time = time_axis(slices.transpose(0, 2, 1) if axes.index("W") < axes.index("H") else slices)
        if time == 1 and self._doubt:
            raise ValueError(self._doubt)
        if time == -1:
            shown, shape = (axes[::-1], self._layout.shape[::-1]) if self._matlab else (axes, self._layout.shape)
            raise ValueError(
                self._doubt
                or f"{self.path}: {self._names[0]} of shape {shape} as {shown}: what would be frames look like rows of "
                f'an image, improbable; say axes="{other_order(shown)}", or axes="{shown}" if it is right'
            )

    def _read(self, indices: np.ndarray) -> np.ndarray:
        out = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for channel, name in enumerate(self._names):
            frames = self._layout.take(indices, lambda key, name=name: self._take(name, key))
            if len(self._names) == 1:
                out[...] = frames
            else:
                out[..., channel] = frames[..., 0]
        return out


def list_found(videos: Mapping[str, object], others: Mapping[str, object]) -> str:
    """List what may be the video, or else some of what is there instead; each by its name, with its shape."""
    if videos or not others:
        return ", ".join(f"{name or 'array'} {shape}" for name, shape in videos.items()) or "none"
    return "none, only " + ", ".join(f"{name or 'array'} {shape}" for name, shape in list(others.items())[:_LISTED])
