"""Options as pyflowreg and the MATLAB toolbox name and save them, turned into ours.

Their files have a line before the JSON. Most options have one name everywhere; the tables here hold the others. What
has no meaning here is left out, and a note says what that means for the result.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.flow.backends import list_backends

logger = logging.getLogger(__name__)

HEADER = "Compensation options"
"""What the first line of their files begins with."""

CONSTANCY_NAMES = {"gradient": "gc", "brightness": "gray", "cs": "census"}
"""Their further words for `OFOptions.const_assumption`."""

_FORMATS = {
    "SUITE2P_TIFF": (
        "TIFF",
        "the movie is a TIFF file for ImageJ, in which the pages of channels alternate as well",
    ),
    "BEGONIA": ("HDF5", "pyflow does not write this format; the movie is an HDF5 file"),
}

_BACKENDS = {
    "flowreg_torch": "the same method is computed by 'flowreg', on the processor; backend_params are left out",
    "flowreg_cuda": "the same method is computed by 'flowreg', on the processor; backend_params are left out",
    "diso": "another method is computed by 'flowreg', the variational one: displacements differ; backend_params are "
    "left out",
}

# Options without a meaning here: what becomes of one that is set.
_WITHOUT_MEANING = {
    "verbose": "what pyflow has to say goes to Python's logging, with this option or without",
    "preproc_funct": "a function cannot be read from options; frames are not changed before their flow is computed, "
    "unless OFOptions(preprocess=...) names one",
    "get_displacement_impl": "flows are computed by flow_backend; see pyflow.flow.backends.register_backend",
    "get_displacement_factory": "flows are computed by flow_backend; see pyflow.flow.backends.register_backend",
    "output_file_writer": "the movie is written as output_format says",
}

# Where nothing, [] or '' stands for "not given".
_MAY_BE_EMPTY = ("input_file", "output_file_name", "output_typename", "channel_idx", "gnc_schedule", "warping_steps")


def translated(fields: Mapping[str, Any], *, theirs: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Turn options of pyflowreg or of MATLAB's OF_options into fields of `OFOptions`; ours stay as they are.

    Parameters
    ----------
    fields
        Options by name, unchecked.
    theirs
        They were written for the other programs for sure: what means something else there is noted as well.

    Returns
    -------
    fields : dict
        What `OFOptions` takes; a name that nobody knows is still among them.
    notes : list of str
        A sentence for each option that cannot be honoured as it stands, or is read differently: what becomes of it.

    Raises
    ------
    ValueError
        MATLAB's numbers of frames or channels begin below 1, or its map of weights is none.
    """
    matlab = "datatype" in fields  # which pyflowreg does not have
    empty = [name for name in _MAY_BE_EMPTY if name in fields and _is_empty(fields[name])]
    fields = {name: value for name, value in fields.items() if name not in empty}
    notes = []
    fields.pop("datatype", None)  # found in the file
    if callable(fields.get("preproc_funct")):
        fields["preprocess"] = fields.pop("preproc_funct")
    for name, consequence in _WITHOUT_MEANING.items():
        if not _is_empty(fields.pop(name, None)):
            notes.append(f"{name}: {consequence}")
    if _word(fields, "output_format") in _FORMATS:
        ours, consequence = _FORMATS[fields["output_format"]]
        notes.append(f"output_format {str(fields['output_format'])!r}: {consequence}")
        fields["output_format"] = ours
    backend = _word(fields, "flow_backend")
    if backend in _BACKENDS and backend not in list_backends():
        notes.append(f"flow_backend {str(backend)!r}: {_BACKENDS[backend]}")
        fields.pop("flow_backend")
        fields.pop("backend_params", None)
    if theirs and fields.get("gnc_schedule"):
        notes.append("gnc_schedule: runs along the levels of one pyramid, instead of from one pyramid to the next")
    if theirs and fields.get("update_reference") is True and fields.get("n_references", 1) != 1:
        notes.append("n_references: there is one reference, as update_reference makes it anew after each batch")
        del fields["n_references"]
    _translate_values(fields, notes, matlab)
    return fields, notes


def _translate_values(fields: dict[str, Any], notes: list[str], matlab: bool) -> None:
    """Bring values into the form that our fields have."""
    for name in ("reference_frames", "channel_idx", "weight"):  # MATLAB saves a list of one as a number
        if isinstance(fields.get(name), int | float):
            fields[name] = [fields[name]]
    if isinstance(fields.get("alpha"), list | tuple) and len(fields["alpha"]) == 1:
        fields["alpha"] = fields["alpha"][0]
    if fields.get("quality_setting") == "custom" and fields.get("min_level") == -1:
        fields["min_level"] = 0
    if not matlab:
        return
    for name in ("reference_frames", "channel_idx"):
        indices = fields.get(name)
        if isinstance(indices, list) and all(isinstance(index, int | float) and index % 1 == 0 for index in indices):
            if min(indices, default=1) < 1:
                raise ValueError(f"{name}: MATLAB counts from 1, found {indices}")
            fields[name] = [int(index) - 1 for index in indices]
            notes.append(f"{name}: MATLAB counts from 1; read as {_shown(fields[name])}, counted from 0")
    if _depth(fields.get("weight")) == 3:  # MATLAB's first axis is the channel
        try:
            fields["weight"] = np.moveaxis(np.array(fields["weight"]), 0, -1).tolist()
        except ValueError as error:
            raise ValueError(f"weight: expected channels of one size: {error}") from None


def read_options(path: str | os.PathLike) -> dict[str, Any]:
    """Read the options that a JSON file sets, ours or theirs; what cannot be honoured is logged, once.

    Names of images in it, for `weight` or `reference_frames`, that are beside the file are taken from there.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is not a JSON object, or what MATLAB counts or orders otherwise cannot be read; the message names the file.
    """
    try:
        content = Path(path).read_bytes()
        text = content.decode(json.detect_encoding(content))  # UTF-16 as well, which PowerShell writes
        theirs = text.startswith(HEADER)
        fields = _parsed(text.partition("\n")[2]) if theirs else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: expected a JSON object of options, found {type(fields).__name__}")
    try:
        fields, notes = translated(fields, theirs=theirs)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for note in notes:
        logger.warning("%s: %s", path, note)
    for name in ("weight", "reference_frames"):
        beside = Path(path).parent / fields[name] if isinstance(fields.get(name), str) else None
        if beside is not None and beside.is_file():
            fields[name] = str(beside)
    return fields


def _parsed(text: str) -> Any:
    """Parse JSON that MATLAB may have written through ``fprintf``, which takes every second backslash away."""
    try:
        found = json.loads(text)
        if not any(ord(letter) < ord(" ") for letter in _letters(found)):
            return found
    except ValueError:
        if "\\" not in text:
            raise
    return json.loads(text.replace("\\", "\\\\"))


def _letters(value: Any) -> str:
    """Return all text in options, where names of files are."""
    if isinstance(value, dict | list):
        return "".join(map(_letters, value.values() if isinstance(value, dict) else value))
    return value if isinstance(value, str) else ""


def _word(fields: Mapping[str, Any], name: str) -> str:
    """Return an option that may be one of their words; what else it is, our checks tell."""
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _is_empty(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, str | list | tuple | dict) and not value)


def _depth(value: Any) -> int:
    return 1 + _depth(value[0]) if isinstance(value, list) and value else 0


def _shown(indices: list[int]) -> str:
    consecutive = indices == list(range(indices[0], indices[0] + len(indices))) if indices else False
    return f"{indices[0]} to {indices[-1]}" if consecutive and len(indices) > 1 else ", ".join(map(str, indices))
