"""What a person changes by hand in a link set, and the pins that remember it.

Every function runs in a change that is under way (`Database.change`) and takes rows, not names.
"""

import json
import uuid

from pyflow.units.store.database import Database, UnitStoreError
from pyflow.units.store.lookup import multi_sess_unit, owner, unit_key

_MEMBERS = "SELECT unit_id FROM member_unit WHERE multi_sess_unit_id = ?"


def link(database: Database, a: int, b: int, link_set: int, change_id: int) -> int:
    """Pin two units as one cell and join what they belong to; row of the identity."""
    if a == b:
        raise UnitStoreError(f"{unit_key(database, a)} cannot be linked with itself")
    _pin(database, "link", a, b, change_id)  # first: it takes the place of a pin that keeps these two apart
    owners = [owner(database, unit, link_set) for unit in (a, b)]
    if owners[0] is None or owners[0] != owners[1]:
        return _join(database, (a, b), owners, link_set, change_id)
    return owners[0]


def _join(database, units, owners, link_set, change_id):
    sides = [_members(database, o) if o else [unit] for unit, o in zip(units, owners, strict=True)]
    _refuse_locked(database, sides[0] + sides[1])
    _refuse_clash(database, *sides)
    kept = min((o for o in owners if o), default=None) or _new_identity(database, link_set, change_id)
    for unit, of_unit in zip(units, owners, strict=True):
        if of_unit is None:
            database.run(
                "INSERT INTO member_unit (link_set_id, unit_id, session_id, multi_sess_unit_id, change_id) "
                "SELECT ?, unit_id, session_id, ?, ? FROM unit WHERE unit_id = ?",
                *(link_set, kept, change_id, unit),
            )
        elif of_unit != kept:
            database.run("UPDATE member_unit SET multi_sess_unit_id = ? WHERE multi_sess_unit_id = ?", kept, of_unit)
            database.run("DELETE FROM multi_sess_unit WHERE multi_sess_unit_id = ?", of_unit)
    return kept


def _new_identity(database, link_set, change_id):
    number = 1 + database.value(
        "SELECT coalesce(max(max(number), max(CAST(substr(label, 1, 9) AS INTEGER))), 0) "
        "FROM multi_sess_unit WHERE link_set_id = ?",
        link_set,
    )
    return database.run(
        "INSERT INTO multi_sess_unit (link_set_id, number, global_id, label, change_id) VALUES (?, ?, ?, ?, ?)",
        *(link_set, number, str(uuid.uuid4()), str(number), change_id),
    ).lastrowid


def unlink(database: Database, unit: int, other: int | None, link_set: int, change_id: int) -> None:
    """Take a unit out of its identity and pin it apart from another one, or from all that it was linked with."""
    of_unit = owner(database, unit, link_set)
    linked = [member for member in _members(database, of_unit) if member != unit] if of_unit else []
    apart = linked if other is None else [other]
    if not apart or apart == [unit]:
        raise UnitStoreError(f"{unit_key(database, unit)} is linked with no other unit")
    if set(apart) & set(linked):
        _refuse_locked(database, [unit, *linked])
        pairs = json.dumps([sorted((unit, member)) for member in linked])
        database.run(
            "DELETE FROM pin WHERE kind = 'link' AND (unit_a, unit_b) IN "
            "(SELECT value ->> 0, value ->> 1 FROM json_each(?))",
            pairs,
        )
        database.run("DELETE FROM member_unit WHERE link_set_id = ? AND unit_id = ?", link_set, unit)
    for member in apart:
        _pin(database, "unlink", unit, member, change_id)


def lock(database: Database, identity: int, change_id: int) -> None:
    """Pin an identity as it is."""
    members = _members(database, identity)
    _refuse_locked(database, members)
    for a, b in zip(members, members[1:] or members, strict=False):
        database.run("INSERT INTO pin (unit_a, unit_b, kind, change_id) VALUES (?, ?, 'lock', ?)", a, b, change_id)


def unlock(database: Database, identity: int) -> None:
    """Take the lock off an identity."""
    sql = "DELETE FROM pin WHERE kind = 'lock' AND unit_a IN (SELECT value FROM json_each(?))"
    if not database.run(sql, json.dumps(_members(database, identity))).rowcount:
        raise UnitStoreError(f"cell {multi_sess_unit(database, identity).number} is not locked")


def _members(database, identity):
    return sorted(unit for (unit,) in database.rows(_MEMBERS, identity))


def _pin(database, kind, a, b, change_id):
    """Pin a pair; the newer of two contrary decisions holds."""
    a, b = sorted((a, b))
    database.run("DELETE FROM pin WHERE unit_a = ? AND unit_b = ? AND kind IN ('link', 'unlink')", a, b)
    database.run("INSERT INTO pin (unit_a, unit_b, kind, change_id) VALUES (?, ?, ?, ?)", a, b, kind, change_id)


def _refuse_locked(database, units):
    row = database.row(
        "SELECT value, author, time FROM json_each(?) JOIN pin ON value IN (unit_a, unit_b) "
        "JOIN change USING (change_id) WHERE kind = 'lock'",
        json.dumps(units),
    )
    if row:
        raise UnitStoreError(f"{unit_key(database, row[0])} is locked (by {row[1]}, {row[2]}); unlock it first")


def _refuse_clash(database, a, b):
    """Refuse to join units that share a session or that a pin keeps apart."""
    sides = (json.dumps(a), json.dumps(b))
    clash = database.row(
        "SELECT a.unit_id, b.unit_id, s.name FROM unit a JOIN unit b USING (session_id) "
        "JOIN session s USING (session_id) WHERE a.unit_id IN (SELECT value FROM json_each(?)) "
        "AND b.unit_id IN (SELECT value FROM json_each(?))",
        *sides,
    )
    if clash:
        raise UnitStoreError(
            f"{unit_key(database, clash[0])} and {unit_key(database, clash[1])} are two units of session "
            f"{clash[2]!r}; a cell has one unit per session"
        )
    pin = database.row(
        "SELECT unit_a, unit_b FROM json_each(?1) x, json_each(?2) y, pin WHERE kind = 'unlink' "
        "AND unit_a = min(x.value, y.value) AND unit_b = max(x.value, y.value)",
        *sides,
    )
    if pin:
        raise UnitStoreError(
            f"{unit_key(database, pin[0])} and {unit_key(database, pin[1])} are pinned as different cells"
        )
