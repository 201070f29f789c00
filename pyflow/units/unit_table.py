"""The form in which every importer hands its units to the store, and the error that names their rows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

UNIT_COLUMNS = ("session", "group", "unit", "original_index", "identity", "global_id", "probability")
SESSION_COLUMNS = ("name", "start_time", "source", "kind")

_GLOBAL_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LARGEST_INDEX = 2**53  # whole numbers up to this one are exact in a float64
NOTHING = ("nan", "none", "null", "nat", "<na>")  # in tables that programs write
_JOINERS = "\u200c\u200d"  # which Persian, Indic scripts and emoji need


class TableError(ValueError):
    """A table that cannot be imported.

    Attributes
    ----------
    origin : str
        The table: file, and sheet where there are several.
    rows : tuple of int
        Rows as the table numbers them (a spreadsheet's first row is 1).
    column : str
        Heading of the column, empty where the whole row or table is meant.
    values : tuple
        The values that contradict each other, or the one that cannot be read.
    """

    def __init__(
        self, origin: str, message: str, *, rows: Iterable[int] = (), column: str = "", values: Iterable[Any] = ()
    ) -> None:
        self.origin, self.column, self.values = origin, column, tuple(values)
        self.rows = tuple(int(row) for row in rows)
        where = [origin]
        if self.rows:
            where.append(("row " if len(self.rows) == 1 else "rows ") + " and ".join(map(str, self.rows)))
        if column:
            where.append(f"column {column!r}")
        super().__init__(f"{', '.join(where)}: {message}")


@dataclass(frozen=True)
class UnitTable:
    """Units of several sessions and, where they are followed, who is who.

    Attributes
    ----------
    units : pandas.DataFrame
        One row per unit, indexed by the row's number in its source. Columns `session`, `group`, `unit` (text),
        `identity` (text: what the source calls the cell; missing: not followed) and optionally `original_index`
        (0-based, over all that was detected), `global_id` (UUID of the cell), `probability` (0 to 1). Any other column
        is an attribute.
    name : str
        Name of the link set; empty: the table only lists units and claims no identities.
    origin : str
        How errors name the table.
    sessions : pandas.DataFrame
        Columns `name`, `start_time` (ISO 8601), `source` (path), `kind`; others are attributes. Sessions that
        only `units` names are added in order of appearance.
    source, algorithm, version, author, created : str
        Where the claim comes from.
    parameters : dict
        JSON content.
    scores : pandas.DataFrame
        Scores of pairs: columns `a`, `b` (values of the index of `units`), `name`, `value`.
    headings : dict
        Column of `units` -> what the source calls it, for errors.
    """

    units: pd.DataFrame
    name: str
    origin: str
    sessions: pd.DataFrame | None = None
    source: str = ""
    algorithm: str = ""
    version: str = ""
    author: str = ""
    created: str = ""
    parameters: dict = field(default_factory=dict)
    scores: pd.DataFrame | None = None
    headings: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        units = self.units.copy()
        if missing := [column for column in ("session", "unit") if column not in units]:
            raise self.error(f"no column {missing[0]!r}; found {', '.join(map(repr, units))}")
        if not units.columns.is_unique:
            raise self.error(f"two columns are called {units.columns[units.columns.duplicated()][0]!r}")
        for column in ("group", "original_index", "identity", "global_id", "probability"):
            if column not in units:
                units[column] = "" if column == "group" else None
        names = pd.unique(_composed(units["session"]))
        sessions = pd.DataFrame({"name": names}) if self.sessions is None else self.sessions.copy()
        sessions["name"] = _composed(sessions["name"])
        missing = pd.DataFrame({"name": names[~np.isin(names, sessions["name"])]})
        sessions = pd.concat([sessions, missing], ignore_index=True)
        for column in SESSION_COLUMNS[1:]:
            sessions[column] = sessions[column].fillna("") if column in sessions else ""
        for column in ("session", "group", "unit", "identity"):
            units[column] = _composed(units[column])
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "sessions", sessions)
        self._check()

    @property
    def followed(self) -> pd.DataFrame:
        """Rows of `units` that have an identity."""
        return self.units[self.units["identity"].notna()]

    def heading(self, column: str) -> str:
        """What the source calls a column of `units`."""
        return self.headings.get(column, column)

    def error(
        self, message: str, *, rows: Iterable[int] = (), column: str = "", values: Iterable[Any] = ()
    ) -> TableError:
        """`TableError` at rows and a column of this table."""
        return TableError(self.origin, message, rows=rows, column=self.heading(column) if column else "", values=values)

    def _check(self):
        if fault := fault_of_name(self.name):
            raise self.error(f"{self.name!r} is no name of a link set: it {fault}", values=[self.name])
        for column, units in (
            ("session", self.units),
            ("group", self.units),
            ("unit", self.units),
            ("identity", self.followed),
        ):
            for value in pd.unique(units[column]):
                if not isinstance(value, str) or not (value or column == "group"):
                    row = units.index[(units[column] == value) | units[column].isna()][0]
                    raise self.error(f"{value!r} is no {column} name", rows=[row], column=column, values=[value])
                if fault := fault_of_name(value):
                    row = units.index[units[column] == value][0]
                    message = f"{value!r} is no {column} name: it {fault}"
                    raise self.error(message, rows=[row], column=column, values=[value])
        self._refuse_repeats(self.units, ["session", "group", "unit"], "unit", "is listed twice")
        self._refuse_repeats(self.followed, ["identity", "session"], "identity", "has two units in one session")
        named = self.followed.dropna(subset="global_id")
        pairs = named.drop_duplicates(["identity", "global_id"])
        self._refuse_repeats(pairs, ["identity"], "global_id", "has two global ids")
        self._refuse_repeats(pairs, ["global_id"], "identity", "names two identities")
        for global_id in pairs["global_id"]:
            if not _GLOBAL_ID.fullmatch(global_id):
                row = named.index[named["global_id"] == global_id][0]
                raise self.error(f"{global_id!r} is no UUID", rows=[row], column="global_id", values=[global_id])
        if self.scores is not None:
            unknown = ~np.isin(self.scores[["a", "b"]], self.units.index)
            if unknown.any():
                row = self.scores[["a", "b"]].to_numpy()[unknown][0]
                raise self.error(f"a score of row {row}, which holds no unit", values=[row])
        self._refuse_indices()
        p = pd.to_numeric(self.units["probability"], errors="coerce")
        if (no_number := p.isna() & self.units["probability"].notna()).any():
            value = self.units["probability"][no_number].iloc[0]
            row = self.units.index[no_number][0]
            raise self.error(f"{value!r} is no probability (0 to 1)", rows=[row], column="probability", values=[value])
        if (outside := p[(p < 0) | (p > 1)]).size:
            raise self.error(
                f"{outside.iloc[0]} is no probability (0 to 1)",
                rows=[outside.index[0]],
                column="probability",
                values=[outside.iloc[0]],
            )

    def _refuse_indices(self):
        given = self.units["original_index"].dropna()
        numbers = pd.to_numeric(given, errors="coerce").astype(np.float64)
        wrong = ~((numbers >= 0) & (numbers <= LARGEST_INDEX) & (numbers % 1 == 0))
        if given.dtype == object:
            wrong |= given.map(type).isin([str, bool])
        if wrong.any():
            value, row = given[wrong].iloc[0], given.index[wrong][0]
            message = f"{value!r} is no index (0, 1, 2 ...)"
            raise self.error(message, rows=[row], column="original_index", values=[value])

    def _refuse_repeats(self, rows, key, column, verdict):
        again = rows.duplicated(key)
        if not again.any():
            return
        second = rows[again].iloc[0]
        first = rows[(rows[key] == second[key]).all(axis=1)].iloc[0]
        what = ", ".join(f"{self.heading(k)} {second[k]!r}" for k in key)
        where = [(r["session"], r["group"], r["unit"]) for r in (first, second)]
        values = where if column != "global_id" else (first[column], second[column])
        if column == "unit":
            raise self.error(f"{what} {verdict}", rows=[first.name, second.name], column=column, values=values)
        raise self.error(
            f"{what} {verdict}: {_show(values[0])} and {_show(values[1])}",
            rows=[first.name, second.name],
            column=column,
            values=values,
        )


def fault_of_name(text: str) -> str:
    """What is wrong with a name, as the rest of a sentence; empty: nothing.

    Spaces around it and characters that nobody sees are lost or added when names pass through other programs, and the
    name is another one then; and all cells that a program wrote as "nan" would be one.
    """
    if text.lower() in NOTHING:
        return "is what programs write where nothing is"
    if text != text.strip():
        return "starts or ends with a space"
    if text.isprintable():
        return ""
    for place, character in enumerate(text):
        if character in _JOINERS and not (text[:place][-1:].isascii() or text[place + 1 :][:1].isascii()):
            continue
        if unicodedata.category(character) in ("Cc", "Cf", "Cs"):
            name = unicodedata.name(character, "a control character")
            return f"holds the invisible character U+{ord(character):04X} ({name})"
    return ""


def composed(text: str) -> str:
    """A name as it is kept: a letter and its accent are one character, which file names of macOS have as two."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _composed(column):
    """A column of names as they are kept; what is no text is left for `UnitTable` to refuse."""
    others = {
        name: composed(name)
        for name in pd.unique(column)
        if isinstance(name, str) and not name.isascii() and composed(name) != name
    }
    return column.replace(others) if others else column


def _show(value):
    return repr("/".join(value) if isinstance(value, tuple) else value)


def in_group(group: str, ids: Iterable[str]) -> list[str]:
    """Identities of units whose ids start anew in each group (tetrode, probe, plane)."""
    return [f"{group}/{i}" if group else str(i) for i in ids]


def unit_table(
    sessions: Sequence[str],
    identities: ArrayLike,
    *,
    indices: Sequence[ArrayLike] | None = None,
    sources: Sequence[str | Path] | None = None,
    kind: str = "",
    group: str = "",
    probability: ArrayLike | None = None,
    **claim: Any,
) -> UnitTable:
    """`UnitTable` from the matrix form that ROI matchers share.

    Parameters
    ----------
    sessions : sequence of str
        Session names, one per column.
    identities : (N, S) array of float or int
        Row of the unit in its session, 0-based; negative or NaN where the identity is absent.
    indices : sequence of (n_s,) int arrays, optional
        Per session, the original index (over all ROIs) of each row that the matcher saw: its selection of
        accepted ROIs. Without it the matcher saw all ROIs.
    sources : sequence of path-like, optional
        Folder or file of each session.
    kind : str
        Kind of those sources, for example ``"suite2p"``.
    group : str
        Plane or probe of all units; part of their identities, so that those of several can be kept together.
    probability : (N, S) array of float, optional
        Confidence of each member.
    **claim
        `name`, `origin` and what else `UnitTable` says of a claim.

    Returns
    -------
    UnitTable
        One unit per present entry; its id is its original index as text.

    Raises
    ------
    TableError
        Number of sessions or an index does not fit.
    """
    origin = claim["origin"]
    matrix = as_numbers(origin, identities)
    if matrix.ndim != 2 or matrix.shape[1] != len(sessions):
        raise TableError(origin, f"shape {matrix.shape} does not fit {len(sessions)} sessions (one column each)")
    if indices is not None and len(indices) != len(sessions):
        raise TableError(origin, f"{len(indices)} index lists for {len(sessions)} sessions")
    row, column = np.nonzero(np.nan_to_num(matrix, nan=-1.0) >= 0)
    value = matrix[row, column]
    if not value.size:
        raise TableError(origin, "no cells")
    none = (np.floor(value) != value) | (value > LARGEST_INDEX)
    if none.any():
        bad = int(np.argmax(none))
        raise TableError(origin, f"{value[bad]} is no index", rows=[row[bad] + 1], column=sessions[column[bad]])
    original = value.astype(np.int64)
    if indices is not None:
        for s, index in enumerate(indices):
            here = np.flatnonzero(column == s)
            index = np.asarray(index)
            if len(here) and (top := original[here].max()) >= len(index):
                at = here[np.argmax(original[here])]
                message = f"index {top} in session {sessions[s]!r}, which has {len(index)} units"
                raise TableError(origin, message, rows=[row[at] + 1], values=[int(top), len(index)])
            original[here] = index[original[here]]
    units = pd.DataFrame(
        {
            "session": np.asarray(sessions, dtype=object)[column],
            "group": group,
            "unit": original.astype(str).astype(object),
            "original_index": original,
            "identity": in_group(group, (row + 1).astype(str)),
        },
        index=row + 1,
    )
    if probability is not None:
        units["probability"] = np.asarray(probability, dtype=np.float64)[row, column]
    return UnitTable(units, sessions=session_table(sessions, sources, kind), **claim)


def as_numbers(origin: str, values: ArrayLike) -> np.ndarray:
    """Values as float64, None as NaN; `TableError` where they are anything but numbers."""
    array = np.asarray(values)
    given = array.dtype
    if given.kind == "O":
        flat = [np.nan if value is None else value for value in array.ravel().tolist()]
        if all(isinstance(value, Real) and not isinstance(value, bool) for value in flat):
            array = np.array(flat, dtype=np.float64).reshape(array.shape)
    if array.dtype.kind not in "iuf":
        raise TableError(origin, f"values of type {given}: expected numbers")
    return array.astype(np.float64)


def session_table(names: Iterable[str], sources: Iterable[str | Path] | None = None, kind: str = "") -> pd.DataFrame:
    """Sessions for a `UnitTable`: their names and, where they are known, their sources, all of one kind."""
    table = pd.DataFrame({"name": list(names)})
    if sources is not None:
        table["source"], table["kind"] = [str(Path(source)) for source in sources], kind
    return table
