"""Which reader a file or a set of folders is for, told by what is in them."""

from collections.abc import Sequence
from pathlib import Path

from pyflow.units.incoming.clusterings import VERDICTS, Spans, read_clustering, read_phy_ids, read_suite2p_ids
from pyflow.units.incoming.id_tables import read_id_table, read_wide_table
from pyflow.units.incoming.matchers import (
    MATCH_TABLE,
    read_caiman,
    read_cellreg,
    read_roicat,
    read_track2p,
    read_unitmatch,
)
from pyflow.units.incoming.spreadsheet import read_spreadsheet
from pyflow.units.unit_table import UnitTable

_SPREADSHEETS = (".xlsx", ".ods", ".csv", ".tsv")
_BY_SUFFIX = {".mat": read_cellreg, ".npy": read_caiman, ".npz": read_caiman, ".json": read_roicat}
LAYOUTS = ("cells", "ids", "wide")


class UnrecognisedError(ValueError):
    """Nothing that a reader knows, or something that it must be told is missing."""


def read_any(
    paths: Sequence[str | Path],
    *,
    name: str | None = None,
    sessions: Sequence[str] | None = None,
    sources: Sequence[str | Path] | None = None,
    group: str | None = None,
    spans: Spans | None = None,
    sheet: str | None = None,
    columns: dict[str, str] | None = None,
    layout: str = "cells",
    oversplit: str = "raise",
) -> UnitTable:
    """Read a claim about identities, whatever its form.

    Parameters
    ----------
    paths : list of path-like
        One file: a spreadsheet, a wide array (.npy), or the result of CellReg (.mat), CaImAn (.npy, .npz), ROICaT
        (.json) or UnitMatch (MatchTable.csv). One folder: track2p's, UnitMatch's, or Kilosort's or phy's with `spans`.
        Several folders: one per session, of phy or suite2p, in which the same id is the same unit; or folders that
        hold such a folder, of the group's name where they hold several.
    name : str, optional
        Name of the link set; by default the reader's.
    sessions : list of str, optional
        Session names: in the matcher's order, or of the folders; these are named by the part of their paths in which
        they differ by default.
    sources : list of path-like, optional
        Where each session's data is, for the result of a matcher.
    group : str, optional
        Tetrode, probe or plane of all units, where the files do not name it.
    spans : dict of str to (start, end), optional
        Sessions in a concatenated recording, in samples.
    sheet, columns
        As in `read_spreadsheet`.
    layout : {"cells", "ids", "wide"}
        What a spreadsheet is: one that says in a column which cell each unit is (`read_spreadsheet`); a list of units
        in which the same id is the same cell (`read_id_table`); or one row per cell, one column per session
        (`read_wide_table`).
    oversplit : {"raise", "best"}
        As in `read_unitmatch`, and only for its table.

    Returns
    -------
    UnitTable

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    UnrecognisedError
        No reader is for these paths, or not with these options.
    TableError
        The reader found something wrong.
    """
    paths = [Path(path) for path in paths]
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
    grouped = {} if group is None else {"group": group}
    named = grouped | ({} if name is None else {"name": name})
    first = paths[0]
    if first.name == MATCH_TABLE or (first / MATCH_TABLE).is_file():
        return read_unitmatch(first, _sessions_of(first, sessions), sources=sources, oversplit=oversplit, **named)
    if oversplit != "raise":
        raise UnrecognisedError(f"{first}: oversplit is only for UnitMatch's {MATCH_TABLE}")
    if _is_richfile(first):
        return read_roicat(first, _sessions_of(first, sessions), sources=sources, **named)
    if len(paths) > 1 or _is_folder_of_session(first, spans):
        return _read_folders([_folder_of_session(path, group) for path in paths], sessions, named)
    if first.is_dir():
        return _read_folder(first, sessions, sources, spans, name, grouped)
    if first.suffix.lower() in _SPREADSHEETS or (layout == "wide" and first.suffix.lower() == ".npy"):
        return _read_table(first, layout, sessions, grouped, sheet=sheet, columns=columns, name=name)
    reader = _BY_SUFFIX.get(first.suffix.lower())
    if reader is None:
        known = ", ".join((*_SPREADSHEETS, *_BY_SUFFIX))
        raise UnrecognisedError(f"{first}: a {first.suffix or 'file without suffix'}, expected one of {known}")
    sessions = _sessions_of(first, sessions)
    if sources is not None and len(sources) != len(sessions):
        raise UnrecognisedError(f"{len(sources)} sources for {len(sessions)} sessions")
    return reader(first, sessions, sources=sources, **named)


def _sessions_of(path, sessions):
    if sessions is None:
        raise UnrecognisedError(f"{path}: does not name its sessions; give each one's name (--session), in its order")
    return sessions


def _is_richfile(path):
    return ".richfile" in path.name and (path.suffix in (".zip", ".tar", ".sqlar") or path.suffix == ".richfile")


def _read_table(path, layout, sessions, grouped, *, sheet, columns, name):
    if layout == "wide":
        sessions = _sessions_of(path, sessions) if path.suffix.lower() == ".npy" else sessions
        return read_wide_table(path, sessions=sessions, sheet=sheet, name=name, **grouped)
    _refuse_group(path, grouped)
    if layout == "ids":
        return read_id_table(path, sheet=sheet, name=name, **(columns or {}))
    return read_spreadsheet(path, sheet=sheet, columns=columns, name=name)


def _refuse_group(path, grouped):
    if grouped:
        raise UnrecognisedError(f"{path}: names the groups of its units itself; leave out group {grouped['group']!r}")


def _is_folder_of_session(path, spans):
    return path.is_dir() and spans is None and _kind(path) is not None and not (path / "track_ops.npy").exists()


def _folder_of_session(folder, group):
    """The folder, or the one in it that holds results: the group's, or the only one."""
    if not folder.is_dir() or _kind(folder) is not None:
        return folder
    inside = sorted(place for pattern in ("*", "suite2p/plane*") for place in folder.glob(pattern) if place.is_dir())
    found = [place for place in inside if _kind(place) is not None]
    chosen = [place for place in found if len(found) == 1 or place.name == group]
    if found and not chosen:
        names = ", ".join(place.name for place in found)
        raise UnrecognisedError(f"{folder}: holds the results of {names}; say which one (--group)")
    return chosen[0] if chosen else folder


def _kind(folder):
    if any((folder / verdict).exists() for verdict in VERDICTS):
        return read_phy_ids
    return read_suite2p_ids if (folder / "iscell.npy").exists() else None


def _read_folder(folder, sessions, sources, spans, name, grouped):
    if spans is not None:
        return read_clustering(folder, spans, group_name=name, **grouped)
    if (folder / "track_ops.npy").exists():
        _refuse_group(folder, grouped)
        return read_track2p(folder, sessions=sessions, sources=sources, name=name or "track2p")
    raise UnrecognisedError(
        f"{folder}: holds neither {VERDICTS[0]} nor iscell.npy nor track_ops.npy nor {MATCH_TABLE}; "
        "a recording that joins several sessions needs their spans"
    )


def _read_folders(folders, sessions, named):
    for folder in folders:
        if not folder.is_dir() or (kind := _kind(folder)) is None:
            raise UnrecognisedError(f"{folder}: expected a folder with {VERDICTS[0]} or iscell.npy, one per session")
        if kind is not _kind(folders[0]):
            raise UnrecognisedError(f"{folder}: another kind of folder than {folders[0]}")
    names = _names(folders) if sessions is None else sessions
    if len(names) != len(folders):
        raise UnrecognisedError(f"{len(names)} session names for {len(folders)} folders")
    if len(set(names)) < len(names):
        raise UnrecognisedError(f"two folders are called {max(names, key=names.count)!r}: give the sessions' names")
    return _kind(folders[0])(dict(zip(names, folders, strict=True)), **({"name": "ids kept by hand"} | named))


def _names(folders):
    """Names of folders, without what all their paths end in; of suite2p's planes that of the recording's folder."""
    folders = [folder.absolute() for folder in folders]
    if len(folders) > 1 and len(set(folders)) == len(folders):
        while len({folder.name for folder in folders}) == 1:
            folders = [folder.parent for folder in folders]
    return [
        folder.parents[1].name if folder.name.startswith("plane") and folder.parent.name == "suite2p" else folder.name
        for folder in folders
    ]
