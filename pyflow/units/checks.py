"""Damage and contradictions in a store."""

import sqlite3
from contextlib import closing

from pyflow.units import schema
from pyflow.units.database import Database, UnitStoreError
from pyflow.units.pins import contradictions

_OBJECTS = "SELECT type, name FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
_MISCOUNTED = (
    "SELECT l.name, number, n_sessions, (SELECT count(*) FROM member_unit m "
    "WHERE m.multi_sess_unit_id = u.multi_sess_unit_id) AS found "
    "FROM multi_sess_unit u JOIN link_set l USING (link_set_id) WHERE n_sessions <> found OR found = 0"
)


def find_all(database: Database) -> list[str]:
    """One sentence per finding."""
    findings = []
    for look in (_find_missing, _find_damage, _find_contradictions):
        try:
            findings += look(database)
        except UnitStoreError as error:  # what cannot even be asked is a finding too, and the rest need not be asked
            findings.append(str(error))
        if findings:
            break
    return findings


def _find_missing(database):
    with closing(sqlite3.connect(":memory:")) as empty:
        for statement in schema.statements():
            empty.execute(statement)
        wanted = empty.execute(_OBJECTS).fetchall()
    there = set(database.rows(_OBJECTS))
    return [f"the {kind} {name} is missing" for kind, name in wanted if (kind, name) not in there]


def _find_damage(database):
    findings = [text for (text,) in database.rows("PRAGMA integrity_check") if text != "ok"]
    return findings + [
        f"table {name}: row {row} refers to nothing" for name, row, *_ in database.rows("PRAGMA foreign_key_check")
    ]


def _find_contradictions(database):
    return [
        f"link set {name!r}: unit {number} counts {n} sessions but has {found} members"
        for name, number, n, found in database.rows(_MISCOUNTED)
    ] + contradictions(database)
