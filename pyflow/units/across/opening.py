"""Opening the data of sessions: from a unit store, from folders, from lists of files."""

import re
from collections.abc import Sequence
from os.path import commonpath
from pathlib import Path

from pyflow.units.across.sessions import Experiment, Sessions, followed_experiments
from pyflow.units.sources import SourceError, find_sources, open_source
from pyflow.units.store.unit_store import UnitStore

_SUFFIXES = (".nwb", ".h5", ".hdf5")


class BrainObservatoryCache(Sessions):
    """`Sessions` for notebooks written for AllenSDK, which then run with only the import changed.

    Parameters
    ----------
    manifest_file : path-like, optional
        AllenSDK's manifest, which stands for the folder it is in (it need not exist), or a unit store. The working
        folder by default.
    """

    def __init__(self, manifest_file: str | Path | None = None) -> None:
        path = Path(manifest_file or "manifest.json")
        super().__init__(_experiments_in(path.parent if path.suffix == ".json" else path, None))


def open_sessions(
    source: str | Path | Sequence[str | Path] | UnitStore | Sessions, *, link_set: str | None = None
) -> Sessions:
    """Open the data of recording sessions.

    Parameters
    ----------
    source : path-like, list of path-like, or UnitStore
        A folder, searched with its subfolders for everything `pyflow.units.sources.find_sources` knows; files or
        folders of single sessions; or a unit store (or its path), whose sessions name their sources and whose
        cells go by their numbers. Relative sources start from the store's folder.
    link_set : str, optional
        Of the store; the current one by default.

    Returns
    -------
    Sessions
        Nothing but names and ids is read before it is asked for.

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    SourceError
        There is nothing to open, or a file in the list is none of the formats.
    """
    return source if isinstance(source, Sessions) else Sessions(_experiments_in(source, link_set))


def _experiments_in(source, link_set):
    if isinstance(source, UnitStore):
        return followed_experiments(source.sessions(), source.members(link_set=link_set), source.path.parent)
    if isinstance(source, list | tuple):
        paths = [Path(path) for path in source]
        if not paths:
            raise SourceError("no sessions: the list is empty")
        found = {path: find_sources(path) for path in paths}
        if unknown := [path for path, sources in found.items() if not sources]:
            open_source(unknown[0])  # says what was expected
        return _of_files(found, Path(commonpath([path.absolute().parent for path in paths])))
    path = Path(source)
    if _is_store(path):
        with UnitStore.open(path, create=False) as store:
            return _experiments_in(store, link_set)
    if path.is_file():
        return _experiments_in([path], link_set)
    found = dict(_walk(path))
    if not found:
        open_source(path)
    return _of_files(found, path.absolute())


def _is_store(path):
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(15) == b"SQLite format 3"


def _walk(path):
    """Yield all sessions in a folder and below."""
    if sources := find_sources(path):
        yield path, sources
    elif path.is_dir():
        for child in sorted(path.iterdir(), key=_natural):
            if child.is_dir() or child.suffix.lower() in _SUFFIXES:
                yield from _walk(child)


def _natural(path):
    """Key that sorts day2 before day10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else part) for part in re.split(r"(\d+)", path.name)]


def _of_files(found, root):
    experiments = []
    for path, sources in found.items():
        name = _name(path, root)
        for source in sources:
            key = source.experiment_id or (name if len(sources) == 1 else f"{name}/{source.group}")
            experiment = Experiment(key, name, source.path, source.group)
            experiment.source = source
            experiments.append(experiment)
    return experiments


def _name(path, root):
    """Name of a session: its path below the folder of all, without what is the same for all."""
    path = path.absolute()
    path = path.with_suffix("") if path.is_file() else path
    path = path.parent if path.name == "suite2p" else path
    return path.relative_to(root).as_posix() if path != root and path.is_relative_to(root) else path.name
