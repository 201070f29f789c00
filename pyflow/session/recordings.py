"""The recordings of a session: which files they are, what each is called, where its results go."""

import logging
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pyflow.layout import find_video
from pyflow.session.artifacts import read_status
from pyflow.session.config import SessionConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    """One recording of a session.

    Parameters
    ----------
    name
        Its name in results, unique also where upper and lower case are one.
    path
        The input file; None where only its stage 1 results are at hand.
    folder
        Where its results are.
    """

    name: str
    path: Path | None
    folder: Path


def discover_input_files(config: SessionConfig) -> list[Path]:
    """Find the session's recordings.

    Returns
    -------
    list of Path
        Files below `root` that match `pattern`, in natural order (2 before 10), without results of any
        session. A link to a file that is gone is among them, so that its recording fails by name.

    Raises
    ------
    FileNotFoundError
        `root` is no folder, or nothing in it matches.
    """
    if not config.root.is_dir():
        raise FileNotFoundError(f"root: there is no folder {config.root}")
    results = [folder.resolve() for folder in (config.output_root, config.final_results)]
    found = [
        file
        for file in config.root.glob(config.pattern)
        if (file.is_file() or _is_broken_link(file))
        and not any(Path(os.path.realpath(file)).is_relative_to(folder) for folder in results)
        and not read_status(file.parent)
    ]
    if not found:
        raise FileNotFoundError(f"no file in {config.root} matches pattern {config.pattern!r}")
    return sorted(found, key=lambda file: _natural(relative_path(file, config.root)))


def find_recordings(config: SessionConfig, files: list[Path] | None = None) -> list[Recording]:
    """Find the recordings and give each a name of its own.

    The name is the file's stem; where stems collide, the file name; where these do, the path below `root`.

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
        Two recordings' paths differ in nothing but case.
    """
    if files is None:
        files = discover_input_files(config)
    names = [file.stem for file in files]
    for rename in (lambda f: f.name, lambda f: relative_path(f, config.root).replace("/", "_")):
        count = Counter(name.casefold() for name in names)
        names = [rename(f) if count[name.casefold()] > 1 else name for f, name in zip(files, names, strict=True)]
    taken: dict[str, Path] = {}
    for file, name in zip(files, names, strict=True):
        other = taken.setdefault(name.casefold(), file)
        if other is not file:
            raise ValueError(
                f"{other} and {file} would both have their results in {config.output_root / name}; rename one"
            )
    return [Recording(name, file, config.output_root / name) for name, file in zip(names, files, strict=True)]


def find_compensated(config: SessionConfig) -> list[Recording]:
    """Find the recordings as stages 2 and 3 need them: where the input files are elsewhere, results will do.

    Raises
    ------
    FileNotFoundError, ValueError
        See `find_recordings`; and there are no stage 1 results either.
    """
    try:
        return find_recordings(config)
    except FileNotFoundError:
        folders = config.output_root.iterdir() if config.output_root.is_dir() else ()
        folders = sorted((f for f in folders if find_video(f)), key=lambda f: _natural(f.name))
        if not folders:
            raise
        logger.warning("no input file found; going on from the stage 1 results in %s", config.output_root)
        return [Recording(folder.name, None, folder) for folder in folders]


def relative_path(path: Path, folder: Path) -> str:
    """Return a path as results keep it: relative to a folder, with slashes, so that both may be moved together."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # two drives of Windows
        return path.as_posix()


def _is_broken_link(path: Path) -> bool:
    return path.is_symlink() and not os.path.exists(path)


def _natural(text: str) -> tuple:
    """Key under which 2 comes before 10; the text itself decides between 1 and 01."""
    parts = re.split(r"(\d+)", text)
    return [(int(p), "") if i % 2 else (0, p.casefold()) for i, p in enumerate(parts)], text
