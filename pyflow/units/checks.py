"""Damage and contradictions in a store."""

from pyflow.units.database import Database
from pyflow.units.lookup import unit_key

_MISCOUNTED = (
    "SELECT l.name, number, n_sessions, (SELECT count(*) FROM member_unit m "
    "WHERE m.multi_sess_unit_id = u.multi_sess_unit_id) AS found "
    "FROM multi_sess_unit u JOIN link_set l USING (link_set_id) WHERE n_sessions <> found OR found = 0"
)


def find_all(database: Database) -> list[str]:
    """One sentence per finding."""
    findings = [text for (text,) in database.rows("PRAGMA integrity_check") if text != "ok"]
    findings += [
        f"table {name}: row {row} refers to nothing" for name, row, *_ in database.rows("PRAGMA foreign_key_check")
    ]
    findings += [
        f"link set {name!r}: unit {number} counts {n} sessions but has {found} members"
        for name, number, n, found in database.rows(_MISCOUNTED)
    ]
    for name, kind, *units in pin_conflicts(database):
        a, b = (unit_key(database, unit) for unit in units)
        verb = "links" if kind == "unlink" else "separates"
        findings.append(f"link set {name!r} {verb} {a} and {b}, pinned as {kind}")
    return findings


def pin_conflicts(database: Database) -> list[tuple[str, str, int, int]]:
    """Pins that a link set contradicts: its name, the kind of pin, both units' rows."""
    return database.rows(
        "SELECT l.name, kind, unit_a, unit_b FROM link_set l JOIN pin p "
        "LEFT JOIN member_unit a ON a.link_set_id = l.link_set_id AND a.unit_id = unit_a "
        "LEFT JOIN member_unit b ON b.link_set_id = l.link_set_id AND b.unit_id = unit_b "
        "WHERE unit_a <> unit_b AND l.replaced_by IS NULL AND "
        "(kind = 'unlink') = (a.multi_sess_unit_id IS NOT NULL AND a.multi_sess_unit_id IS b.multi_sess_unit_id)"
    )
