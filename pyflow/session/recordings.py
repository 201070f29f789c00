"""The recordings of a session: which files they are, what each is called, where its results go."""

import json
import logging
import os
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pyflow.io.readers.formats import check_numbers, folder_files, group_files, natural_key, recording_name
from pyflow.layout import RESULT_FILE, find_video
from pyflow.session.artifacts import create_json, read_marker, read_status, save_json
from pyflow.session.config import SessionConfig

logger = logging.getLogger(__name__)

# Which session the folder with the session's results belongs to.
SESSION_FILE = "session.json"

# A recording of this name would have its masks under the name of the session's: final_valid_idx.png.
_TAKEN = "final"


@dataclass(frozen=True)
class Recording:
    """One recording of a session.

    Parameters
    ----------
    name
        Its name in results, unique also where upper and lower case are one.
    path
        The input file, or the first of several, or their folder; None where only its stage 1 results are at hand.
    folder
        Where its results are.
    files
        All input files, in their order.
    """

    name: str
    path: Path | None
    folder: Path
    files: tuple[Path, ...] = ()


def discover_input_files(config: SessionConfig) -> list[Path]:
    """Find the session's recordings.

    Returns
    -------
    list of Path
        Files below `root` that match `pattern`, in natural order (2 before 10), without results of any session and
        hidden files; of a recording of several files the first. A link to a file that is gone is among them, so that
        its recording fails by name. Where the pattern matches no file, the folders with images that it matches.

    Raises
    ------
    FileNotFoundError
        `root` is no folder, or nothing in it matches.
    """
    return [group[0] for group in _discover(config)]


def _discover(config: SessionConfig) -> list[list[Path]]:
    """Find the files of each recording."""
    if not config.root.is_dir():
        raise FileNotFoundError(f"root: there is no folder {config.root}")
    results = [folder.resolve() for folder in (config.output_root, config.final_results)]

    @cache  # thousands of recordings may be in one folder
    def is_result(folder: Path) -> bool:
        return any(Path(os.path.realpath(folder)).is_relative_to(result) for result in results)

    @cache
    def has_status(folder: Path) -> bool:
        return bool(read_status(folder))

    matched = [path for path in matching(config.root, config.pattern) if not is_result(path.parent)]
    found = [
        file
        for file in matched
        if (file.is_file() or _is_broken_link(file))
        and not has_status(file.parent)
        and not (file.is_symlink() and is_result(file))
    ]
    found = found or [
        folder
        for folder in matched
        if folder.is_dir() and not is_result(folder) and not read_status(folder) and _images(folder)
    ]
    if not found:
        raise FileNotFoundError(f"no file in {config.root} matches pattern {config.pattern!r}")
    found.sort(key=lambda file: natural_key(relative_path(file, config.root)))
    groups = list(group_files(found, config.reader.files).values())
    for group in groups:
        check_numbers(group)
    return groups


def matching(root: Path, pattern: str) -> list[Path]:
    """Return what matches a pattern, as a shell does: what is hidden only where the pattern begins with a point there.

    Macs leave a ``._day1.tif`` beside every ``day1.tif`` on drives of other systems.
    """
    asked = any(part.startswith(".") for part in Path(pattern).parts)
    found = root.glob(pattern)
    return [path for path in found if asked or not any(part.startswith(".") for part in path.relative_to(root).parts)]


def _images(folder: Path) -> tuple[Path, ...]:
    """Return the images in a folder; none where it is no recording."""
    try:
        return tuple(folder_files(folder))
    except OSError:
        return ()


def find_recordings(config: SessionConfig, files: list[Path] | None = None) -> list[Recording]:
    """Find the recordings and give each a name of its own.

    The name is the file's stem; where stems collide, or are the name of the session's own results, the file name;
    where these do, the path below `root`.

    Parameters
    ----------
    config
        The session.
    files
        Its input files; None to look for them.

    Raises
    ------
    FileNotFoundError
        See `discover_input_files`.
    ValueError
        Two recordings' paths differ in nothing but case, or results are those of another session: of another
        recording of the same name, or of other files altogether.
    """
    groups = [[file] for file in files] if files is not None else _discover(config)
    files = [group[0] for group in groups]
    names = [recording_name(file, config.reader.files) for file in files]
    for rename in (lambda f: f.name, lambda f: relative_path(f, config.root).replace("/", "_")):
        count = Counter([_TAKEN, *(name.casefold() for name in names)])
        names = [rename(f) if count[name.casefold()] > 1 else name for f, name in zip(files, names, strict=True)]
    taken = {_TAKEN: config.final_results / f"{RESULT_FILE}.png"}
    for file, name in zip(files, names, strict=True):
        other = taken.setdefault(name.casefold(), file)
        if other is not file:
            raise ValueError(f"{other} and {file} would both have their results under the name {name!r}; rename one")
    recordings = [
        Recording(name, group[0], config.output_root / name, _images(group[0]) if group[0].is_dir() else tuple(group))
        for name, group in zip(names, groups, strict=True)
    ]
    _check_session(config)
    for recording in recordings:
        _check_input(recording)
    return recordings


def hold_results(config: SessionConfig) -> None:
    """Note in the folder of the session's results that they are this session's, before there are any.

    Raises
    ------
    ValueError
        They are another session's; the message says whose.
    OSError
        The note cannot be written.
    """
    path = config.final_results / SESSION_FILE
    if not create_json(path, identity(config)):
        _check_session(config)
        if _read_identity(path) != identity(config):  # moved
            save_json(path, identity(config))


def identity(config: SessionConfig) -> dict[str, str]:
    """Return what tells a session from others: its root, relative to its results, and its pattern."""
    return {"root": stored_path(config.root, config.final_results), "pattern": config.pattern}


def _read_identity(path: Path) -> dict[str, str] | None:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a note of whose results these are: {error}") from error
    if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in ("root", "pattern")):
        raise ValueError(f"{path}: not a note of whose results these are: expected root and pattern, found {data!r}")
    return data


def _check_session(config: SessionConfig) -> None:
    path = config.final_results / SESSION_FILE
    owner = _read_identity(path)
    if owner is None:
        return
    root = Path(os.path.realpath(config.final_results / owner["root"]))
    moved = not root.exists()
    if not moved and (root, owner["pattern"]) != (Path(os.path.realpath(config.root)), config.pattern):
        raise ValueError(
            f"final_results: {config.final_results} is of the session with pattern {owner['pattern']!r} in {root}, "
            f"this one has pattern {config.pattern!r} in {config.root}; name another folder, or remove {path} "
            "to have its results replaced"
        )


def _check_input(recording: Recording) -> None:
    """Refuse a folder with the results of another file that is still there; one that is gone was moved or renamed."""
    marker = read_marker(recording.folder, "stage1") or {}
    written = os.path.join(recording.folder, str(marker.get("input_file", "")))
    if os.path.normpath(written) == str(recording.path):  # the usual case, without a look at every folder on the way
        return
    made_from = Path(os.path.realpath(written))
    if made_from.is_file() and made_from != Path(os.path.realpath(recording.path)):
        raise ValueError(
            f"output_root: {recording.folder} holds the results of {made_from}, which would be replaced by those of "
            f"{recording.path}; name another output_root, or remove the folder"
        )


def find_compensated(config: SessionConfig) -> list[Recording]:
    """Find the recordings as stages 2 and 3 need them: where the input files are elsewhere, results will do.

    Raises
    ------
    FileNotFoundError, ValueError
        See `find_recordings`; and there are no stage 1 results either, or one is in a folder named ``final``.
    """
    try:
        return find_recordings(config)
    except FileNotFoundError:
        folders = config.output_root.iterdir() if config.output_root.is_dir() else ()
        folders = sorted((f for f in folders if find_video(f)), key=lambda f: natural_key(f.name))
        if not folders:
            raise
        for folder in folders:
            if folder.name.casefold() == _TAKEN:
                raise ValueError(f"{folder}: its masks would take the name of the session's own; rename it") from None
        logger.warning("no input file found; going on from the stage 1 results in %s", config.output_root)
        return [Recording(folder.name, None, folder) for folder in folders]


def find_center(config: SessionConfig, recordings: list[Recording]) -> Recording:
    """Return the recording that the others are aligned to, as far as the configuration tells.

    Raises
    ------
    ValueError
        `center` names none of them, or several.
    """
    places = [recording.path or recording.folder for recording in recordings]
    return recordings[places.index(config.resolve_center_file(places))]


def relative_path(path: Path, folder: Path) -> str:
    """Return a path as results keep it: relative to a folder, with slashes, so that both may be moved together."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # two drives of Windows
        return path.as_posix()


def stored_path(path: Path, folder: Path) -> str:
    """Return a path as `relative_path` does, for a file in a folder, either of which may be below a link.

    A link's own ``..`` is the folder that it points into, not the one that it is in.
    """
    return relative_path(Path(os.path.realpath(path.parent)) / path.name, Path(os.path.realpath(folder)))


def _is_broken_link(path: Path) -> bool:
    return path.is_symlink() and not os.path.exists(path)
