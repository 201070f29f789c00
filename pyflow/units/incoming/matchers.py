"""Who is who as other programs found it: CellReg, CaImAn, ROICaT, track2p, UnitMatch.

Each reader returns a `UnitTable`; its units are named by their row in the session's own results, from 0, which is
their original index too.
"""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import h5py
import numpy as np
import pandas as pd
import scipy.io
from numpy.typing import ArrayLike

from pyflow.io.unpickle import load_npy, load_npz
from pyflow.units.unit_table import (
    LARGEST_INDEX,
    TableError,
    UnitTable,
    as_numbers,
    in_group,
    session_table,
    unit_table,
)

_CELLREG_MAPS = ("cell_to_index_map", "optimal_cell_to_index_map")

# UnitMatch's columns: in Python since 3.6, before that, and in MATLAB. Plain UIDs are those of the middle level; older
# Python versions number all units in columns of that name too, so there the others count.
_UIDS = {
    "liberal": (("UID Lib 1", "UID Lib 2"), ("UID Liberal 1", "UID Liberal 2"), ("UID1Liberal", "UID2Liberal")),
    "intermediate": (
        ("UID int 1", "UM UID int 2"),
        ("UID int 1", "UID int 2"),
        ("UID 1", "UID 2"),
        ("UID1", "UID2"),
    ),
    "conservative": (
        ("UID Cons 1", "UID Cons 2"),
        ("UID Conservative 1", "UID Conservative 2"),
        ("UID1Conservative", "UID2Conservative"),
    ),
}
MATCH_TABLE = "MatchTable.csv"
_SESSIONS = (("RecSes1", "RecSes2"), ("RecSes 1", "RecSes 2"))
_PROBABILITIES = ("UM Probabilities", "MatchProb", "Prob")
_RICHFILE_LABELS = "clusters.dict_item/value.dict/labels_bySession.dict_item/value.json"
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, sqlite3.DatabaseError, zlib.error)
_SCORED = 0.5  # pairs that UnitMatch itself takes for matches


def read_cellreg(
    path: str | Path,
    sessions: Sequence[str],
    *,
    indices: Sequence[ArrayLike] | None = None,
    sources: Sequence[str | Path] | None = None,
    kind: str = "",
    group: str = "",
    name: str = "CellReg",
) -> UnitTable:
    """Read the cells that CellReg registered.

    Parameters
    ----------
    path : path-like
        ``cellRegistered_....mat`` (v5 or v7.3), with `cell_to_index_map` (cells x sessions; from 1, 0: absent).
    sessions : sequence of str
        Session names in the order in which CellReg had them.
    indices : sequence of (n_s,) int arrays, optional
        Per session, the original index (from 0, over all ROIs) of each footprint that CellReg was given; by default
        it was given all.
    sources : sequence of path-like, optional
        Where each session's traces are.
    kind : str
        What those are: "suite2p", "caiman", "nwb" ...
    group : str
        Plane of all units.
    name : str
        Name of the link set.

    Returns
    -------
    UnitTable
        `probability` is the cell's score.

    Raises
    ------
    FileNotFoundError
        No such file.
    TableError
        Not a CellReg result, or it does not fit the sessions.
    """
    path = Path(path)
    _check_lengths(str(path), sessions, indices=indices, sources=sources)
    index_map, scores = _read_cellreg_map(path)
    probability = None
    if scores is not None:
        if len(scores) != len(index_map):
            message = f"{len(index_map)} cells, but {len(scores)} cell_scores"
            raise TableError(str(path), message, values=[len(index_map), len(scores)])
        probability = np.repeat(scores[:, None], index_map.shape[1], axis=1)
    claim = {"name": name, "origin": str(path), "source": str(path), "algorithm": "CellReg"}
    options = {"indices": indices, "sources": sources, "kind": kind, "group": group, "probability": probability}
    return unit_table(sessions, index_map - 1, **options, **claim)


def _read_cellreg_map(path):
    """`cell_to_index_map` (N, S) and `cell_scores` (N,) or None."""
    if h5py.is_hdf5(path):
        try:
            with h5py.File(path) as file:
                struct = file.get("cell_registered_struct", file)
                found = {key: _of_matlab(struct[key]) for key in (*_CELLREG_MAPS, "cell_scores") if key in struct}
        except (OSError, RuntimeError) as error:
            raise TableError(str(path), f"not a .mat file: {error}") from error
    else:
        try:
            content = scipy.io.loadmat(str(path), appendmat=False)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise TableError(str(path), f"not a .mat file: {error}") from error
        struct = content.get("cell_registered_struct")
        found = content if struct is None else {key: struct[key][0, 0] for key in struct.dtype.names}
    index_map = next((found[key] for key in _CELLREG_MAPS if key in found), None)
    if index_map is None:
        raise TableError(str(path), f"no {_CELLREG_MAPS[0]}; is this CellReg's cellRegistered_....mat?")
    scores = np.ravel(as_numbers(f"{path}, cell_scores", found.get("cell_scores", ())))
    return as_numbers(f"{path}, {_CELLREG_MAPS[0]}", index_map), scores if len(scores) else None


def _of_matlab(data):
    """Array of a .mat file of version 7.3, which has its axes the other way round and, if it is empty, holds its size.

    What is no array is handed on as it is, for `as_numbers` to refuse.
    """
    if not isinstance(data, h5py.Dataset):
        return np.array(data, dtype=object)
    return np.zeros(data[()].astype(int)) if data.attrs.get("MATLAB_empty", 0) else data[()].T


def read_caiman(
    assignments: str | Path | ArrayLike,
    sessions: Sequence[str],
    *,
    indices: Sequence[ArrayLike] | None = None,
    sources: Sequence[str | Path] | None = None,
    kind: str = "caiman",
    group: str = "",
    name: str = "CaImAn",
) -> UnitTable:
    """Read the assignments of CaImAn's ``register_multisession``.

    Parameters
    ----------
    assignments : (N, S) array or path-like
        Component of each session, from 0; NaN where absent. A path: the array in a .npy file, or as `assignments` in
        a .npz file.
    sessions : sequence of str
        Session names, one per column.
    indices, sources, kind, group, name
        As in `read_cellreg`; `indices` are the components that were registered, where they were not all.

    Returns
    -------
    UnitTable

    Raises
    ------
    FileNotFoundError
        No such file.
    TableError
        No such array, or it does not fit the sessions.
    """
    origin = "assignments"
    if isinstance(assignments, str | Path):
        origin, path = str(assignments), Path(assignments)
        try:
            is_archive = path.suffix == ".npz"
            assignments = load_npz(path, "assignments") if is_archive else load_npy(path)
        except ValueError as error:
            raise TableError(origin, f"no array of assignments: {error}") from error
    _check_lengths(origin, sessions, indices=indices, sources=sources)
    claim = {"name": name, "origin": origin, "algorithm": "CaImAn register_multisession"}
    options = {"indices": indices, "sources": sources, "kind": kind if sources else "", "group": group}
    return unit_table(sessions, assignments, source="" if origin == "assignments" else origin, **options, **claim)


def read_roicat(
    labels: str | Path | Sequence[ArrayLike],
    sessions: Sequence[str],
    *,
    indices: Sequence[ArrayLike] | None = None,
    sources: Sequence[str | Path] | None = None,
    kind: str = "suite2p",
    group: str = "",
    name: str = "ROICaT",
) -> UnitTable:
    """Read the labels that ROICaT's tracking gave the ROIs.

    Parameters
    ----------
    labels : sequence of (n_s,) int arrays, or path-like
        Cluster of each ROI, session by session; -1: none. A path: ``....tracking.results_clusters.json``, or
        ``....tracking.results_all.richfile``, a folder or its archive (.zip, .tar, .sqlar).
    sessions : sequence of str
        Session names in the order in which ROICaT had them.
    indices, sources, kind, group, name
        As in `read_cellreg`.

    Returns
    -------
    UnitTable
        All ROIs; those of label -1 are not followed.

    Raises
    ------
    FileNotFoundError
        No such file.
    TableError
        Not such labels, or a label twice in one session.
    """
    origin = "labels"
    if isinstance(labels, str | Path):
        origin = str(labels)
        try:
            labels = _read_roicat_labels(Path(labels))
        except (ValueError, KeyError, TypeError, RecursionError, *_DAMAGE) as error:
            message = (
                "no labels_bySession; expected ROICaT's ....tracking.results_clusters.json or results_all.richfile"
            )
            raise TableError(origin, message) from error
    _check_lengths(origin, sessions, labels=labels, indices=indices, sources=sources)
    units = []
    for s, (session, of_session) in enumerate(zip(sessions, labels, strict=True)):
        of_session = _labels(origin, session, of_session)
        original = np.arange(len(of_session)) if indices is None else np.asarray(indices[s])
        if len(original) != len(of_session):
            message = f"{len(of_session)} labels, but {len(original)} indices in session {session!r}"
            raise TableError(origin, message, values=[len(of_session), len(original)])
        identity = np.array(in_group(group, of_session.astype(str)), dtype=object)
        identity[of_session < 0] = None
        name_of = original.astype(str).astype(object)
        units.append(
            pd.DataFrame({"session": session, "unit": name_of, "original_index": original, "identity": identity})
        )
    units = pd.concat(units, ignore_index=True)
    units["group"] = group
    claim = {"name": name, "origin": origin, "algorithm": "ROICaT", "source": "" if origin == "labels" else origin}
    return UnitTable(units, sessions=session_table(sessions, sources, kind), **claim)


def _labels(origin, session, labels):
    try:
        found = as_numbers(origin, labels)
    except (TableError, ValueError):  # lists of different lengths among them make numpy's ValueError
        found = np.array(np.nan)
    if found.ndim != 1 or not (np.abs(found) < LARGEST_INDEX).all() or (found % 1).any():
        raise TableError(origin, f"labels of session {session!r} are no whole numbers, one for each ROI")
    return found.astype(np.int64)


def _read_roicat_labels(path):
    """`labels_bySession` of a .json file or of a richfile, whose parts are files in folders, archived or not."""
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))["labels_bySession"]
    if path.is_dir():
        text = (path / _RICHFILE_LABELS).read_text(encoding="utf-8") if (path / _RICHFILE_LABELS).exists() else "{}"
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            text = archive.read(_RICHFILE_LABELS)
    elif path.suffix == ".tar":
        with tarfile.open(path) as archive:
            text = archive.extractfile(_RICHFILE_LABELS).read()
    else:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as archive:
            found = archive.execute("SELECT sz, data FROM sqlar WHERE name = ?", (_RICHFILE_LABELS,)).fetchone()
            size, text = found or (2, "{}")
            text = text if len(text) == size else zlib.decompress(text)
    labels = json.loads(text)
    if not isinstance(labels, list):
        raise ValueError(f"no {_RICHFILE_LABELS}")
    return labels


def _check_lengths(origin, sessions, **lists):
    """Refuse sessions of one name, and lists that do not have one entry per session."""
    if len(set(sessions)) < len(sessions):
        raise TableError(origin, f"two sessions are called {max(sessions, key=list(sessions).count)!r}")
    for what, entries in lists.items():
        if entries is not None and len(entries) != len(sessions):
            message = f"{what} of {len(entries)} sessions, but {len(sessions)} session names"
            raise TableError(origin, message, values=[len(entries), len(sessions)])


def read_track2p(
    folder: str | Path,
    *,
    plane: int | None = None,
    sessions: Sequence[str] | None = None,
    sources: Sequence[str | Path] | None = None,
    name: str = "track2p",
) -> UnitTable:
    """Read what track2p followed over suite2p recordings.

    Tracks that were rejected in track2p's window are not followed.

    Parameters
    ----------
    folder : path-like
        The folder ``track2p``. ``plane0_suite2p_indices.npy`` is read where it is there; older versions have only
        ``plane0_match_mat.npy``, whose rows count the ROIs above ``iscell_thr`` of ``track_ops.npy``: then each
        recording's ``iscell.npy`` is needed.
    plane : int, optional
        One plane; all of them by default.
    sessions : sequence of str, optional
        Session names; by default the names of the recordings' folders.
    sources : sequence of path-like, optional
        Each session's suite2p folder, or that of its only plane; by default ``suite2p`` in the recordings' folders.
    name : str
        Name of the link set.

    Returns
    -------
    UnitTable

    Raises
    ------
    FileNotFoundError
        A file is missing.
    TableError
        A file does not hold what it should.
    """
    folder = Path(folder)
    options = _track2p_options(folder / "track_ops.npy")
    recordings = [Path(str(path).replace("\\", "/")) for path in options.get("all_ds_path", ())]
    sessions = [path.name for path in recordings] if sessions is None else list(sessions)
    planes = _track2p_planes(folder) if plane is None else [plane]
    if sources is None:
        sources = [path / "suite2p" / (f"plane{planes[0]}" if len(planes) == 1 else "") for path in recordings]
    _check_lengths(str(folder), sessions, sources=sources)
    tables = [_read_track2p_plane(folder, f"plane{number}", sessions, sources, options) for number in planes]
    claim = {"name": name, "origin": str(folder), "source": str(folder), "algorithm": "track2p"}
    units = pd.concat([table.units for table in tables])
    return UnitTable(units, sessions=session_table(sessions, sources, "suite2p"), **claim)


def _track2p_planes(folder):
    found = (re.fullmatch(r"plane(\d+)_(match_mat|suite2p_indices)\.npy", path.name) for path in folder.iterdir())
    planes = sorted({int(match[1]) for match in found if match})
    if not planes:
        raise FileNotFoundError(f"{folder / 'plane0_match_mat.npy'}: no such file")
    return planes


def _read_track2p_plane(folder, plane, sessions, sources, options):
    path, indices = folder / f"{plane}_suite2p_indices.npy", None
    if not path.exists():
        path = folder / f"{plane}_match_mat.npy"
        of_plane = (Path(source) / plane if (Path(source) / plane).is_dir() else Path(source) for source in sources)
        indices = [_track2p_selection(source / "iscell.npy", options) for source in of_plane]
    matrix = as_numbers(str(path), load_npy(path))
    table = unit_table(sessions, matrix, indices=indices, group=plane, name="track2p", origin=str(path))
    curation = options.get(f"vector_curation_plane_{plane.removeprefix('plane')}")
    table.units.loc[table.units.index.isin(1 + _track2p_rejected(path, matrix, curation)), "identity"] = None
    return table


def _track2p_rejected(path, matrix, curation):
    """Rows that were rejected by hand: track2p's window counts only those that are in all sessions."""
    if curation is None:
        return np.empty(0, dtype=int)
    everywhere = np.flatnonzero(~np.isnan(matrix).any(axis=1))
    verdict = np.ravel(curation)
    if len(verdict) != len(everywhere):
        message = f"{len(everywhere)} tracks are in all sessions, but {len(verdict)} were curated in track_ops.npy"
        raise TableError(str(path), message, values=[len(everywhere), len(verdict)])
    return everywhere[verdict == 0]


def _track2p_options(path):
    options = load_npy(path)
    if options.dtype != object or options.ndim or not isinstance(options.item(), dict):
        raise TableError(str(path), "not a dictionary of track2p's options")
    return options.item()


def _track2p_selection(path, options):
    """Rows of suite2p's ROIs that track2p saw."""
    is_cell = load_npy(path)
    if is_cell.ndim != 2 or is_cell.shape[1] != 2:
        raise TableError(str(path), f"shape {is_cell.shape}, but iscell has two columns")
    threshold = options.get("iscell_thr")
    return np.flatnonzero(is_cell[:, 0] == 1 if threshold is None else is_cell[:, 1] > threshold)


def read_unitmatch(
    path: str | Path,
    sessions: Sequence[str],
    *,
    level: str = "intermediate",
    oversplit: str = "raise",
    sources: Sequence[str | Path] | None = None,
    group: str = "",
    name: str = "UnitMatch",
) -> UnitTable:
    """Read UnitMatch's table of pairs.

    Parameters
    ----------
    path : path-like
        ``MatchTable.csv``, of UnitMatch in Python or MATLAB, with unique ids; or the folder that holds it.
    sessions : sequence of str
        Session names in UnitMatch's order (its RecSes 1, 2 ...).
    level : {"intermediate", "liberal", "conservative"}
        Which of UnitMatch's three unique ids.
    oversplit : {"raise", "best"}
        UnitMatch may say that two units of one session are one neuron that was split: refuse, or keep the one that
        matches the other sessions' units best and do not follow the other.
    sources : sequence of path-like, optional
        Folder of each session.
    group : str
        Probe of all units.
    name : str
        Name of the link set.

    Returns
    -------
    UnitTable
        All units. `probability`: the mean match probability with the unit's partners. `scores`: the probability of
        pairs from different sessions, mean of both halves' comparisons, where it exceeds 0.5.

    Raises
    ------
    FileNotFoundError
        No such file.
    TableError
        A column is missing, a session has no name, or two units of one session share an id.
    """
    path = Path(path)
    path = path / MATCH_TABLE if path.is_dir() else path
    _check_lengths(str(path), sessions, sources=sources)
    pairs = _read_pairs(path, level, len(sessions))
    first = pairs.drop_duplicates(["session", "unit"]).sort_values(["session", "unit"])
    rows = pd.MultiIndex.from_frame(first[["session", "unit"]])
    pairs["a"] = rows.get_indexer(pd.MultiIndex.from_frame(pairs[["session", "unit"]]))
    pairs["b"] = rows.get_indexer(pd.MultiIndex.from_frame(pairs[["session_2", "unit_2"]]))
    if (pairs["b"] < 0).any():
        row, pair = next(pairs[pairs["b"] < 0].iterrows())
        session = sessions[int(pair["session_2"]) - 1] if 0 < pair["session_2"] <= len(sessions) else pair["session_2"]
        raise TableError(
            str(path),
            f"unit {int(pair['unit_2'])} of session {session!r} is no first of a pair: expected each pair both ways",
            rows=[row + 2],
        )
    apart = pairs[pairs["session"] != pairs["session_2"]]
    partners = apart[apart["uid"] == apart["uid_2"]]
    probability = partners.groupby("a")["p"].mean().reindex(range(len(first)))
    units = pd.DataFrame(
        {
            "session": [sessions[s - 1] for s in first["session"]],
            "unit": first["unit"].astype(str).to_numpy(dtype=object),
            "identity": in_group(group, first["uid"].astype(str)),
            "group": group,
            "probability": probability.to_numpy(),
        }
    )
    order = units.sort_values("probability", ascending=False, na_position="last", kind="stable")
    split = order.duplicated(["session", "identity"])
    if oversplit == "best":
        units.loc[order.index[split], ["identity", "probability"]] = None
    elif oversplit != "raise":
        raise ValueError(f"oversplit={oversplit!r} is neither 'raise' nor 'best'")
    elif split.any():
        _refuse_split(path, units, order[split].iloc[0], level)
    both = apart.assign(a=apart[["a", "b"]].min(axis=1), b=apart[["a", "b"]].max(axis=1))
    scores = both.groupby(["a", "b"], as_index=False)["p"].mean().rename(columns={"p": "value"})
    scores = scores[scores["value"] > _SCORED].assign(name="UnitMatch probability")
    claim = {"name": name, "origin": str(path), "source": str(path), "algorithm": "UnitMatch"}
    table = session_table(sessions, sources, "phy")
    return UnitTable(units, sessions=table, scores=scores, parameters={"level": level}, **claim)


def _refuse_split(path, units, other, level):
    session, identity = other["session"], other["identity"]
    together = units.loc[(units["session"] == session) & (units["identity"] == identity), "unit"].tolist()
    raise TableError(
        str(path),
        f"units {' and '.join(together)} of session {session!r} have one {level} UID ({identity}): UnitMatch takes "
        "them for one neuron that was split; oversplit='best' (--oversplit best) follows the one that matches the "
        "other sessions best",
        values=together,
    )


def _stem(column):
    """What tells columns of ids from those of probabilities and scores: the first word, without digits."""
    return re.split("(?<=[a-z])(?=[A-Z])|[^A-Za-z]", column.removeprefix("UM "))[0].casefold()


def _read_pairs(path, level, n_sessions):
    """Pairs of units: session, unit, uid of each, and p."""
    if level not in _UIDS:
        raise ValueError(f"level={level!r} is none of {', '.join(_UIDS)}")
    with open(path, newline="", encoding="utf-8-sig") as file:
        header = next(csv.reader(file), [])

    def columns(*candidates):
        for names in candidates:
            if all(column in header for column in names):
                return names
        wanted = " or ".join(", ".join(map(repr, names)) for names in candidates)
        stems = {_stem(name) for names in candidates for name in names}
        similar = [name for name in header if _stem(name) in stems]
        found = f"similar are {', '.join(map(repr, similar))}" if similar else f"found {', '.join(map(repr, header))}"
        raise TableError(str(path), f"no columns {wanted}; {found}", rows=[1])

    names = (
        *columns(("ID1", "ID2")),
        *columns(*_SESSIONS),
        *columns(*_UIDS[level]),
        *columns(*((name,) for name in _PROBABILITIES)),
    )
    try:
        pairs = pd.read_csv(path, usecols=list(names), encoding="utf-8-sig", dtype=np.float64)[list(names)]
    except (ValueError, pd.errors.ParserError) as error:
        raise TableError(str(path), f"not a table of numbers: {error}") from error
    pairs.columns = ["unit", "unit_2", "session", "session_2", "uid", "uid_2", "p"]
    ids = pairs.columns[:6]
    if pairs.empty:
        raise TableError(str(path), "no pairs")
    bad = ~((pairs[ids].abs() < LARGEST_INDEX) & (pairs[ids] % 1 == 0)).all(axis=1)
    if bad.any():
        raise TableError(str(path), "an id is missing or no whole number", rows=[int(np.argmax(bad)) + 2])
    pairs[ids] = pairs[ids].astype(np.int64)
    none = (pairs["p"] < 0) | (pairs["p"] > 1)
    if none.any():
        row = int(np.argmax(none))
        message = f"{pairs['p'][row]} is no probability (0 to 1)"
        raise TableError(str(path), message, rows=[row + 2], column=names[6], values=[pairs["p"][row]])
    outside = ~pairs["session"].between(1, n_sessions)
    if outside.any():
        row = int(np.argmax(outside))
        session = int(pairs["session"][row])
        message = f"session {session}, but {n_sessions} session names"
        raise TableError(str(path), message, rows=[row + 2], column=names[2], values=[session, n_sessions])
    return pairs
