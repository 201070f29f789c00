"""What people call a unit or an identity, and the row of the store that it stands for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pyflow.units.store.database import Database, UnitStoreError
from pyflow.units.unit_table import composed


class UnitKey(NamedTuple):
    """A unit as people name it: session, group (tetrode, probe, plane; empty if none), id."""

    session: str
    group: str
    unit: str

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


@dataclass(frozen=True)
class MultiSessUnit:
    """One identity of a link set.

    Attributes
    ----------
    link_set : str
        Name of the link set.
    number : int
        Short number, for people.
    global_id : str
        UUID, for everything else.
    label : str
        What its source called it.
    n_sessions : int
        Number of its members, one per session.
    """

    link_set: str
    number: int
    global_id: str
    label: str
    n_sessions: int


UnitReference = int | str | MultiSessUnit | tuple[str, str, str]
"""What names an identity: its number, its global id or label, itself, or one of its members (session, group, unit)."""


def current(database: Database) -> str | None:
    """Name of the current link set, None in a store without one."""
    return database.value("SELECT name FROM link_set JOIN current_link_set USING (link_set_id)")


def link_set_id(database: Database, name: str | None = None) -> int:
    """Row of a link set; by default of the current one."""
    if name is None and (name := current(database)) is None:
        raise UnitStoreError(f"{database.path}: holds no link set")
    found = database.value("SELECT link_set_id FROM link_set WHERE name = ?", name)
    if found is None:
        known = ", ".join(repr(n) for (n,) in database.rows("SELECT name FROM link_set"))
        raise UnitStoreError(f"{database.path}: no link set {name!r}; it holds {known or 'none'}")
    return found


def session_id(database: Database, name: str) -> int:
    """Row of a session."""
    found = database.value("SELECT session_id FROM session WHERE name = ?", composed(name))
    if found is None:
        raise UnitStoreError(f"{database.path}: no session {name!r}")
    return found


def known_names(database: Database, column: str, names: Sequence[str]) -> list[str]:
    """Names of sessions or groups (what `column` says) as the store has them; one that it lacks is refused."""
    if isinstance(names, str):
        raise TypeError(f"{column}s is {names!r}, expected a list of names")
    sql = {"session": "SELECT name FROM session", "group": "SELECT DISTINCT group_name FROM unit"}[column]
    known = [name for (name,) in database.rows(sql)]
    for name in names:
        if composed(name) not in known:
            there = ", ".join(map(repr, known)) or "none"
            raise UnitStoreError(f"{database.path}: no {column} {name!r}; there are {there}")
    return [composed(name) for name in names]


def unit_id(database: Database, key: tuple[str, str, str]) -> int:
    """Row of the unit (session, group, unit)."""
    key = UnitKey(*map(composed, key))
    found = database.value(
        "SELECT unit_id FROM unit WHERE session_id = ? AND group_name = ? AND unit_name = ?",
        *(session_id(database, key.session), key.group, key.unit),
    )
    if found is None:
        where = f"group {key.group!r} of session {key.session!r}" if key.group else f"session {key.session!r}"
        raise UnitStoreError(f"{database.path}: {where} has no unit {key.unit!r}{_elsewhere(database, key)}")
    return found


def _elsewhere(database, key):
    """Return what an error says of where else the session has a unit of that id."""
    sql = (
        "SELECT group_name FROM unit JOIN session USING (session_id) WHERE name = ? AND unit_name = ? ORDER BY unit_id"
    )
    groups = [group for (group,) in database.rows(sql, key.session, key.unit)]
    if not groups:
        return ""
    without = "" if key.group else " without a group"
    return f"{without}; units of that id are in the groups {', '.join(repr(group) for group in groups)}"


def unit_keys(database: Database, unit_ids: ArrayLike) -> pd.DataFrame:
    """Keys of units: DataFrame of session, group, unit, in the order of their rows."""
    ids = np.asarray(unit_ids, dtype=np.int64)
    frame = database.frame(
        'SELECT unit_id, s.name AS session, group_name AS "group", unit_name AS unit '
        "FROM unit JOIN session s USING (session_id) WHERE unit_id IN (SELECT value FROM json_each(?))",
        json.dumps(np.unique(ids).tolist()),
    )
    return frame.set_index("unit_id").loc[ids].reset_index(drop=True)


def unit_key(database: Database, row: int) -> UnitKey:
    """`UnitKey` of one unit."""
    return UnitKey(*unit_keys(database, [row]).iloc[0])


def owner(database: Database, unit: int, of_link_set: int) -> int | None:
    """Row of the identity that a unit's row belongs to in a link set, None where it is not followed."""
    sql = "SELECT multi_sess_unit_id FROM member_unit WHERE link_set_id = ? AND unit_id = ?"
    return database.value(sql, of_link_set, unit)


def multi_sess_unit_id(database: Database, unit: UnitReference, of_link_set: int) -> int:
    """Row of an identity.

    Parameters
    ----------
    database : Database
    unit : int, str, MultiSessUnit or (session, group, unit)
        Its number, global id, label, or one of its members. Text that is the label of one and the number of another
        means the label, which people read in their own tables.
    of_link_set : int
        Row of the link set.
    """
    if isinstance(unit, tuple):
        found = owner(database, unit_id(database, unit), of_link_set)
        if found is None:
            raise UnitStoreError(f"{database.path}: {UnitKey(*unit)} is not followed")
        return found
    text = unit.global_id if isinstance(unit, MultiSessUnit) else composed(str(unit))
    columns = ("label", "global_id")
    if isinstance(unit, MultiSessUnit):
        columns = ("global_id",)
    elif isinstance(unit, int | np.integer):
        columns = ("number",)
    elif text.isascii() and text.isdecimal() and text == str(int(text)):
        columns = ("label", "number")
    for column in columns:
        sql = f"SELECT multi_sess_unit_id FROM multi_sess_unit WHERE link_set_id = ? AND {column} = ?"
        if (found := database.value(sql, of_link_set, text)) is not None:
            return found
    name = database.value("SELECT name FROM link_set WHERE link_set_id = ?", of_link_set)
    raise UnitStoreError(f"{database.path}: link set {name!r} has no cell {unit!r} (number, global id or label)")


def multi_sess_unit(database: Database, row: int) -> MultiSessUnit:
    """`MultiSessUnit` of a row."""
    return MultiSessUnit(
        *database.row(
            "SELECT l.name, number, global_id, label, n_sessions "
            "FROM multi_sess_unit JOIN link_set l USING (link_set_id) WHERE multi_sess_unit_id = ?",
            row,
        )
    )
