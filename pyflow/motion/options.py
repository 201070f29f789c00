"""How a recording is registered: one immutable, checked set of values, named as in Flow-Registration."""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from pyflow._help import Checked, did_you_mean, one_line, short_help
from pyflow.flow.backends import get_backend
from pyflow.flow.parameters import SCHEDULES, FlowParameters, level_of
from pyflow.io import ReaderOptions, VideoReader
from pyflow.io.atomic import replacing
from pyflow.motion.foreign import read_options
from pyflow.motion.option_types import (
    SLICE,
    Alpha,
    Bidiphase,
    Channels,
    Constancy,
    Execution,
    GncSchedule,
    GridSpacing,
    Later,
    OutputFormat,
    Preprocess,
    ReducedSize,
    ReferenceFrames,
    Sigma,
    Sigmas,
    Weight,
    absent_by_default,
    can_change_result,
    within,
)
from pyflow.motion.weights import channel_weights


def _by_one_name(fields: dict[str, Any]) -> dict[str, Any]:
    """Return options with `const_assumption` under its first name, unless both of its names are there."""
    if "const_assumption" in fields:
        return fields
    return {{"constancy_assumption": "const_assumption"}.get(name, name): value for name, value in fields.items()}


@short_help
class OFOptions(Checked):
    """Options of a registration; names and defaults follow Flow-Registration's OF_options.

    >>> options = OFOptions(input_file="day1.tif", output_path="day1", alpha=4, quality_setting="fast")
    >>> options.replace(alpha=8).alpha
    8.0

    Values are checked when the object is made and cannot be changed afterwards; `replace` makes a changed
    copy. Fields whose type is `Execution` (paths, threads, compression) cannot change a number in the result;
    all others are part of its key.

    Parameters
    ----------
    input_file
        The recording: a file, a folder of images, several files (see `reader`), an array (T, H, W) or (T, H, W, C), or
        an open reader. Needed by `compensate_recording`.
    reader
        What the files do not say, or which part of them to read: fields of `pyflow.io.ReaderOptions`, such as
        ``{"n_channels": 2}``, ``{"axes": "HWT"}`` or ``{"plane": 0}``.
    output_path
        Folder the results are written to.
    output_format
        Format of the registered movie: ``"HDF5"``; ``"TIFF"``, as ImageJ writes it; ``"MAT"``, MATLAB's version 7.3,
        or ``"MAT7"``, version 7, which Octave reads too; ``"CAIMAN_HDF5"``, with CaImAn's name of the data set;
        ``"MULTIFILE_HDF5"``, ``_TIFF``, ``_MAT`` and ``_MAT7``, a file for each channel;
        ``"ZARR"``, a folder of version 2; ``"SUITE2P"``, ``data.bin`` with sizes in ``ops.npy``; ``"ARRAY"``, in
        memory, as `RecordingResult.registered`; ``"NULL"`` for none. Only HDF5 can be continued after an interruption;
        the others begin anew, and say so.
    output_file_name
        File name of the registered movie in `output_path`. None: as `naming_convention` says.
    naming_convention
        ``"default"``: the movie is called ``compensated``, with the format's suffix; ``"batch"``:
        ``<input>_compensated``, so that movies of several recordings can share a folder. Its other files have the same
        names always.
    output_typename
        Data type of the registered movie, as numpy (``"uint16"``, ``"float32"``) or MATLAB (``"double"``,
        ``"single"``) names it. None: the input's. Values are rounded and clipped where it is an integer type.
    compression
        How HDF5, Zarr and MATLAB's version 7.3 are compressed, without loss. ``"gzip"`` is read everywhere, ``"lzf"``
        by h5py, ``"lz4"``, ``"zstd"`` and ``"blosc"`` where hdf5plugin is installed. None: not compressed, but for the
        masks in ``idx.hdf``, which ``"gzip"`` makes two hundred times as small.
    channel_idx
        Channels of the input to use, counted from 0. None: all.
    alpha
        Weight of the smoothness term: one value, or (x, y); larger is smoother. ``"auto"``: found from the
        recording's noise, see `pyflow.motion.noise`. The toolbox's default is 1.5.
    weight
        Weight of each channel in the data term, scaled to a sum of 1; a channel without one gets 1 / (number
        of channels), and weights beyond the last channel are ignored. Or a map (H, W) or (H, W, C), as an array or as
        the path of an ``.npy`` file; of an image, such as a mask drawn in Fiji, the largest value stands for 1.
    levels
        Largest number of pyramid levels.
    min_level
        Finest pyramid level that is solved; 0 is full resolution. Wins over `quality_setting`. None, or
        the toolbox's -1: as `quality_setting` says.
    quality_setting
        Preset. Where `alpha` is ``"auto"`` and neither `eta`, `iterations` nor `min_level` is given, it stands for all
        three (`pyflow.flow.parameters.SCHEDULES`). Otherwise it stands for `min_level`, as in the toolbox:
        ``"quality"`` 0, ``"balanced"`` 4, ``"fast"`` 6. ``"custom"`` says that `min_level` is given.
    eta
        Ratio of the sizes of two successive pyramid levels. None: as `quality_setting` says, or the toolbox's 0.8.
        1: no pyramid, but `levels` rounds at full resolution, which are slow.
    update_lag
        Iterations between two updates of the nonlinear weights.
    warping_steps
        How often each level warps the image anew and solves for what is left. None: once.
    iterations
        Iterations of the solver on each level. None: as `quality_setting` says, or the toolbox's 50.
    grid_spacing
        Size of a cell of the grid that the flow is solved for on; images keep their resolution. 1 is the toolbox's
        method. ``"auto"``: as coarse as `alpha` allows, up to 4, see
        `pyflow.flow.parameters.auto_grid_spacing`. Unit: pixels.
    a_smooth, a_data
        Exponents of the penalties of the smoothness and of the data term; 1 is quadratic.
    gnc_schedule
        Graduated non-convexity: how robust the penalties are from the coarsest to the finest level, 0 (quadratic)
        to 1 (`a_smooth`, `a_data`), such as ``(0, 1)``; see `pyflow.flow.displacement.get_displacement`. None: as
        robust on all levels.
    const_assumption
        What stays constant along the motion: the image's gradient, ``"gc"``, its grey value, ``"gray"``, or which
        neighbours of a pixel are brighter, ``"census"``. Also read as ``constancy_assumption``, and as ``"gradient"``,
        ``"brightness"`` and ``"cs"``.
    flow_backend, backend_params
        Which implementation computes the flow, see `pyflow.flow.backends`, and parameters of its own.
    preprocess
        A function that is called with each frame, or the mean of it and its neighbours where `sigma` filters in time,
        and with the reference: (H, W, C) in grey values. What it returns, of the same shape, is what the flow sees; the
        frames that are written stay as recorded. It is called from several threads. Its result must depend on nothing
        but its argument. As a function cannot be compared with that of an earlier run, nothing is resumed with one, and
        a session takes none.
    sigma
        Standard deviations (sx, sy, st) of the Gaussian filter before the flow:
        one row for all channels, or a row for each; a channel without one takes the first. An st below 0.125
        filters nothing. Unit: pixels, pixels and frames.
    channel_normalization
        Scale grey values by the smallest and largest value of the reference over all channels, ``"joint"``,
        or of each channel by its own, ``"separate"``.
    bin_size
        Number of successive frames averaged into one before anything else. Unit: frames.
    bidiphase
        How far the odd lines of frames that were scanned in both directions are moved to the right before
        anything else, as in suite2p; ``"auto"``: found in the recording. Unit: pixels.
    buffer_size
        Frames of a batch. All frames of a batch start from the same flow (`update_initialization_w`) and use
        the same reference (`update_reference`); interrupted runs go on from the end of a batch. Memory does
        not depend on it. Unit: frames.
    update_initialization_w
        Start the flow of each batch from the mean flow at the end of the batch before (the first: of its
        first frames). False: start from zero.
    update_reference
        After each batch, make the mean of its last registered frames the reference.
    temporal_coherence
        Let the frames before and after (of the same batch) inform each frame's deformation, as far as the recording's
        noise asks for it and the motion allows it, see `pyflow.motion.coherence`. None: if `alpha` is ``"auto"``.
    max_displacement
        Frames in which a pixel would be displaced by more are not registered but marked. None: no limit. Unit: pixels.
    cc_initialization
        Find each frame's rigid shift by phase cross-correlation first; the flow finds what remains.
    cc_hw
        For that, images are reduced to at most this many pixels per side, or to at most (rows, columns). Unit: pixels.
    cc_up
        For that, how finely the reduced image is shifted. Unit: steps per pixel.
    reference_frames
        Frames, counted from 0, whose mean after registration among themselves is the reference:
        ``"first:stop"`` as in Python, or a list. A range that ends after the recording is moved back into it.
        Or the reference itself, as an array (H, W) or (H, W, C) or as the path of an image (``.npy``, or a movie that
        is averaged). With ``alpha="auto"`` the image is sharpened where the recording says that this helps, see
        `pyflow.motion.refinement`.
    n_references
        For a recording that drifts between states, such as two depths: so many references, the first as
        `reference_frames` says, the others from frames of all the recording that look otherwise; see
        `pyflow.motion.states`. They are registered among each other, and each frame to the one that it resembles most.
        Not together with `update_reference`.
    min_frames_per_reference
        A further reference is made of at least so many, rounded up to stretches of 5. Unit: frames.
    interpolation_method
        Interpolation of the frames when they are warped: ``"cubic"``, ``"linear"`` or ``"nearest"``.
    save_w
        Write the displacement fields, ``w.hdf``.
    save_valid_idx
        Write which pixels of each frame are valid, ``idx.hdf``.
    save_valid_mask
        Write which pixels are valid in all registered frames, ``valid_mask.npy`` and ``.mat``.
    save_meta_info
        Write ``reference_frame`` and ``statistics``, each as numpy and MATLAB file.
    n_workers
        Number of threads; 0 for all that this process may use.

    Raises
    ------
    pydantic.ValidationError
        An option is unknown or its value out of range; a `ValueError` whose message names field, rule and
        value.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True, arbitrary_types_allowed=True
    )

    input_file: Execution[Path | tuple[Path, ...] | np.ndarray | VideoReader | None] = None
    reader: Later[ReaderOptions] = ReaderOptions()
    output_path: Execution[Path] = Path("results")
    output_format: OutputFormat = "HDF5"
    output_file_name: Execution[str | None] = None
    naming_convention: Execution[Literal["default", "batch"]] = "default"
    output_typename: str | None = None
    compression: Execution[Literal["gzip", "lzf", "lz4", "zstd", "blosc"] | None] = None
    channel_idx: Channels | None = None

    alpha: Alpha = "auto"
    weight: Weight = (0.5, 0.5)
    levels: Annotated[int, within("levels")] = 100
    min_level: Annotated[int, within("min_level")] | None = None
    quality_setting: Literal["quality", "balanced", "fast", "custom"] = "quality"
    eta: Annotated[float, within("eta")] | None = None
    update_lag: Annotated[int, within("update_lag")] = 5
    warping_steps: Later[Annotated[int, within("warping_steps")] | None] = None
    iterations: Annotated[int, within("iterations")] | None = None
    grid_spacing: GridSpacing = "auto"
    a_smooth: Annotated[float, within("a_smooth")] = 1.0
    a_data: Annotated[float, within("a_data")] = 0.45
    gnc_schedule: GncSchedule | None = None
    const_assumption: Constancy = "gc"
    flow_backend: str = "flowreg"
    backend_params: dict[str, JsonValue] = Field(default_factory=dict)

    preprocess: Later[Preprocess | None] = None
    sigma: Sigmas = ((1.0, 1.0, 0.1), (1.0, 1.0, 0.1))
    channel_normalization: Literal["joint", "separate"] = "joint"
    bin_size: PositiveInt = 1
    bidiphase: Bidiphase = 0
    buffer_size: PositiveInt = 400
    update_initialization_w: bool = True
    update_reference: bool = False
    temporal_coherence: bool | None = None
    max_displacement: PositiveFloat | None = None
    cc_initialization: bool = False
    cc_hw: ReducedSize = 256
    cc_up: PositiveInt = 1
    reference_frames: ReferenceFrames = "50:500"
    n_references: Later[Annotated[int, Field(ge=1, le=255)]] = 1
    min_frames_per_reference: Later[PositiveInt] = 20
    interpolation_method: Literal["cubic", "linear", "nearest"] = "cubic"

    save_w: bool = False
    save_valid_idx: bool = True
    save_valid_mask: Later[bool] = False
    save_meta_info: bool = True
    n_workers: Execution[NonNegativeInt] = 0

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data, known = _by_one_name(data), [*cls.model_fields, "constancy_assumption"]
            if "constancy_assumption" in data:
                raise ValueError("const_assumption and constancy_assumption are two names of one option: give one")
            for name in data:
                if name not in known:
                    raise ValueError(f"unknown option {name!r}{did_you_mean(name, known)}")
        return data

    @field_validator("min_level", mode="before")
    @classmethod
    def _toolbox_preset_marker(cls, value: Any) -> Any:
        return None if value == -1 else value

    @field_validator("output_typename")
    @classmethod
    def _numeric_type(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                dtype = np.dtype(value)
            except TypeError:
                dtype = None
            if dtype is None or dtype.kind not in "uif":
                raise ValueError(f"expected an integer or floating type such as 'uint16' or 'single', found {value!r}")
        return value

    @field_validator("output_file_name")
    @classmethod
    def _bare_name(cls, value: str | None) -> str | None:
        if value is not None and Path(value).name != value:
            raise ValueError(f"expected a file name without a folder, found {value!r}; the folder is output_path")
        return value

    @model_validator(mode="after")
    def _custom_needs_level(self) -> "OFOptions":
        if self.quality_setting == "custom" and self.min_level is None:
            raise ValueError("quality_setting 'custom' needs min_level")
        return self

    @model_validator(mode="after")
    def _references_stay(self) -> "OFOptions":
        if self.n_references > 1 and self.update_reference:
            raise ValueError(
                f"n_references {self.n_references} with update_reference: expected only one of the two; n_references "
                "is for a recording that goes between states, update_reference for one that changes slowly"
            )
        return self

    @model_validator(mode="after")
    def _supported_flow(self) -> "OFOptions":
        backend = get_backend(self.flow_backend, **self.backend_params)
        reason = backend.unsupported(self._flow(alpha=1.0 if self.alpha == "auto" else self.alpha))
        if reason:
            raise ValueError(f"flow_backend {self.flow_backend!r}: {reason}")
        return self

    def flow(self) -> FlowParameters:
        """Return the parameters of one flow.

        Raises
        ------
        ValueError
            `alpha` is ``"auto"``: that is a question to a recording, see `pyflow.motion.noise`.
        """
        return self._flow(self.alpha)

    def _flow(self, alpha: Any) -> FlowParameters:
        names = ("eta", "iterations", "warping_steps")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return FlowParameters(
            alpha=alpha,
            update_lag=self.update_lag,
            min_level=level_of(self.quality_setting, self.min_level),
            levels=self.levels,
            **given,
            grid_spacing=self.grid_spacing,
            a_smooth=self.a_smooth,
            a_data=self.a_data,
            gnc_schedule=self.gnc_schedule,
            const_assumption=self.const_assumption,
        )

    @property
    def scheduled(self) -> bool:
        """Whether `quality_setting` stands for one of `pyflow.flow.parameters.SCHEDULES`."""
        return self.alpha == "auto" and self.eta is None and self.iterations is None and self.min_level is None

    def with_alpha(self, alpha: float | tuple[float, float]) -> "OFOptions":
        """Return these options with the smoothness that a recording asks for, and the schedule of ``"auto"``."""
        schedule = SCHEDULES[self.quality_setting]._asdict() if self.scheduled else {}
        return self.replace(alpha=alpha, **schedule)

    @property
    def input_name(self) -> str:
        """What `input_file` is called in messages."""
        if isinstance(self.input_file, VideoReader):
            return str(self.input_file.path or "video in memory")
        if isinstance(self.input_file, tuple):
            return f"{self.input_file[0]} and {len(self.input_file) - 1} more"
        return "video in memory" if isinstance(self.input_file, np.ndarray) else str(self.input_file)

    @property
    def coherent(self) -> bool:
        """Whether frames inform each other: `temporal_coherence`, with its default."""
        return self.alpha == "auto" if self.temporal_coherence is None else self.temporal_coherence

    @property
    def reference_slice(self) -> slice | None:
        """`reference_frames` as a slice, where it is one."""
        if isinstance(self.reference_frames, str) and SLICE.fullmatch(self.reference_frames):
            return slice(*(int(part) if part else None for part in self.reference_frames.split(":")))
        return None

    @property
    def reference_path(self) -> Path | None:
        """`reference_frames` as the path of an image, where it is one."""
        if isinstance(self.reference_frames, str) and self.reference_slice is None:
            return Path(self.reference_frames)
        return None

    @property
    def gives_reference(self) -> bool:
        """Whether `reference_frames` is the reference itself, an array or the path of an image."""
        return isinstance(self.reference_frames, np.ndarray) or self.reference_path is not None

    def channel_weights(self, shape: tuple[int, int, int]) -> np.ndarray:
        """Return the weights of the channels.

        Parameters
        ----------
        shape
            (H, W, C) of the recording's frames.

        Returns
        -------
        ndarray
            float32 (C,) with sum 1, or the map (H, W, C) that `weight` is or names.

        Raises
        ------
        ValueError
            All weights are zero, one is negative or not finite, or the map has another shape; the message names the
            file.
        """
        return channel_weights(self.weight, shape)

    def in_space_only(self) -> "OFOptions":
        """Return these options without the filter in time, for frames that are looked at one by one."""
        return self.replace(sigma=tuple((sx, sy, 0.0) for sx, sy, _ in self.sigma))

    def channel_sigma(self, channel: int) -> Sigma:
        """Return (sx, sy, st) of a channel, counted from 0."""
        return self.sigma[channel] if channel < len(self.sigma) else self.sigma[0]

    def result_fields(self) -> dict[str, Any]:
        """Return the options that can change the result, as JSON-able values.

        Files named by options are represented by a hash of their content.

        Raises
        ------
        OSError
            A file named by `weight` or `reference_frames` cannot be read.
        """
        in_memory = self._in_memory()
        values = self.model_dump(mode="json", exclude={"input_file", "preprocess", *in_memory})
        values["reader"] = {
            name: value for name, value in self.reader.given().items() if name not in ("frame_rate", "buffer_size")
        }
        for name, path in (("weight", self.weight), ("reference_frames", self.reference_path)):
            if isinstance(path, Path):
                with open(path, "rb") as file:
                    values[name] = {"blake2b": hashlib.file_digest(file, "blake2b").hexdigest()}
        for name, array in in_memory.items():
            shown = f"{array.shape} {array.dtype.str} ".encode()
            values[name] = {"blake2b": hashlib.blake2b(shown + array.tobytes()).hexdigest()}
        if self.preprocess is not None:  # only a name: see there why nothing is resumed
            values["preprocess"] = getattr(self.preprocess, "__qualname__", type(self.preprocess).__qualname__)
        return {
            name: values[name]
            for name, field in type(self).model_fields.items()
            if can_change_result(field)
            and not (absent_by_default(field) and values.get(name) in (None, {}, field.get_default()))
        }

    def _in_memory(self) -> dict[str, np.ndarray]:
        """Return the images and maps that these options hold rather than name."""
        return {
            name: getattr(self, name)
            for name in ("weight", "reference_frames")
            if isinstance(getattr(self, name), np.ndarray)
        }

    def replace(self, **changes: Any) -> "OFOptions":
        """Return a copy with some options changed, checked like new ones."""
        return type(self)(**{**self.model_dump(), **_by_one_name(changes)})

    def to_json(self, path: str | os.PathLike) -> None:
        """Write all options to a JSON file, atomically.

        Images in memory go beside it: ``<name>_weight.npy`` and ``<name>_reference_frames.npy`` for ``<name>.json``.

        Raises
        ------
        ValueError
            `input_file` is in memory, or there is a function for `preprocess`.
        """
        path = Path(path)
        if self.input_file is not None and not isinstance(self.input_file, Path | tuple):
            raise ValueError(f"{path}: input_file is {self.input_name}, which no file of options can name")
        if self.preprocess is not None:
            raise ValueError(f"{path}: preprocess is a function, which no file of options can hold: leave it out")
        in_memory = self._in_memory()
        fields = self.model_dump(mode="json", exclude={"preprocess", *in_memory})
        for name, array in in_memory.items():
            beside = path.with_name(f"{path.stem}_{name}.npy")
            fields[name] = beside.name
            with replacing(beside) as temporary, open(temporary, "wb") as file:
                np.save(file, array)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(fields, indent=1), encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | os.PathLike, **changes: Any) -> "OFOptions":
        """Read options from a JSON file.

        Parameters
        ----------
        path
            A file as `to_json` writes it, or as pyflowreg or MATLAB's OF_options save theirs; options that it leaves
            out have their defaults. What cannot be honoured is logged with what that means, see
            `pyflow.motion.foreign`.
        **changes
            Options that override the file's.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            The file is not a JSON object, or an option is unknown or out of range; the message names the
            file.
        """
        fields = {**_by_one_name(read_options(path)), **_by_one_name(changes)}
        try:
            return cls(**fields)
        except ValidationError as error:
            raise ValueError(f"{path}: {one_line(error)}") from None


def checked_options(options: OFOptions) -> OFOptions:
    """Return options, or say what was given in their place.

    Raises
    ------
    TypeError
        They are something else.
    """
    if isinstance(options, OFOptions):
        return options
    written = "**options" if isinstance(options, dict) else "..."
    raise TypeError(f"options: expected pyflow.OFOptions, found {type(options).__name__}; pyflow.OFOptions({written})")
