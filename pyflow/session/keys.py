"""The parts that the stages' keys are made from: all that can change a result, and nothing else."""

from collections.abc import Callable
from typing import Any

from pyflow.layout import SCHEMA_VERSION, fingerprint_of_several
from pyflow.motion.options import OFOptions
from pyflow.session.artifacts import read_marker
from pyflow.session.config import SessionConfig
from pyflow.session.recordings import Recording


def stage1_options(config: SessionConfig, recording: Recording) -> OFOptions:
    """Return what stage 1 hands to `compensate_recording`."""
    quality = {} if config.stage1_quality_setting is None else {"quality_setting": config.stage1_quality_setting}
    return OFOptions(
        **{**quality, **config.flow_options},
        flow_backend=config.flow_backend,
        backend_params=config.backend_params,
        input_file=recording.files if len(recording.files) > 1 else recording.path,
        reader=config.reader,
        output_path=recording.folder,
        output_format="HDF5",
        save_valid_idx=True,
        n_workers=config.n_threads,
    )


def result_options(config: SessionConfig, recording: Recording) -> dict[str, Any]:
    """Return the options of stage 1 that can change its result; they are those of all recordings of a session.

    Raises
    ------
    OSError
        A file that options name cannot be read.
    """
    options = stage1_options(config, recording).result_fields()
    while len(options["sigma"]) != 2 and options["sigma"][-1] == options["sigma"][0]:
        # The first row is that of all channels without one: so many as the default has, told or left out, are the same.
        options["sigma"] = options["sigma"][:-1] if len(options["sigma"]) > 2 else options["sigma"] * 2
    return options


def stage1_parts(
    config: SessionConfig,
    recording: Recording,
    options: Callable[[], dict[str, Any]] | None = None,
    *,
    known: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a recording's stage 1 key is made from.

    Parameters
    ----------
    config, recording
        The session and one of its recordings.
    options
        Returns what `result_options` does, which is the same for all recordings.
    known
        An earlier description of the input, see `pyflow.layout.fingerprint`.

    Raises
    ------
    OSError
        The input, or a file that options name, cannot be read.
    """
    return {
        "schema": SCHEMA_VERSION["stage1"],
        "input": _input(config, recording, known),
        "options": result_options(config, recording) if options is None else options(),
    }


def _input(config: SessionConfig, recording: Recording, known: dict[str, Any] | None) -> dict[str, Any]:
    """Describe the input as the results' marker does, where that says more than is asked for and agrees with it.

    Who turns to ``"lenient"`` has results whose inputs were described with their times, which are lost.
    """
    found = fingerprint_of_several(recording.files, config.fingerprint, known)
    marker = read_marker(recording.folder, "stage1") if config.fingerprint == "lenient" else None
    earlier = marker["parts"].get("input") if marker is not None else None
    if not isinstance(earlier, dict):
        return found
    return earlier if all(earlier.get(name) == value for name, value in found.items()) else found


def field_parts(
    config: SessionConfig, stage1: str, center: str, center_stage1: str, neighbours: dict[str, str]
) -> dict[str, Any]:
    """Return what a recording's stage 2 key is made from: options, the stage 1 keys, the names of other recordings.

    `neighbours` are those that had a part in it, with their keys.
    """
    names = ("flow_backend", "backend_params", "cc_upsample", "sigma_smooth", "alpha_between", "iterations_between")
    options = {name: getattr(config, name) for name in names}
    if config.stage2_constancy_assumption != "gc":  # came later: fields that were made without it stay what they are
        options["stage2_constancy_assumption"] = config.stage2_constancy_assumption
    return {
        "schema": SCHEMA_VERSION["stage2"],
        "options": options,
        "stage1": stage1,
        "center": center,
        "center_stage1": center_stage1,
        "neighbours": neighbours,
    }


def aligned_parts(config: SessionConfig, stage2: str) -> dict[str, Any]:
    """Return what the key of a recording's aligned video is made from."""
    return {
        "schema": SCHEMA_VERSION["stage3"],
        "align_output_format": config.align_output_format,
        "stage2": stage2,
    }


def session_parts(config: SessionConfig, center: str, stage2: dict[str, str]) -> dict[str, Any]:
    """Return what the session's stage 3 key is made from: options, the recordings' stage 2 keys, the centre's name."""
    return {
        "schema": SCHEMA_VERSION["stage3"],
        "options": {
            "valid_fraction": config.valid_fraction,
            "align_output_format": config.align_output_format,
            "use_not_alignable": config.use_not_alignable,
            **({"absolute_paths": True} if config.absolute_paths else {}),  # without it, results are what they were
        },
        "center": center,
        "recordings": stage2,
    }
