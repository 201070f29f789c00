"""pyflowreg's session: a configuration that can be changed, and the stages that take it."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import Field, PrivateAttr, ValidationError, model_validator

import pyflow
from pyflow import session
from pyflow._help import did_you_mean, one_line
from pyflow.compat.pyflowreg.motion import name_flow
from pyflow.compat.pyflowreg.options import Changeable, OFOptions
from pyflow.flow.backends import list_backends
from pyflow.session import artifacts, recordings, stage1_compensate, stage2_between_avgs, stage3_valid_mask
from pyflow.session.config import OPTIONS_OF_THE_SESSION
from pyflow.session.final import videos

_TASKS = ("SLURM_ARRAY_TASK_ID", "SGE_TASK_ID", "PBS_ARRAY_INDEX")


class SessionConfig(Changeable):
    """A session under pyflowreg's names, with its defaults; it can be changed, and is checked again when it is.

    Relative paths are relative to the working folder, `output_root` and `final_results` to `root`. `to_pyflow` returns
    what pyflow is asked for.

    Raises
    ------
    pydantic.ValidationError
        A key is unknown or its value not one that pyflow can use.
    """

    root: Path
    pattern: str = "*.tif"
    center: str | None = None
    output_root: Path = Path("compensated_outputs")
    final_results: Path = Path("final_results")
    resume: bool = True
    scheduler: Literal["local", "array", "dask"] = "local"
    flow_backend: str = "flowreg"
    backend_params: dict[str, Any] = Field(default_factory=dict)
    flow_options: dict[str, Any] | Path | None = None
    stage1_quality_setting: str | None = None
    n_workers: int = -1
    cc_upsample: int = 4
    sigma_smooth: float = 6.0
    alpha_between: float = 25.0
    iterations_between: int = 100
    stage2_constancy_assumption: str = "gc"
    align_chunk_size: int = 64
    align_output_format: str = "TIFF"

    # Of the last `run_stage1`: later stages take the results as they were made.
    _override: Mapping[str, Any] | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        unknown = [key for key in data if key not in cls.model_fields] if isinstance(data, dict) else []
        if unknown:
            raise ValueError("; ".join(f"unknown key {key!r}{did_you_mean(key, cls.model_fields)}" for key in unknown))
        return data

    @model_validator(mode="after")
    def _check(self) -> "SessionConfig":
        if not isinstance(self.flow_options, Path):  # a file of options may be made after this
            try:
                self.to_pyflow()
            except ValidationError as error:
                raise ValueError(one_line(error)) from None
        return self

    def to_pyflow(self) -> session.SessionConfig:
        """Return the same session as pyflow describes it."""
        known = self.flow_backend in list_backends()
        given = {**self.get_flow_options_override(), **(self._override or {}), "flow_backend": self.flow_backend}
        if self.stage1_quality_setting is not None:
            given = {"quality_setting": self.stage1_quality_setting, **given}
        names = {name for name in session.SessionConfig.model_fields if name in type(self).model_fields}
        keys = {name: getattr(self, name) for name in names - {"stage1_quality_setting"}} | {
            "flow_backend": self.flow_backend if known else "flowreg",
            "backend_params": self.backend_params if known else {},
            "flow_options": _flow_options(given),
            "absolute_paths": True,
        }
        return session.SessionConfig(**keys)

    def resolve_output_paths(self) -> tuple[Path, Path]:
        """Return the folders of the recordings' and of the session's results."""
        return self.root / self.output_root, self.root / self.final_results

    def get_flow_options_override(self) -> dict[str, Any]:
        """Return `flow_options`, read from its file where it is one; a relative name is relative to `root`.

        A file that was saved holds all options: those that a session decides are left out.
        """
        if isinstance(self.flow_options, Path):
            options = OFOptions.load_options(self.root / self.flow_options.expanduser())
            return {name: getattr(options, name) for name in options.model_fields_set - set(OPTIONS_OF_THE_SESSION)}
        return dict(self.flow_options or {})

    def resolve_center_file(self, input_files: Sequence[Path]) -> tuple[int, Path]:
        """Return the index, from 0, and the path of the recording that the others are aligned to."""
        files = list(input_files)
        found = self.to_pyflow().resolve_center_file(files if self.center else sorted(files))
        return (files if self.center else sorted(files)).index(found), found

    @classmethod
    def from_toml(cls, path: str | os.PathLike) -> "SessionConfig":
        """Read a TOML configuration."""
        return cls(**tomllib.loads(Path(path).read_text(encoding="utf-8")))

    @classmethod
    def from_yaml(cls, path: str | os.PathLike) -> "SessionConfig":
        """Read a YAML configuration."""
        return cls(**yaml.safe_load(Path(path).read_text(encoding="utf-8")))

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "SessionConfig":
        """Read a configuration, TOML or YAML by its suffix."""
        suffix = Path(path).suffix.lower()
        if suffix not in (".toml", ".yml", ".yaml"):
            raise ValueError(f"{path}: a session configuration ends in .toml, .yaml or .yml, found {suffix!r}")
        return cls.from_toml(path) if suffix == ".toml" else cls.from_yaml(path)


def _flow_options(given: dict[str, Any]) -> dict[str, Any]:
    """Return options of stage 1 as pyflow names them, without those that the session decides.

    Names that only pyflow has, such as ``compression``, stay what they are.
    """
    if given.get("save_valid_idx") is False:
        raise ValueError("flow_options: save_valid_idx is always true in a session, as stage 3 needs the masks")
    for name in ("preproc_funct", "get_displacement_impl", "get_displacement_factory", "weight", "reference_frames"):
        if callable(given.get(name)) or np.ndim(given.get(name)) > 1:
            raise ValueError(f"flow_options: {name} is in memory, where no later run can compare it; name a file")
    given = {name: value for name, value in given.items() if name not in ("input_file", "output_path", "output_format")}
    ours = {name for name in given if name in pyflow.OFOptions.model_fields and name not in OFOptions.model_fields}
    options = OFOptions(**{name: value for name, value in given.items() if name not in ours})
    options = options.to_pyflow(**{name: given[name] for name in ours})
    return options.model_dump(mode="json", exclude_defaults=True, exclude=set(OPTIONS_OF_THE_SESSION))


def run_stage1(
    config: SessionConfig, of_options_override: Mapping[str, Any] | None = None, task_index: int | None = None
) -> list[Path]:
    """Register all recordings, or the one of an index from 0; return their folders."""
    config._override = of_options_override
    given = config.to_pyflow()
    if task_index is None:
        return _named(given, stage1_compensate.run_stage1(given))
    return _named(given, [stage1_compensate.run_stage1_array(given, task_index)])


def run_stage1_array(config: SessionConfig, of_options_override: Mapping[str, Any] | None = None) -> Path:
    """Register the recording that this task of a job array is about; return its folder."""
    config._override = of_options_override
    given = config.to_pyflow()
    return _named(given, [stage1_compensate.run_stage1_array(given)])[0]


def _named(config: session.SessionConfig, folders: list[Path]) -> list[Path]:
    if config.flow_options.get("save_w"):
        for folder in folders:
            name_flow(folder)
    return folders


def run_stage2(config: SessionConfig) -> tuple[int, Path, list[np.ndarray]]:
    """Align the averages; return the centre's index, its file and the field (H, W, 2) of each recording."""
    index, file, fields = stage2_between_avgs.run_stage2(config.to_pyflow())
    return index, file, list(fields)


def run_stage3(
    config: SessionConfig,
    middle_idx: int | None = None,
    displacement_fields: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Return the mask (H, W) of the pixels that are valid everywhere; save it, and the aligned videos."""
    return stage3_valid_mask.run_stage3(config.to_pyflow(), middle_idx, displacement_fields)


def run_all_stages(config: SessionConfig, of_options_override: Mapping[str, Any] | None = None) -> None:
    """Run the three stages one after the other."""
    run_stage1(config, of_options_override)
    run_stage2(config)
    run_stage3(config)


def discover_input_files(config: SessionConfig) -> list[Path]:
    """Return the recordings' files, in order."""
    return recordings.discover_input_files(config.to_pyflow())


def compute_between_displacement(
    reference_avg: np.ndarray, current_avg: np.ndarray, config: SessionConfig
) -> np.ndarray:
    """Return the displacement (H, W, 2) between two averages."""
    return stage2_between_avgs.compute_between_displacement(reference_avg, current_avg, config.to_pyflow())


def align_sequence_video(
    compensated_path: Path,
    output_path: Path,
    displacement: np.ndarray,
    reference_average: np.ndarray,
    *,
    resume: bool = True,
    chunk_size: int = 64,
    output_format: str = "TIFF",
) -> Path:
    """Warp a registered movie into the centre's frame, whether or not that was done before; return its path."""
    return videos.align_sequence_video(
        Path(compensated_path),
        Path(output_path),
        displacement,
        reference_average,
        chunk_size=chunk_size,
        output_format=output_format,
    )


def atomic_save_npy(path: str | os.PathLike, arr: np.ndarray) -> None:
    """Write an array, whole or not at all."""
    artifacts.save_npy(Path(path), arr)


def atomic_save_npz(path: str | os.PathLike, **arrays: np.ndarray) -> None:
    """Write arrays, whole or not at all."""
    artifacts.save_npz(Path(path), **arrays)


def get_array_task_id() -> int | None:
    """Return the number of this task of a job array as the scheduler counts; None where there is none."""
    return next((int(os.environ[name]) for name in _TASKS if name in os.environ), None)
