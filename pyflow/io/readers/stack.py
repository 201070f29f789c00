"""Videos in arrays on disk, of any axes: one array with everything, or one per channel."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.io.readers.axes import Layout, axes_by_rule, normal_axes, time_is_last
from pyflow.io.readers.video import VideoReader

_PAIRS = 8  # of frames, by which time is told from rows


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
        name = f"{path}: {first}"
        if 0 in shape:
            raise ValueError(f"{name} has shape {shape}: it holds no frames")
        shown = shape[::-1] if matlab else shape
        if axes is not None:
            letters, where = normal_axes(axes, name), f"axes={axes!r}, as given"
        else:
            letters, where = found or axes_by_rule(shown, name, matlab=matlab)
        self._guessed, self._matlab = axes is None and found is None, matlab
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
        """Refuse axes that only a rule gave, where the images themselves say that time is another.

        Raises
        ------
        ValueError
            They do; the message names the option that decides.
        """
        axes = self._layout.axes
        if not self._guessed or axes[0] != "T" or len(self) < 2 * _PAIRS:
            return
        first = np.linspace(0, len(self) - 2, _PAIRS).astype(int)
        slices = self._read(np.stack([first, first + 1], axis=1).ravel())[..., 0]
        if axes.replace("C", "") == "TWH":  # as they lie in the file
            slices = slices.transpose(0, 2, 1)
        if time_is_last(slices):
            shown = axes[::-1] if self._matlab else axes
            shape = self._layout.shape[::-1] if self._matlab else self._layout.shape
            letters = iter({"THW": "HWT", "HWT": "THW"}[shown.replace("C", "")])
            other = "".join("C" if letter == "C" else next(letters) for letter in shown)
            raise ValueError(
                f"{self.path}: {self._names[0]} of shape {shape} as {shown}: "
                f'what would be frames look like rows of an image, improbable; say axes="{other}" or axes="{shown}"'
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
