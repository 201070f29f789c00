"""The configuration of a session, and the file that it is read from."""

import logging
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pyflow._help import Checked, did_you_mean, one_line, short_help
from pyflow.flow.backends import get_backend
from pyflow.flow.parameters import CONSTANCIES, FlowParameters
from pyflow.io import ReaderOptions
from pyflow.io.readers.formats import recording_name
from pyflow.layout import Fingerprint
from pyflow.motion.foreign import CONSTANCY_NAMES, read_options, translated
from pyflow.motion.options import OFOptions

logger = logging.getLogger(__name__)

AUTO_CENTER = "auto"

CONFIG_SUFFIXES = (".toml", ".yaml", ".yml")

# Keys whose further values come with later releases.
AVAILABLE = {
    "scheduler": ("local", "array", "dask"),
    "align_output_format": ("TIFF", "HDF5", "MAT", "MAT7", "CAIMAN_HDF5", "ZARR", "none"),
}


@short_help
class SessionConfig(Checked):
    """Everything that describes a session; immutable, checked when it is made.

    >>> config = SessionConfig(root="recordings", center="day2.tif", flow_options={"quality_setting": "fast"})
    >>> config.output_root.name
    'compensated_outputs'

    Parameters
    ----------
    root
        Folder with the recordings.
    pattern
        Glob below `root`, for example ``"*.tif"`` or ``"**/*.h5"``.
    center
        File name of the recording whose frame the others are aligned to. None: the middle one. ``"auto"``: the one
        whose average resembles the others' averages most.
    output_root, final_results
        Folders of the recordings' and of the session's results, absolute or relative to `root`.
    reader
        How the recordings are opened where their files do not say enough: a table ``[reader]`` with the fields of
        `pyflow.io.ReaderOptions`, such as ``n_channels``, ``axes``, ``plane``, ``frames`` or ``files``.
    resume
        Keep results that are complete and belong to today's inputs and options.
    fingerprint
        How files are compared with those of an earlier run. ``"quick"``: size, time of change, head and tail;
        ``"lenient"``: without the time, which some network file systems do not keep; ``"deep"``: all content.
        Stage 1 runs again when it changes.
    scheduler
        ``"local"``: this process does all recordings. ``"array"``: stage 1 does the one recording the job
        array's index names. ``"dask"``: workers on this machine do a recording each; for workers that are jobs of a
        cluster see `pyflow.session.dask`.
    n_workers
        Threads; 0 (or pyflowreg's -1) for all this process may use.
    memory_limit_gb
        Stage 3 takes no more; None for what suits it, which does not depend on the number of frames or of recordings.
        Unit: GiB.
    flow_backend, backend_params
        Which implementation computes the flow, and its parameters.
    flow_options
        Fields of `OFOptions` for stage 1, or the path of a JSON file holding them, also one that pyflowreg or MATLAB
        saved. Also read as ``of_options_override``.
    stage1_quality_setting
        ``"quality"``, ``"balanced"`` or ``"fast"``: `OFOptions.quality_setting`, where `flow_options` leaves it out.
    cc_upsample
        Stage 2: the rigid shift is found to 1 / `cc_upsample` pixel.
    sigma_smooth
        Stage 2: standard deviation of the Gaussian that smooths the averages; ``"auto"``: by their noise. Unit: pixels.
    alpha_between, iterations_between
        Stage 2: smoothness weight and iterations of the flow. ``"auto"``: see docs/alignment.md. Where both
        `sigma_smooth` and `alpha_between` are numbers, the averages are aligned as the toolbox's guide does it: a
        shift, then one flow.
    stage2_constancy_assumption
        Stage 2: what the flow takes to be constant, see `OFOptions.const_assumption`.
    use_not_alignable
        Stage 3: whether recordings that stage 2 calls not alignable count in the mask and are warped as well.
    align_chunk_size
        Stage 3: how much is in memory at a time. Unit: frames.
    align_output_format
        Stage 3: ``"TIFF"``, ``"HDF5"``, ``"MAT"`` (version 7.3), ``"MAT7"``, ``"CAIMAN_HDF5"``, ``"ZARR"``, or
        ``"none"`` for no aligned videos.
    valid_fraction
        Stage 3: a pixel counts as valid in a recording when it is valid in at least this fraction of its
        frames.
    absolute_paths
        Stage 3: ``final_valid_idx`` names files by absolute paths, for programs that open them as they stand, rather
        than relative to its own folder, which lets the results be moved.
    report
        Stage 3 ends with ``report.html``, where jinja2 and matplotlib are installed.

    Raises
    ------
    pydantic.ValidationError
        A key is unknown, or a value is out of range or not available in this release.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    root: Path
    pattern: str = Field("*.tif", min_length=1)
    reader: ReaderOptions = ReaderOptions()
    center: str | None = None
    output_root: Path = Path("compensated_outputs")
    final_results: Path = Path("final_results")
    resume: bool = True
    fingerprint: Fingerprint = "quick"
    scheduler: str = "local"
    n_workers: int = Field(0, ge=-1)
    memory_limit_gb: float | None = Field(None, gt=0, allow_inf_nan=False)
    flow_backend: str = "flowreg"
    backend_params: dict[str, JsonValue] = Field(default_factory=dict)
    flow_options: dict[str, JsonValue] = Field(default_factory=dict)
    stage1_quality_setting: Literal["quality", "balanced", "fast"] | None = None
    cc_upsample: int = Field(4, ge=1)
    sigma_smooth: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"] = "auto"
    alpha_between: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["auto"] = "auto"
    iterations_between: int = Field(100, ge=1)
    stage2_constancy_assumption: Annotated[
        Literal[CONSTANCIES], BeforeValidator(lambda value: CONSTANCY_NAMES.get(value, value))
    ] = "gc"
    align_chunk_size: int = Field(64, ge=1)
    align_output_format: str = "TIFF"
    valid_fraction: float = Field(1.0, gt=0, le=1)
    use_not_alignable: bool = False
    absolute_paths: bool = False
    report: bool = True

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if "of_options_override" in data:
            if "flow_options" in data:
                raise ValueError("flow_options and of_options_override are two names of one key: give one")
            data["flow_options"] = data.pop("of_options_override")
        unknown = [key for key in data if key not in cls.model_fields]
        if unknown:
            raise ValueError("; ".join(f"unknown key {key!r}{did_you_mean(key, cls.model_fields)}" for key in unknown))
        of_flow = {key: data.pop(key) for key in ("flow_backend", "backend_params") if data.get(key) is not None}
        return {**data, **_ours(of_flow)}

    @field_validator("pattern", mode="after")
    @classmethod
    def _relative_pattern(cls, value: str) -> str:
        if Path(value).is_absolute() or ".." in Path(value).parts:
            raise ValueError(f"expected a pattern relative to root and below it, found {value!r}")
        return value

    @field_validator("root", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("output_root", "final_results", mode="after")
    @classmethod
    def _below_root(cls, value: Path, info: ValidationInfo) -> Path:
        root = info.data.get("root")
        if root is None:  # its own error is on its way
            return value
        value = root / value.expanduser()
        if root.resolve().is_relative_to(value.resolve()):
            raise ValueError(f"{value} is or contains root ({root}), so results could not be told from recordings")
        return value

    @field_validator("scheduler", "align_output_format", mode="after")
    @classmethod
    def _available(cls, value: str, info: ValidationInfo) -> str:
        for choice in AVAILABLE[info.field_name]:
            if value.lower() == choice.lower():
                return choice
        choices = ", ".join(AVAILABLE[info.field_name])
        raise ValueError(f"{value!r} is not available in this release; available: {choices}")

    @field_validator("backend_params", mode="after")
    @classmethod
    def _known_backend(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "flow_backend" in info.data:  # else it is no name, which is said already
            get_backend(info.data["flow_backend"], **value)
        return value

    @field_validator("alpha_between", "iterations_between", mode="after")
    @classmethod
    def _flow_can_do(cls, value: float | str, info: ValidationInfo) -> float | str:
        if value != "auto":
            FlowParameters(**{info.field_name.removesuffix("_between"): value})
        return value

    @field_validator("flow_options", mode="before")
    @classmethod
    def _read_options_file(cls, value: Any) -> Any:
        if isinstance(value, str | Path):
            fields = read_options(value)
            of_the_session = [key for key in fields if key in OPTIONS_OF_THE_SESSION]
            usual = OFOptions().model_dump(mode="json", include=set(of_the_session))
            told = [key for key in of_the_session if fields[key] != usual[key]]
            if told:  # a file that was saved has all options
                logger.warning("%s: set by the session, and left out here: %s", value, ", ".join(told))
            return {key: fields[key] for key in fields if key not in of_the_session}
        if value is None:  # a key of a YAML file with nothing but comments below it
            return {}
        return _ours(value, "flow_options: ") if isinstance(value, dict) else value

    @field_validator("flow_options", mode="after")
    @classmethod
    def _valid_flow_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("save_valid_idx") is True:  # as it is anyway
            value = {key: value[key] for key in value if key != "save_valid_idx"}
        elif "save_valid_idx" in value:
            raise ValueError(
                f"save_valid_idx: expected true, stage 3 needs the masks, found {value['save_valid_idx']!r}"
            )
        for key in value:
            if key in OPTIONS_OF_THE_SESSION:
                raise ValueError(f"{key} is set by the session and cannot be given here")
        try:
            OFOptions(**value)
        except ValidationError as error:
            raise ValueError(one_line(error)) from None
        return value

    @classmethod
    def from_file(cls, path: str | Path) -> "SessionConfig":
        """Read a configuration, TOML or YAML by its suffix.

        Parameters
        ----------
        path
            A ``.toml``, ``.yaml`` or ``.yml`` file. A relative `root` in it is relative to the file's folder,
            and so are files that `flow_options` names there.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            There is no such file, or it is a folder.
        ValueError
            The file cannot be parsed, or a key or value is wrong; the message names the file and the key.
        """
        if Path(path).is_dir():
            raise IsADirectoryError(f"{path}: is a folder, expected a session's configuration, such as session.toml")
        suffix = Path(path).suffix.lower()
        if suffix in CONFIG_SUFFIXES:
            return cls.from_toml(path) if suffix == ".toml" else cls.from_yaml(path)
        raise ValueError(f"{path}: a session configuration ends in .toml, .yaml or .yml, found {suffix!r}")

    @classmethod
    def from_toml(cls, path: str | Path) -> "SessionConfig":
        """Read a TOML configuration; see `from_file`."""
        try:
            data = tomllib.loads(_read(path))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            hint = "; paths with a backslash stand in single quotes" if b"\\" in Path(path).read_bytes() else ""
            raise ValueError(f"{path}: not valid TOML: {error}{hint}") from error
        return cls._from_mapping(path, data)

    @classmethod
    def from_yaml(cls, path: str | Path) -> "SessionConfig":
        """Read a YAML configuration; see `from_file`."""
        try:
            data = yaml.safe_load(_read(path))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not valid YAML: {error}") from error
        return cls._from_mapping(path, data)

    @classmethod
    def _from_mapping(cls, path: str | Path, data: Any) -> "SessionConfig":
        if not isinstance(data, dict):
            raise ValueError(f"{path}: expected keys and values, found {type(data).__name__}")
        base = Path(path).absolute().parent
        for key in ("root", "flow_options", "of_options_override"):
            if isinstance(data.get(key), str):
                data[key] = base / Path(data[key]).expanduser()
            elif isinstance(data.get(key), dict):
                named = {name: data[key].get(name) for name in ("weight", "reference_frames")}
                paths = {name: path for name, path in named.items() if isinstance(path, str) and ":" not in path}
                data[key] = {**data[key], **{name: str(base / Path(paths[name]).expanduser()) for name in paths}}
        try:
            return cls(**data)
        except ValidationError as error:
            raise ValueError(f"{path}: {one_line(error)}") from None

    def replace(self, **changes: Any) -> "SessionConfig":
        """Return a copy with some keys changed, checked like new ones; other paths stay where they are."""
        kept = self.model_dump(exclude={"flow_options"} if "of_options_override" in changes else None)
        return type(self)(**{**kept, **changes})

    def with_flow_options(self, changes: Mapping[str, Any] | None) -> "SessionConfig":
        """Return a copy with some of `flow_options` added or changed; without changes the configuration itself."""
        try:
            return self.replace(flow_options={**self.flow_options, **changes}) if changes else self
        except ValidationError as error:
            raise ValueError(one_line(error)) from None

    def with_reader(self, options: ReaderOptions) -> "SessionConfig":
        """Return a copy that opens recordings as some options say, and where these say nothing, as before."""
        return self.replace(reader={**self.reader.given(), **options.given()})

    @property
    def n_threads(self) -> int:
        """`n_workers` as the kernels count: 0 for all this process may use."""
        return max(self.n_workers, 0)

    @property
    def deep(self) -> bool:
        """Whether all content of files is looked at, as `fingerprint` asks."""
        return self.fingerprint == "deep"

    def resolve_center_file(self, files: list[Path]) -> Path:
        """Return the recording that the others are aligned to.

        Parameters
        ----------
        files
            The session's recordings, in order.

        Returns
        -------
        Path
            The one that `center` names (by file name or path relative to `root`), or the middle one; of an
            even number, the earlier of the two in the middle. So also for ``"auto"``, which is found from averages.

        Raises
        ------
        ValueError
            `center` names none of them, or several.
        """
        if self.center in (None, AUTO_CENTER):
            return files[(len(files) - 1) // 2]
        matches = [
            f
            for f in files
            if self.center
            in (
                f.name,
                f.stem,
                recording_name(f, self.reader.files),
                f.as_posix().removeprefix(f"{self.root.as_posix()}/"),
                str(f),
            )
        ]
        if not matches:
            suggestion = did_you_mean(self.center, [f.name for f in files])
            raise ValueError(f"center {self.center!r} is not among the recordings{suggestion}")
        if len(matches) > 1:
            raise ValueError(f"center {self.center!r} names several recordings: {', '.join(map(str, matches))}")
        return matches[0]


# What the session decides for each recording and a user may not.
OPTIONS_OF_THE_SESSION = (
    "flow_backend",
    "backend_params",
    "input_file",
    "reader",
    "output_path",
    "output_format",
    "output_file_name",
    "naming_convention",
    "save_valid_idx",
    "n_workers",
)


def _ours(fields: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Return options as we name them; log what becomes of those that cannot be honoured."""
    fields, notes = translated(fields)
    for note in notes:
        logger.warning("%s%s", where, note)
    return fields


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
