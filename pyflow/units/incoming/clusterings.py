"""Identities that are there from the start: several sessions clustered as one, or ids kept the same by hand.

Each function returns a `UnitTable` in which the same id in two sessions is the same unit.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pyflow.io.unpickle import load_npy
from pyflow.units.incoming.sheets import read_sheets
from pyflow.units.unit_table import TableError, UnitTable, in_group, session_table

logger = logging.getLogger(__name__)

Spans = Mapping[str, tuple[int, int]]
"""Session name -> its first sample in a concatenated recording, and the first one after it."""

MAX_GROUP_NAME = 64  # characters of a multi-session clustering's name

# phy's verdict and the sorter's
VERDICTS = ("cluster_group.tsv", "cluster_groups.csv", "cluster_KSLabel.tsv")
# their column beside `cluster_id`; Kilosort 2.5 to 4 make cluster_group.tsv a copy of cluster_KSLabel.tsv
_VERDICT_COLUMNS = ("group", "KSLabel")


def clustering_table(
    clusters: Mapping[str, ArrayLike],
    *,
    group_name: str,
    quality: Mapping[int, str | None] | None = None,
    exclude: Collection[str] = ("noise",),
    group: str = "",
    **claim: Any,
) -> UnitTable:
    """Units of a clustering over several sessions, from arrays.

    Parameters
    ----------
    clusters : dict of str to (n_spikes,) int array
        Session name -> cluster of each of its spikes. A cluster is a unit of the sessions in which it has spikes.
    group_name : str
        Name of the clustering, and of the link set; at most 64 characters.
    quality : dict of int to str, optional
        Cluster -> verdict ("good", "mua", "noise"); becomes the units' attribute `quality`.
    exclude : sequence of str
        Verdicts of clusters that are no units.
    group : str
        Tetrode, probe or plane of all units; ids are the same unit within their group only.
    **claim
        Who and how: `author` (the curator), `created` (curation time, ISO 8601), `parameters` (location, notes ...),
        `sessions` (their start times and sources), and what else `UnitTable` knows.

    Returns
    -------
    UnitTable
        With the attribute `n_spikes`; ordered by session, then cluster.

    Raises
    ------
    TableError
        The name is empty or too long, or nothing is left.
    """
    claim = {"origin": f"clustering {group_name!r}", "algorithm": "multi-session clustering"} | claim
    if not 0 < len(group_name) <= MAX_GROUP_NAME:
        message = f"group name {group_name!r} has {len(group_name)} characters, not 1 to {MAX_GROUP_NAME}"
        raise TableError(claim["origin"], message, values=[group_name])
    rows = []
    for session, of_spikes in clusters.items():
        ids, counts = np.unique(of_spikes, return_counts=True)
        verdicts = ["unsorted" if quality is None else quality.get(int(i), "unsorted") for i in ids]
        rows += [(session, str(i), n, v) for i, n, v in zip(ids, counts.tolist(), verdicts, strict=True)]
    units = pd.DataFrame(rows, columns=["session", "unit", "n_spikes", "quality"])
    units = units[~units["quality"].isin(exclude)].reset_index(drop=True)
    if units.empty:
        raise TableError(claim["origin"], f"no units: {len(rows)} clusters, all of them {', '.join(exclude)}")
    if quality is None:
        units = units.drop(columns="quality")
    claim.setdefault("sessions", session_table(clusters))
    return UnitTable(units.assign(group=group, identity=in_group(group, units["unit"])), name=group_name, **claim)


def split_spikes(spike_times: ArrayLike, spike_clusters: ArrayLike, spans: Spans) -> dict[str, np.ndarray]:
    """Clusters of each session's spikes in a concatenated recording.

    Parameters
    ----------
    spike_times : (n,) array
        In the unit of `spans`, usually samples.
    spike_clusters : (n,) int array
        Their clusters.
    spans : dict of str to (start, end)
        Session name -> its span; `end` is the first sample after it.

    Returns
    -------
    dict of str to int array
        Session name -> the clusters of its spikes.

    Raises
    ------
    ValueError
        Arrays of different lengths, a span that ends before it starts, or two that overlap.
    """
    times, clusters = np.ravel(spike_times), np.ravel(spike_clusters)
    if len(times) != len(clusters):
        raise ValueError(f"{len(times)} spike times, but {len(clusters)} clusters")
    previous, last = None, -np.inf
    for session, (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        if end <= start:
            raise ValueError(f"span of session {session!r} ends at {end}, before it starts at {start}")
        if start < last:
            raise ValueError(f"span of session {session!r} starts at {start}, before {previous!r} ends at {last}")
        previous, last = session, end
    inside = {session: (times >= start) & (times < end) for session, (start, end) in spans.items()}
    lost = len(times) - sum(int(mask.sum()) for mask in inside.values())
    if lost:
        logger.warning("%d of %d spikes are in no session's span", lost, len(times))
    return {session: clusters[mask] for session, mask in inside.items()}


def read_clustering(
    folder: str | Path,
    spans: Spans,
    *,
    group_name: str | None = None,
    exclude: Collection[str] = ("noise",),
    group: str = "",
    **claim: Any,
) -> UnitTable:
    """Read a Kilosort or phy folder in which several sessions were sorted as one recording.

    Parameters
    ----------
    folder : path-like
        With ``spike_times.npy``, ``spike_clusters.npy`` and, where it was curated, ``cluster_group.tsv``.
    spans : dict of str to (start, end)
        Session name -> its span in the concatenated recording, in samples.
    group_name : str, optional
        Name of the clustering; by default the folder's name.
    exclude, group, **claim
        As in `clustering_table`.

    Returns
    -------
    UnitTable

    Raises
    ------
    FileNotFoundError
        A file is missing.
    TableError
        A file does not hold what it should, or the spans overlap.
    """
    folder = Path(folder)
    times, clusters = load_npy(folder / "spike_times.npy"), _load_clusters(folder)
    try:
        clusters = split_spikes(times, clusters, spans)
    except ValueError as error:
        raise TableError(str(folder), str(error)) from error
    sessions = session_table(spans, [folder] * len(spans), "phy")
    sessions["span_start"], sessions["span_end"] = zip(*((int(a), int(b)) for a, b in spans.values()), strict=True)
    claim = {"origin": str(folder), "source": str(folder), "sessions": sessions} | claim
    claim["parameters"] = {"spans": {s: [int(start), int(end)] for s, (start, end) in spans.items()}} | claim.get(
        "parameters", {}
    )
    return clustering_table(
        clusters,
        group_name=folder.name if group_name is None else group_name,
        quality=_read_verdicts(folder),
        exclude=exclude,
        group=group,
        **claim,
    )


def _load_clusters(folder):
    """Cluster of each spike."""
    clusters = load_npy(folder / "spike_clusters.npy").ravel()
    if clusters.dtype.kind == "f" and np.isfinite(clusters).all() and (clusters % 1 == 0).all():
        return clusters.astype(np.int64)
    if clusters.dtype.kind not in "iu":
        message = f"values of type {clusters.dtype} are no clusters: expected whole numbers"
        raise TableError(str(folder / "spike_clusters.npy"), message)
    return clusters


def _read_verdicts(folder):
    """Cluster -> verdict, phy's where it gave one; None where the folder has none."""
    found = None
    for name in reversed(VERDICTS):
        path = folder / name
        if not path.exists():
            continue
        table = _read_table(path, ("cluster_id",), _VERDICT_COLUMNS)
        for row, value in table["cluster_id"].items():
            if value is None or not value.isdecimal():
                message = f"{value!r} is no cluster"
                raise TableError(str(path), message, rows=[row], column="cluster_id", values=[value])
        found = (found or {}) | dict(table.astype({"cluster_id": int}).to_numpy().tolist())
    return found


def _read_table(path, *columns):
    """Columns of a text file as text, None where blank, indexed by row; each by the first of its headings in row 1."""
    rows = list(read_sheets(path)[0].rows.items())
    header, chosen = rows[0][1] if rows else [], []
    for headings in columns:
        heading = next((heading for heading in headings if heading in header), None)
        if heading is None:
            found = ", ".join(map(repr, header)) or "an empty file"
            raise TableError(str(path), f"no column {' or '.join(map(repr, headings))}; found {found}", rows=[1])
        chosen.append(heading)
    cells = [(row + [None] * len(header))[: len(header)] for _, row in rows[1:]]
    return pd.DataFrame(cells, columns=header, index=[number for number, _ in rows[1:]], dtype=object)[chosen]


def consistent_ids(ids: Mapping[str, Iterable[Any]], *, name: str, group: str = "", **claim: Any) -> UnitTable:
    """Units of sessions in which the same id is the same unit.

    Parameters
    ----------
    ids : dict of str to sequence
        Session name -> the ids of the units that are there; an id that is absent is an absent unit.
    name : str
        Name of the link set.
    group : str
        Tetrode, probe or plane of all units; ids are the same unit within their group only.
    **claim
        What else `UnitTable` knows: `author`, `sessions`, `parameters` ...

    Returns
    -------
    UnitTable

    Raises
    ------
    TableError
        An id twice in one session, or a value that is no id.
    """
    rows = [(session, _id(name, session, i)) for session, of_session in ids.items() for i in of_session]
    units = pd.DataFrame(rows, columns=["session", "unit"], dtype=object)
    units = units.assign(group=group, identity=in_group(group, units["unit"]))
    claim = {"origin": name, "algorithm": "ids kept by hand", "sessions": session_table(ids)} | claim
    return UnitTable(units, name=name, **claim)


def _id(name, session, value):
    """An id as text: of a whole number the same, whether it came as an integer or as a float."""
    if isinstance(value, np.generic):
        value = value.item()
    whole = isinstance(value, float) and value % 1 == 0
    if isinstance(value, bool | bytes) or (isinstance(value, float) and not whole):
        message = f"{value!r} in session {session!r} is no id: expected whole numbers or text"
        raise TableError(name, message, values=[value])
    return str(int(value) if whole else value)


def read_phy_ids(
    folders: Mapping[str, str | Path],
    *,
    name: str,
    exclude: Collection[str] = ("noise",),
    group: str = "",
    **claim: Any,
) -> UnitTable:
    """Read one Kilosort or phy folder per session, whose curator gave the same unit the same cluster id.

    Parameters
    ----------
    folders : dict of str to path-like
        Session name -> folder with ``cluster_group.tsv``. Clusters without a verdict, or without spikes in
        ``spike_clusters.npy``, are no units.
    name : str
        Name of the link set.
    exclude : sequence of str
        Verdicts of clusters that are no units.
    group : str
        Tetrode, probe or plane of all units; ids are the same unit within their group only.
    **claim
        As in `consistent_ids`.

    Returns
    -------
    UnitTable
        With the attribute `quality`.

    Raises
    ------
    FileNotFoundError
        A folder has no such file.
    TableError
        The file is not phy's.
    """
    ids, quality = {}, []
    for session, folder in folders.items():
        verdicts = _read_verdicts(Path(folder))
        if verdicts is None:
            raise FileNotFoundError(f"{Path(folder) / VERDICTS[0]}: no such file")
        has_spikes = (Path(folder) / "spike_clusters.npy").exists()
        # those that were merged or split may keep the sorter's verdict, but no spikes
        present = set(_load_clusters(Path(folder)).tolist()) if has_spikes else verdicts
        kept = {i: verdict for i, verdict in sorted(verdicts.items()) if i in present and verdict not in exclude}
        ids[session] = list(kept)
        quality += kept.values()
    claim = {"sessions": session_table(folders, folders.values(), "phy")} | claim
    table = consistent_ids(ids, name=name, group=group, **claim)
    table.units["quality"] = quality
    return table


def read_suite2p_ids(folders: Mapping[str, str | Path], *, name: str, group: str = "", **claim: Any) -> UnitTable:
    """Read one suite2p plane folder per session, all with the same ROIs: row i is the same cell everywhere.

    Parameters
    ----------
    folders : dict of str to path-like
        Session name -> plane folder with ``iscell.npy``. All ROIs are listed; those that are cells are followed.
    name : str
        Name of the link set.
    group : str
        Plane of all units.
    **claim
        What else `UnitTable` knows: `author`, `parameters` ...

    Returns
    -------
    UnitTable
        With the attribute `iscell_probability`.

    Raises
    ------
    FileNotFoundError
        A folder has no such file.
    TableError
        The file is not suite2p's, or the sessions have different numbers of ROIs.
    """
    units, first = [], None
    for session, folder in folders.items():
        path = Path(folder) / "iscell.npy"
        is_cell = load_npy(path)
        if is_cell.ndim != 2 or is_cell.shape[1] != 2:
            raise TableError(str(path), f"shape {is_cell.shape}, but iscell has two columns")
        first = first or (session, len(is_cell))
        if len(is_cell) != first[1]:
            message = f"{len(is_cell)} ROIs, but session {first[0]!r} has {first[1]}: rows cannot be the same cells"
            raise TableError(str(path), message, values=[len(is_cell), first[1]])
        row = np.arange(len(is_cell))
        text = row.astype(str).astype(object)
        of_session = {"session": session, "unit": text, "original_index": row, "iscell_probability": is_cell[:, 1]}
        units.append(
            pd.DataFrame(of_session).assign(identity=np.where(is_cell[:, 0] == 1, in_group(group, text), None))
        )
    units = pd.concat(units, ignore_index=True).assign(group=group)
    claim = {
        "origin": name,
        "algorithm": "ids kept by hand",
        "sessions": session_table(folders, folders.values(), "suite2p"),
    } | claim
    return UnitTable(units, name=name, **claim)
