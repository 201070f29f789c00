"""pyflowreg's `OFOptions`: its fields, defaults and forms, and what they are called in `pyflow.OFOptions`."""

import json
import os
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

import pyflow
from pyflow._help import Checked, did_you_mean, one_line
from pyflow.compat.pyflowreg import backends
from pyflow.compat.pyflowreg.names import differs
from pyflow.compat.pyflowreg.video import get_video_file_reader, get_video_file_writer
from pyflow.compat.pyflowreg.words import (
    ChannelNormalization,
    ConstancyAssumption,
    InterpolationMethod,
    NamingConvention,
    OutputFormat,
    QualitySetting,
    constancy,
    warping_steps,
)
from pyflow.flow.parameters import level_of
from pyflow.io import VideoReader, VideoWriter
from pyflow.io.atomic import replacing
from pyflow.motion.foreign import read_options, translated
from pyflow.motion.frames import FrameSource
from pyflow.motion.reference import find_reference

# Options that compute a flow themselves.
_FUNCTIONS = ("get_displacement_impl", "get_displacement_factory")


def _pair(value: Any) -> Any:
    """Return (x, y) for one number."""
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(values) * 2 if len(values) == 1 else tuple(values)


def _rows(value: Any) -> Any:
    """Return a list of (sx, sy, st), of one where one is given."""
    rows = np.asarray(value, float)
    return (rows[np.newaxis] if rows.ndim == 1 else rows).tolist()


def _weights(value: Any) -> Any:
    """Return weights of channels as a list with sum 1; maps stay what they are."""
    if np.ndim(value) != 1:
        return value
    weights = np.asarray(value, float)
    return (weights / weights.sum() if weights.sum() > 0 else weights).tolist()


def _constancy(value: Any) -> Any:
    theirs = {"census": "cs"}
    return theirs.get(constancy(value), constancy(value)) if isinstance(value, str) else value


class Changeable(Checked):
    """Values that can be changed, are checked again when they are, and stay what they were where that fails."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, arbitrary_types_allowed=True)

    def __setattr__(self, name: str, value: Any) -> None:
        before = dict(self.__dict__)
        try:
            super().__setattr__(name, value)
        except ValidationError:
            self.__dict__.update(before)
            raise


class OFOptions(Changeable):
    """Options under pyflowreg's names, with its defaults; they can be changed, and are checked again when they are.

    `to_pyflow` returns what pyflow is asked for.

    Raises
    ------
    pydantic.ValidationError
        An option is unknown or its value not one that pyflow can use.
    """

    input_file: Any = None
    output_path: Path = Path("results")
    output_format: OutputFormat = OutputFormat.MAT
    output_file_name: str | None = None
    channel_idx: list[int] | None = None
    alpha: Annotated[tuple[float, float], BeforeValidator(_pair)] = (1.5, 1.5)
    weight: Annotated[Any, BeforeValidator(_weights)] = Field(default_factory=lambda: [0.5, 0.5])
    levels: int = 100
    min_level: int = -1
    quality_setting: QualitySetting = QualitySetting.QUALITY
    eta: float = 0.8
    update_lag: int = 5
    iterations: int = 50
    a_smooth: float = 1.0
    a_data: float = 0.45
    gnc_schedule: tuple[float, ...] | None = None
    warping_steps: int | None = None
    sigma: Annotated[list[list[float]], BeforeValidator(_rows)] = Field(
        default_factory=lambda: [[1.0, 1.0, 0.1], [1.0, 1.0, 0.1]]
    )
    bin_size: int = 1
    buffer_size: int = 400
    reference_frames: list[int] | np.ndarray | Path | str = Field(default_factory=lambda: list(range(50, 500)))
    update_reference: bool = False
    n_references: int = 1
    min_frames_per_reference: int = 20
    verbose: bool = False
    save_meta_info: bool = True
    save_w: bool = False
    save_valid_mask: bool = False
    save_valid_idx: bool = False
    output_typename: str | None = "double"
    channel_normalization: ChannelNormalization = ChannelNormalization.JOINT
    interpolation_method: InterpolationMethod = InterpolationMethod.CUBIC
    cc_initialization: bool = False
    cc_hw: int | tuple[int, int] = 256
    cc_up: int = 1
    update_initialization_w: bool = True
    naming_convention: NamingConvention = NamingConvention.DEFAULT
    constancy_assumption: Annotated[ConstancyAssumption, BeforeValidator(_constancy)] = ConstancyAssumption.GRADIENT
    flow_backend: str = "flowreg"
    backend_params: dict[str, Any] = Field(default_factory=dict)
    preproc_funct: Callable[..., Any] | None = Field(None, exclude=True)
    get_displacement_impl: Callable[..., Any] | None = Field(None, exclude=True)
    get_displacement_factory: Callable[..., Any] | None = Field(None, exclude=True)

    _preset: QualitySetting = PrivateAttr(QualitySetting.QUALITY)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        unknown = [name for name in data if name not in cls.model_fields] if isinstance(data, dict) else []
        if unknown:
            raise ValueError(
                "; ".join(f"unknown option {name!r}{did_you_mean(name, cls.model_fields)}" for name in unknown)
            )
        return data

    @model_validator(mode="after")
    def _settle(self) -> "OFOptions":
        """Keep preset and finest level in step, name what is not as in pyflowreg, and let pyflow check the rest."""
        if self.quality_setting != QualitySetting.CUSTOM:
            self._preset = self.quality_setting
        preset = QualitySetting.CUSTOM if self.min_level >= 0 else self._preset
        self.__dict__["quality_setting"] = preset  # past validate_assignment, which leads here
        if self.output_format == OutputFormat.CAIMAN_HDF5:
            differs("output_format 'CAIMAN_HDF5': one file has all channels, as mov, mov_ch2 ..., not a file for each")
        if self.output_file_name:
            differs("output_file_name: the movie is written into output_path, whatever the working folder is")
        try:
            self._native(checking=True)
        except ValidationError as error:
            raise ValueError(one_line(error)) from None
        return self

    def to_pyflow(self, **changes: Any) -> pyflow.OFOptions:
        """Return the same options as pyflow names them.

        Parameters
        ----------
        **changes
            Options of `pyflow.OFOptions` that go before these.
        """
        return self._native(**changes)

    def _native(self, *, checking: bool = False, **changes: Any) -> pyflow.OFOptions:
        given = dict(self) | {
            "bin_size": 1 if isinstance(self.input_file, VideoReader) else self.bin_size,  # a reader has its own
            "input_file": None if checking else self.input_file,
            "min_level": self.effective_min_level,
            "output_file_name": self.output_file_name or (None if checking else self._movie_name()),
            "output_format": str(self.output_format),
            "output_typename": None,
            "reference_frames": _frames(self.reference_frames),
            "warping_steps": warping_steps(self.warping_steps, self.gnc_schedule),
        }
        for name in ("naming_convention", "quality_setting", *_FUNCTIONS):  # they are in the names and the level
            del given[name]
        if self.get_displacement_impl is not None:
            given |= {"flow_backend": backends.named(self.get_displacement_impl, makes=False), "backend_params": {}}
        elif self.get_displacement_factory is not None:
            given["flow_backend"] = backends.named(self.get_displacement_factory, makes=True)
        fields, notes = translated(given, theirs=True)
        for note in notes:
            differs(note)
        return pyflow.OFOptions(**{**fields, "grid_spacing": 1, **changes})

    def _movie_name(self) -> str:
        name = f"compensated.{re.sub('MULTIFILE_|CAIMAN_', '', str(self.output_format))}"
        if self.naming_convention == NamingConvention.BATCH:
            source = getattr(self.input_file, "path", self.input_file)
            stem = Path(source).stem if isinstance(source, str | Path) else "output"
            return f"{stem}_{name}"
        return name

    @property
    def output_dtype(self) -> str | None:
        """`output_typename` as pyflow takes it; it counts for arrays, files keep the recording's type."""
        return self.output_typename or None

    @property
    def effective_min_level(self) -> int:
        """Finest level that is solved."""
        preset = self._preset if self.quality_setting == QualitySetting.CUSTOM else self.quality_setting
        return level_of(preset, None if self.min_level < 0 else self.min_level)

    def get_sigma_at(self, i: int) -> np.ndarray:
        """Return (sx, sy, st) of a channel, counted from 0; of one without a row the first."""
        return np.array(self.sigma[i] if i < len(self.sigma) else self.sigma[0])

    def get_weight_at(self, i: int, n_channels: int) -> np.ndarray:
        """Return the weight of a channel, counted from 0, of so many: a number, or a map (H, W)."""
        image = np.shape(self.weight)[:2] if np.ndim(self.weight) > 1 else (1, 1)
        return self.to_pyflow(input_file=None).channel_weights((*image, n_channels))[..., i]

    def copy(self) -> "OFOptions":
        """Return options that can be changed without changing these."""
        return self.model_copy(deep=True)

    def get_video_reader(self) -> VideoReader:
        """Open `input_file`, once: from then on it is the open reader."""
        if not isinstance(self.input_file, VideoReader):
            self.input_file = get_video_file_reader(self.input_file, self.buffer_size, self.bin_size)
        return self.input_file

    def get_video_writer(self) -> VideoWriter:
        """Create the file of the registered movie in `output_path`."""
        self.output_path.mkdir(parents=True, exist_ok=True)
        name = self.output_file_name or self._movie_name()
        return get_video_file_writer(self.output_path / name, self.output_format)

    def get_reference_frame(
        self, video_reader: VideoReader | None = None, registration_config: Any | None = None
    ) -> np.ndarray:
        """Return the raw reference that `reference_frames` describes, float64 (H, W, C)."""
        reader = self.get_video_reader() if video_reader is None else video_reader
        return find_reference(FrameSource(reader, self.channel_idx, 1), self.to_pyflow(input_file=None))

    def resolve_get_displacement(self) -> Callable[..., np.ndarray]:
        """Return what computes the flow of two images: a function of the options, or that of `flow_backend`."""
        if self.get_displacement_impl is not None:
            return self.get_displacement_impl
        return (self.get_displacement_factory or backends.get_backend(self.flow_backend))(**self.backend_params)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of `get_displacement`."""
        names = ("alpha", "weight", "levels", "eta", "iterations", "update_lag", "a_data", "a_smooth")
        return {
            **{name: getattr(self, name) for name in (*names, "gnc_schedule", "warping_steps")},
            "min_level": self.effective_min_level,
            "const_assumption": str(self.constancy_assumption),
        }

    def save_options(self, filepath: str | os.PathLike | None = None) -> None:
        """Write all options to a JSON file, under a line with the date.

        Without a name, it is ``options.json`` in `output_path`. A reference in memory goes into
        ``reference_frames.npy`` beside it.
        """
        path = self.output_path / "options.json" if filepath is None else Path(filepath)
        fields = self.model_dump(exclude={"reference_frames"}) | {"reference_frames": self.reference_frames}
        if isinstance(self.reference_frames, np.ndarray):
            fields["reference_frames"] = path.parent / "reference_frames.npy"
            with replacing(fields["reference_frames"]) as temporary, open(temporary, "wb") as file:
                np.save(file, self.reference_frames)
        with replacing(path) as temporary:
            text = json.dumps(fields, indent=2, default=_plain)
            temporary.write_text(f"Compensation options {date.today().isoformat()}\n\n{text}", encoding="utf-8")

    @classmethod
    def load_options(cls, filepath: str | os.PathLike) -> "OFOptions":
        """Read options that `save_options`, pyflowreg or the MATLAB toolbox wrote."""
        theirs = {"const_assumption": "constancy_assumption"}
        return cls(**{theirs.get(name, name): value for name, value in read_options(filepath).items()})


def _frames(frames: Any) -> Any:
    """Return frames that follow each other as ``"first:stop"``, which is moved back into a shorter recording."""
    if isinstance(frames, list) and len(frames) > 1 and frames == list(range(frames[0], frames[-1] + 1)):
        return f"{frames[0]}:{frames[-1] + 1}"
    return str(frames) if isinstance(frames, Path) else frames


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)
