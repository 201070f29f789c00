"""The unit store: sessions, their units, and every claim about which units are one cell, in one SQLite file."""

import getpass
import json
import logging
import sqlite3
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pyflow.units import schema
from pyflow.units.comparison import compare_members, shared_members
from pyflow.units.table import UnitTable

logger = logging.getLogger(__name__)

# DataFrame of each table, as `UnitStore.tables` gives it; attributes become columns.
_VIEWS = {
    "session": "SELECT session_id, name, start_time, source, kind, attributes FROM session ORDER BY session_id",
    "unit": 'SELECT unit_id, session_id, s.name AS session, group_name AS "group", unit_name AS unit, '
    "original_index, u.attributes FROM unit u JOIN session s USING (session_id) ORDER BY unit_id",
    "link_set": "SELECT link_set_id, name, source, algorithm, version, parameters, author, created, "
    "EXISTS (SELECT 1 FROM current_link_set c WHERE c.link_set_id = l.link_set_id) AS is_current, "
    "(SELECT count(*) FROM multi_sess_unit m WHERE m.link_set_id = l.link_set_id) AS n_units, "
    "(SELECT count(*) FROM member_unit m WHERE m.link_set_id = l.link_set_id) AS n_members "
    "FROM link_set l ORDER BY link_set_id",
    "multi_sess_unit": "SELECT multi_sess_unit_id, l.name AS link_set, number, global_id, label, n_sessions "
    "FROM multi_sess_unit JOIN link_set l USING (link_set_id) ORDER BY link_set_id, number",
    "member_unit": "SELECT l.name AS link_set, m.multi_sess_unit_id, number, global_id, unit_id, "
    's.name AS session, group_name AS "group", unit_name AS unit, probability '
    "FROM member_unit m JOIN link_set l USING (link_set_id) JOIN multi_sess_unit USING (multi_sess_unit_id) "
    "JOIN unit USING (unit_id) JOIN session s ON s.session_id = m.session_id ORDER BY m.link_set_id, unit_id",
    "score": "SELECT l.name AS link_set, unit_a, unit_b, s.name, value "
    "FROM score s JOIN link_set l USING (link_set_id) ORDER BY link_set_id, unit_a, unit_b, s.name",
    "pin": "SELECT kind, unit_a, unit_b, time, author FROM pin JOIN change USING (change_id) "
    "ORDER BY change_id, unit_a, unit_b",
    "id_map": "SELECT old_link_set, new_link_set, old_global_id, new_global_id, shared FROM id_map",
    "history": "SELECT change_id, time, author, action, detail, undone_by FROM change ORDER BY change_id",
}

_MEMBERS = (
    "SELECT number, global_id, label, s.name AS session, start_time, source, kind, "
    'group_name AS "group", unit_name AS unit, original_index, probability, unit_id '
    "FROM multi_sess_unit u JOIN member_unit m USING (multi_sess_unit_id) JOIN unit USING (unit_id) "
    "JOIN session s ON s.session_id = m.session_id WHERE u.link_set_id = ? "
)


class UnitStoreError(ValueError):
    """The store refuses what was asked, or the file is not a store this version reads."""


class StoreLockedError(UnitStoreError):
    """Another process kept the store locked for longer than the timeout."""


class UnitKey(NamedTuple):
    """A unit as people name it: session, group (tetrode, probe, plane; empty if none), id."""

    session: str
    group: str
    unit: str

    def __str__(self):
        return f"{self.session}/{self.group}/{self.unit}"


@dataclass(frozen=True)
class MultiSessUnit:
    """One identity of a link set: a short number for people, a UUID for everything else, its source's label."""

    link_set: str
    number: int
    global_id: str
    label: str
    n_sessions: int


class UnitStore:
    """Who is who across sessions, in one file.

    Open it with `UnitStore.open`. Every method that changes something is one transaction with an entry in
    `history`, made by `author`.
    """

    def __init__(self, connection, path, author, timeout_s):
        self._connection = connection
        self.path = path
        self.author = author
        self._timeout_s = timeout_s

    @classmethod
    def open(cls, path, *, create=True, author=None, timeout_s=60.0):
        """Open a store, or make an empty one.

        Parameters
        ----------
        path : path-like
            The SQLite file.
        create : bool
            Make it where it does not exist.
        author : str, optional
            Who makes the changes; the user's login by default.
        timeout_s : float
            How long to wait for another process's transaction, in seconds.

        Returns
        -------
        UnitStore
            Also a context manager that closes the file.

        Raises
        ------
        FileNotFoundError
            No such file and not `create`, or no such folder.
        UnitStoreError
            Not a unit store, or made by a newer version.
        StoreLockedError
            Another process holds it for longer than `timeout_s`.
        """
        path = Path(path)
        if not path.exists() and not create:
            raise FileNotFoundError(f"{path}: no such unit store")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path}: no folder {path.parent}")
        connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
        store = cls(connection, path, getpass.getuser() if author is None else author, timeout_s)
        try:
            store._prepare()
        except BaseException:
            connection.close()
            raise
        return store

    def _prepare(self):
        with self._errors():
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.execute("PRAGMA cache_size = -65536")  # KiB; the default of 2 MB makes imports spill
            version = self._pragma("user_version")
            application = self._pragma("application_id")
            if not version and not self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                with self._transaction():
                    if not self._pragma("user_version"):  # no other process made it meanwhile
                        for statement in _split(schema.statements()):
                            self._connection.execute(statement)
                return
        if application != schema.APPLICATION_ID:
            raise UnitStoreError(f"{self.path}: an SQLite file, but not a unit store")
        if version > schema.VERSION:
            raise UnitStoreError(
                f"{self.path}: unit store of version {version}, made by a newer pyflow; "
                f"this one reads up to {schema.VERSION}"
            )

    def close(self):
        """Close the file."""
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    # Reading

    @contextmanager
    def _errors(self):
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                message = f"{self.path}: locked by another process for more than {self._timeout_s:g} s"
                raise StoreLockedError(message) from error
            raise UnitStoreError(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise UnitStoreError(f"{self.path}: {error}") from error

    def _pragma(self, name):
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]

    def _all(self, sql, *values):
        with self._errors():
            return self._connection.execute(sql, values).fetchall()

    def _one(self, sql, *values):
        with self._errors():
            return self._connection.execute(sql, values).fetchone()

    def _frame(self, sql, *values):
        with self._errors():
            cursor = self._connection.execute(sql, values)
            columns = [column[0] for column in cursor.description]
            return pd.DataFrame(cursor.fetchall(), columns=columns)

    def tables(self):
        """All tables.

        Returns
        -------
        dict of str to pandas.DataFrame
            `session`, `unit`, `link_set`, `multi_sess_unit`, `member_unit`, `score`, `pin`, `id_map`, `history`.
            Attributes of sessions and units are columns.
        """
        tables = {name: self._frame(sql) for name, sql in _VIEWS.items()}
        for name in ("session", "unit"):
            tables[name] = _expand(tables[name])
        return tables

    def sessions(self):
        """Sessions by start time: name, start_time, source, kind, n_units, then their attributes."""
        return _expand(
            self._frame(
                "SELECT name, start_time, source, kind, "
                "(SELECT count(*) FROM unit u WHERE u.session_id = s.session_id) AS n_units, attributes "
                "FROM session s ORDER BY start_time, session_id"
            )
        )

    def link_sets(self):
        """Link sets with their origin, the numbers of units and members, and which one is current."""
        return self._frame(_VIEWS["link_set"])

    def history(self):
        """Who changed what, when; `undone_by` names the change that took it back."""
        return self._frame(_VIEWS["history"])

    def pins(self):
        """What people decided: kind (link, unlink, lock), both units, time, author."""
        units = (f"s{x}.name AS session_{x}, u{x}.group_name AS group_{x}, u{x}.unit_name AS unit_{x}" for x in "ab")
        joins = (
            f"JOIN unit u{x} ON u{x}.unit_id = unit_{x} JOIN session s{x} ON s{x}.session_id = u{x}.session_id"
            for x in "ab"
        )
        return self._frame(
            f"SELECT kind, {', '.join(units)}, time, author FROM pin p JOIN change c USING (change_id) "
            f"{' '.join(joins)} ORDER BY p.change_id, unit_a, unit_b"
        )

    def current(self):
        """Name of the current link set, None in a store without one."""
        row = self._one("SELECT name FROM link_set JOIN current_link_set USING (link_set_id)")
        return row and row[0]

    def _link_set_id(self, name=None):
        if name is None:
            name = self.current()
            if name is None:
                raise UnitStoreError(f"{self.path}: holds no link set")
        row = self._one("SELECT link_set_id FROM link_set WHERE name = ?", name)
        if row is None:
            known = ", ".join(repr(n) for (n,) in self._all("SELECT name FROM link_set"))
            raise UnitStoreError(f"{self.path}: no link set {name!r}; it holds {known or 'none'}")
        return row[0]

    def _session_id(self, name):
        row = self._one("SELECT session_id FROM session WHERE name = ?", name)
        if row is None:
            raise UnitStoreError(f"{self.path}: no session {name!r}")
        return row[0]

    def _unit_id(self, key):
        key = UnitKey(*key)
        row = self._one(
            "SELECT unit_id FROM unit WHERE session_id = ? AND group_name = ? AND unit_name = ?",
            self._session_id(key.session),
            key.group,
            key.unit,
        )
        if row is None:
            raise UnitStoreError(f"{self.path}: session {key.session!r} has no unit {key.group}/{key.unit}")
        return row[0]

    def _multi_sess_unit_id(self, unit, link_set_id):
        """Row of an identity given by number, UUID, label, or `MultiSessUnit`."""
        if isinstance(unit, MultiSessUnit):
            unit = unit.global_id
        columns = ["number"] if isinstance(unit, int | np.integer) else ["global_id", "label"]
        values = [int(unit)] if columns == ["number"] else [str(unit)] * 2
        if columns != ["number"] and unit.isdecimal():
            columns, values = [*columns, "number"], [*values, int(unit)]
        for column, value in zip(columns, values, strict=True):
            row = self._one(
                f"SELECT multi_sess_unit_id FROM multi_sess_unit WHERE link_set_id = ? AND {column} = ?",
                link_set_id,
                value,
            )
            if row:
                return row[0]
        name = self._one("SELECT name FROM link_set WHERE link_set_id = ?", link_set_id)[0]
        raise UnitStoreError(f"{self.path}: link set {name!r} has no unit {unit!r} (number, global id or label)")

    def _multi_sess_unit(self, multi_sess_unit_id):
        return MultiSessUnit(
            *self._one(
                "SELECT l.name, number, global_id, label, n_sessions "
                "FROM multi_sess_unit JOIN link_set l USING (link_set_id) WHERE multi_sess_unit_id = ?",
                multi_sess_unit_id,
            )
        )

    def multi_sess_unit(self, unit, *, link_set=None):
        """An identity by its number, global id or label.

        Raises
        ------
        UnitStoreError
            The link set has no such unit.
        """
        return self._multi_sess_unit(self._multi_sess_unit_id(unit, self._link_set_id(link_set)))

    def members(self, unit=None, *, link_set=None):
        """Units that a multi-session unit consists of.

        Parameters
        ----------
        unit : int, str or MultiSessUnit, optional
            Number, global id or label; by default the members of all.
        link_set : str, optional
            The current one by default.

        Returns
        -------
        pandas.DataFrame
            `number`, `global_id`, `label` of the multi-session unit; `session`, `start_time`, `source`, `kind`
            of the member's session; `group`, `unit` (its id, text), `original_index` (0-based, over all that was
            detected), `probability`, `unit_id`; by number, then the session's time.

        Raises
        ------
        UnitStoreError
            No such link set or unit.
        """
        link_set_id = self._link_set_id(link_set)
        if unit is None:
            frame = self._frame(_MEMBERS + "ORDER BY number, start_time, s.session_id", link_set_id)
        else:
            frame = self._frame(
                _MEMBERS + "AND u.multi_sess_unit_id = ? ORDER BY start_time, s.session_id",
                link_set_id,
                self._multi_sess_unit_id(unit, link_set_id),
            )
        return frame.astype({"original_index": "Int64", "probability": "float64"})

    def find(self, session, unit, group="", *, link_set=None):
        """Which multi-session unit a session's unit belongs to.

        Returns
        -------
        MultiSessUnit or None
            None where the unit is not followed.

        Raises
        ------
        UnitStoreError
            No such session or unit.
        """
        row = self._one(
            "SELECT multi_sess_unit_id FROM member_unit WHERE link_set_id = ? AND unit_id = ?",
            self._link_set_id(link_set),
            self._unit_id((session, group, unit)),
        )
        return row and self._multi_sess_unit(row[0])

    def units(self, session, *, link_set=None):
        """Units of one session: group, unit, original_index, number and global_id (missing: not followed)."""
        link_set_id = self._link_set_id(link_set) if link_set or self.current() else None
        frame = self._frame(
            'SELECT group_name AS "group", unit_name AS unit, original_index, number, global_id, u.attributes '
            "FROM unit u LEFT JOIN member_unit m ON m.unit_id = u.unit_id AND m.link_set_id = ? "
            "LEFT JOIN multi_sess_unit USING (multi_sess_unit_id) WHERE u.session_id = ? ORDER BY u.unit_id",
            link_set_id,
            self._session_id(session),
        )
        return _expand(frame.astype({"original_index": "Int64", "number": "Int64"}))

    def present_in(self, at_least, *, sessions=None, link_set=None):
        """Numbers of the units present in at least so many sessions.

        Parameters
        ----------
        at_least : int
            Number of sessions.
        sessions : sequence of str, optional
            Count only these; all by default.
        link_set : str, optional
            The current one by default.

        Returns
        -------
        (n,) int array
            Ascending.
        """
        link_set_id = self._link_set_id(link_set)
        if sessions is None:
            sql = "SELECT group_concat(number) FROM multi_sess_unit WHERE link_set_id = ? AND n_sessions >= ?"
            values = (link_set_id, at_least)
        else:
            ids = [self._session_id(name) for name in sessions]
            sql = (
                "SELECT group_concat(number) FROM multi_sess_unit WHERE multi_sess_unit_id IN ("
                "SELECT multi_sess_unit_id FROM unit u CROSS JOIN member_unit m USING (unit_id) "
                f"WHERE u.session_id IN ({', '.join('?' * len(ids))}) AND m.link_set_id = ? "
                "GROUP BY multi_sess_unit_id HAVING count(*) >= ?)"
            )
            values = (*ids, link_set_id, at_least)
        text = self._one(sql, *values)[0]  # one string: 100000 rows one by one take three times as long
        return np.sort(np.fromstring(text or "", dtype=np.int64, sep=","))

    def scores(self, unit, *, link_set=None):
        """Pairwise scores that a multi-session unit's members take part in: unit_a, unit_b, name, value."""
        link_set_id = self._link_set_id(link_set)
        units = (
            f"SELECT unit_id FROM member_unit WHERE multi_sess_unit_id = {self._multi_sess_unit_id(unit, link_set_id)}"
        )
        key = (
            "(SELECT s.name || '/' || group_name || '/' || unit_name FROM unit JOIN session s USING (session_id) "
            "WHERE unit_id = {})"
        )
        return self._frame(
            f"SELECT {key.format('unit_a')} AS unit_a, {key.format('unit_b')} AS unit_b, name, value FROM score "
            f"WHERE link_set_id = ? AND (unit_a IN ({units}) OR unit_b IN ({units})) "
            "ORDER BY unit_a, unit_b, name",
            link_set_id,
        )

    def traces(self, unit, **options):
        """Traces of a multi-session unit in every session; see `pyflow.units.sessions.traces_of`."""
        from pyflow.units.sessions import traces_of

        return traces_of(self, unit, **options)

    def stats(self, *, link_set=None):
        """Numbers of sessions, units, followed units, identities, and identities by number of sessions."""
        count = lambda sql, *values: self._one(sql, *values)[0]  # noqa: E731
        stats = {"sessions": count("SELECT count(*) FROM session"), "units": count("SELECT count(*) FROM unit")}
        if link_set is None and self.current() is None:
            return stats
        link_set_id = self._link_set_id(link_set)
        by_sessions = self._all(
            "SELECT n_sessions, count(*) FROM multi_sess_unit WHERE link_set_id = ? GROUP BY n_sessions",
            link_set_id,
        )
        return stats | {
            "link_set": count("SELECT name FROM link_set WHERE link_set_id = ?", link_set_id),
            "followed": count("SELECT count(*) FROM member_unit WHERE link_set_id = ?", link_set_id),
            "multi_sess_units": sum(n for _, n in by_sessions),
            "by_sessions": dict(by_sessions),
        }

    def compare(self, a, b):
        """Compare the links (pairs of units said to be one cell) of two link sets.

        Returns
        -------
        Comparison
            Counts of shared, added, lost and conflicting links, and a table of those that differ.
        """
        return compare_members(self._member_ids(a), self._member_ids(b), self._unit_keys)

    def id_map(self, old, new):
        """Map from the ids of one link set to those of another.

        Returns
        -------
        pandas.DataFrame
            `old_number`, `old_global_id`, `new_number`, `new_global_id`, `shared` members, `old_size`,
            `new_size`; one row per pair with a member in common, and one per unit that has no partner (missing
            on the other side).
        """
        return shared_members(self._member_ids(old), self._member_ids(new))

    def _member_ids(self, link_set):
        return self._frame(
            "SELECT unit_id, m.session_id, number, global_id FROM member_unit m "
            "JOIN multi_sess_unit USING (multi_sess_unit_id) WHERE m.link_set_id = ?",
            self._link_set_id(link_set),
        )

    def _unit_keys(self, unit_ids):
        ids = json.dumps([int(unit_id) for unit_id in unit_ids])
        rows = self._all(
            "SELECT unit_id, s.name, group_name, unit_name FROM unit JOIN session s USING (session_id) "
            "WHERE unit_id IN (SELECT value FROM json_each(?))",
            ids,
        )
        return {unit_id: UnitKey(*key) for unit_id, *key in rows}

    def check(self):
        """Look for damage and contradictions.

        Returns
        -------
        list of str
            One sentence per finding; empty: all is well.
        """
        findings = [row[0] for row in self._all("PRAGMA integrity_check") if row[0] != "ok"]
        findings += [f"table {row[0]}: row {row[1]} refers to nothing" for row in self._all("PRAGMA foreign_key_check")]
        findings += [
            f"link set {name!r}: unit {number} counts {n} sessions but has {found} members"
            for name, number, n, found in self._all(
                "SELECT l.name, number, n_sessions, (SELECT count(*) FROM member_unit m "
                "WHERE m.multi_sess_unit_id = u.multi_sess_unit_id) AS found "
                "FROM multi_sess_unit u JOIN link_set l USING (link_set_id) WHERE n_sessions <> found OR found = 0"
            )
        ]
        for name, kind, a, b in self._pin_conflicts():
            keys = self._unit_keys([a, b])
            verb = "separates" if kind != "unlink" else "links"
            findings.append(f"link set {name!r} {verb} {keys[a]} and {keys[b]}, pinned as {kind}")
        return findings

    def _pin_conflicts(self):
        return self._all(
            "SELECT l.name, kind, unit_a, unit_b FROM link_set l JOIN pin p "
            "LEFT JOIN member_unit a ON a.link_set_id = l.link_set_id AND a.unit_id = unit_a "
            "LEFT JOIN member_unit b ON b.link_set_id = l.link_set_id AND b.unit_id = unit_b "
            "WHERE unit_a <> unit_b AND "
            "(kind = 'unlink') = (a.multi_sess_unit_id IS NOT NULL AND a.multi_sess_unit_id IS b.multi_sess_unit_id)"
        )

    # Changing

    @contextmanager
    def _transaction(self):
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _change(self, action, detail):
        """One transaction with its entry in the history; yields the change's id."""
        with self._errors(), self._transaction():
            cursor = self._connection.execute(
                "INSERT INTO change (time, author, action, detail) VALUES (?, ?, ?, ?)",
                (_now(), self.author, action, detail),
            )
            yield cursor.lastrowid

    def _run(self, sql, *values):
        return self._connection.execute(sql, values)

    def import_spreadsheet(self, path, *, replace=False, current=False, **options):
        """Import a spreadsheet of followed units; see `pyflow.units.spreadsheet.read_spreadsheet`.

        Returns
        -------
        str
            Name of the new link set.

        Raises
        ------
        pyflow.units.TableError
            The sheet contradicts itself or cannot be read; the store is unchanged.
        UnitStoreError
            The store has a link set of that name and not `replace`.
        """
        from pyflow.units.spreadsheet import read_spreadsheet

        return self.add(read_spreadsheet(path, **options), replace=replace, current=current)

    def add(self, table, *, replace=False, current=False):
        """Add sessions, units and a link set, all or nothing.

        Sessions and units that the store has are reused (a unit is found by session, group and id); their
        attributes are updated.

        Parameters
        ----------
        table : UnitTable
            What an importer read.
        replace : bool
            Where the link set's name is taken, rename the old one and let the new one's units inherit the ids of
            the old ones that they share most members with; `tables()["id_map"]` keeps the map.
        current : bool
            Make the new link set the current one. The first always is.

        Returns
        -------
        str
            Name of the link set; empty for a table without identities.

        Raises
        ------
        UnitStoreError
            The link set's name is taken and not `replace`.
        """
        with self._change("import", f"{table.origin} as {table.name!r}") as change_id:
            session_ids = self._add_sessions(table, change_id)
            unit_ids = self._add_units(table, session_ids, change_id)
            if table.name:
                self._add_link_set(table, session_ids, unit_ids, replace, current, change_id)
        if table.name:
            broken = [row for row in self._pin_conflicts() if row[0] == table.name]
            if broken:
                logger.warning("%s: %d pins contradict link set %r", self.path, len(broken), table.name)
        return table.name

    def _add_sessions(self, table: UnitTable, change_id):
        known = dict(self._run("SELECT name, session_id FROM session"))
        attributes = _attributes(table.sessions, ("name", "start_time", "source", "kind"))
        rows = zip(
            *(table.sessions[c].tolist() for c in ("name", "start_time", "source", "kind")), attributes, strict=True
        )
        for name, start_time, source, kind, attribute in rows:
            if name not in known:
                known[name] = self._run(
                    "INSERT INTO session (name, start_time, source, kind, attributes, change_id) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    *(name, start_time, source, kind, attribute, change_id),
                ).lastrowid
                continue
            for column, value in (("start_time", start_time), ("source", source), ("kind", kind)):
                if value:
                    self._run(
                        f"UPDATE session SET {column} = ?1 WHERE session_id = ?2 AND {column} <> ?1",
                        value,
                        known[name],
                    )
            self._patch("session", known[name], attribute)
        return known

    def _patch(self, table, row_id, attributes):
        self._run(
            f"UPDATE {table} SET attributes = json_patch(attributes, ?1) "
            f"WHERE {table}_id = ?2 AND attributes <> json_patch(attributes, ?1)",
            attributes,
            row_id,
        )

    def _add_units(self, table: UnitTable, session_ids, change_id):
        """Ids of the table's units, in its order."""
        units = table.units
        session = units["session"].map(session_ids)
        attributes = _attributes(
            units, ("session", "group", "unit", "identity", "global_id", "probability", "original_index")
        )
        index = [None if pd.isna(i) else int(i) for i in units["original_index"]]
        keys = list(zip(session.tolist(), units["group"].tolist(), units["unit"].tolist(), strict=True))
        known = {}
        for session_id in session.unique().tolist():
            rows = self._run("SELECT group_name, unit_name, unit_id FROM unit WHERE session_id = ?", session_id)
            known.update({(session_id, group, name): unit_id for group, name, unit_id in rows})
        next_id = self._run("SELECT coalesce(max(unit_id), 0) FROM unit").fetchone()[0] + 1
        new, ids = [], []
        for key, original_index, attribute in zip(keys, index, attributes, strict=True):
            unit_id = known.get(key)
            if unit_id is None:
                unit_id = next_id
                next_id += 1
                new.append((unit_id, *key, original_index, attribute, change_id))
            else:
                self._patch("unit", unit_id, attribute)
                if original_index is not None:
                    self._run(
                        "UPDATE unit SET original_index = ?1 WHERE unit_id = ?2 AND original_index IS NOT ?1",
                        original_index,
                        unit_id,
                    )
            ids.append(unit_id)
        self._connection.executemany(
            "INSERT INTO unit (unit_id, session_id, group_name, unit_name, original_index, attributes, change_id) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            new,
        )
        return np.array(ids, dtype=np.int64)

    def _add_link_set(self, table: UnitTable, session_ids, unit_ids, replace, current, change_id):
        old = self._retire(table.name, replace)
        link_set_id = self._run(
            "INSERT INTO link_set (name, source, algorithm, version, parameters, author, created, change_id) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(table.name, table.source, table.algorithm, table.version, json.dumps(table.parameters)),
            *(table.author or self.author, table.created or _now(), change_id),
        ).lastrowid
        if current or self.current() in (None, old):
            self._set_current(link_set_id, change_id)

        followed = table.units["identity"].notna().to_numpy()
        members = table.units[followed]
        codes, labels = pd.factorize(members["identity"])
        given = members.groupby(codes)["global_id"].first()
        global_ids = [i if isinstance(i, str) else str(uuid.uuid4()) for i in given]
        numbers = _numbers(labels)
        if old is not None:
            before = self._inherit(old, table.name, unit_ids[followed], codes, given, global_ids, change_id)
            numbers = before if numbers is None else numbers
        elif numbers is None:
            numbers = np.arange(1, len(labels) + 1)
        next_id = self._run("SELECT coalesce(max(multi_sess_unit_id), 0) FROM multi_sess_unit").fetchone()[0] + 1
        probability = [None if pd.isna(p) else float(p) for p in members["probability"]]
        session = members["session"].map(session_ids).tolist()
        columns = (unit_ids[followed].tolist(), session, (codes + next_id).tolist(), probability)
        # Members first: so their triggers need not count one by one, which takes twice as long.
        self._run("PRAGMA defer_foreign_keys = ON")
        self._connection.executemany(
            "INSERT INTO member_unit (link_set_id, unit_id, session_id, multi_sess_unit_id, probability, change_id) "
            f"VALUES ({link_set_id}, ?, ?, ?, ?, {change_id})",
            sorted(zip(*columns, strict=True)),
        )
        counts = np.bincount(codes, minlength=len(labels)).tolist()
        identities = zip(numbers.tolist(), global_ids, labels, counts, strict=True)
        self._connection.executemany(
            "INSERT INTO multi_sess_unit "
            "(multi_sess_unit_id, link_set_id, number, global_id, label, n_sessions, change_id) "
            f"VALUES (?, {link_set_id}, ?, ?, ?, ?, {change_id})",
            [(next_id + i, *identity) for i, identity in enumerate(identities)],
        )
        if table.scores is not None and len(table.scores):
            a, b = (unit_ids[table.units.index.get_indexer(table.scores[x])] for x in "ab")
            self._connection.executemany(
                "INSERT INTO score (link_set_id, unit_a, unit_b, name, value, change_id) "
                f"VALUES ({link_set_id}, ?, ?, ?, ?, {change_id})",
                sorted(
                    zip(
                        np.minimum(a, b).tolist(),
                        np.maximum(a, b).tolist(),
                        table.scores["name"].tolist(),
                        table.scores["value"].tolist(),
                        strict=True,
                    )
                ),
            )

    def _retire(self, name, replace):
        """New name of the link set that held `name`, None where there is none."""
        row = self._run("SELECT link_set_id, created, author FROM link_set WHERE name = ?", name).fetchone()
        if row is None:
            return None
        link_set_id, created, author = row
        if not replace:
            raise UnitStoreError(
                f"{self.path}: holds a link set {name!r} already (by {author}, {created}); "
                "choose another name, or replace it"
            )
        taken = {n for (n,) in self._run("SELECT name FROM link_set")}
        count = 1
        while (old := f"{name} (replaced {count})") in taken:
            count += 1
        self._run("UPDATE link_set SET name = ? WHERE link_set_id = ?", old, link_set_id)
        return old

    def _inherit(self, old, name, unit_ids, codes, given, global_ids, change_id):
        """Give new identities the global ids of those they continue, keep the map, return their numbers."""
        before = self._member_ids(old)
        after = pd.DataFrame({"unit_id": unit_ids, "number": codes, "global_id": ""})
        pairs = shared_members(before, after)
        pairs = pairs[pairs["shared"] > 0]
        best = mutual_best(pairs)
        numbers = np.full(len(global_ids), -1)
        taken = set(given.dropna())
        for code, number, global_id in zip(best["new_number"], best["old_number"], best["old_global_id"], strict=True):
            numbers[code] = number
            if pd.isna(given[code]) and global_id not in taken:
                global_ids[code] = global_id
        fresh = np.flatnonzero(numbers < 0)
        numbers[fresh] = before["number"].max() + 1 + np.arange(len(fresh))
        new_ids = [global_ids[code] for code in pairs["new_number"]]
        self._connection.executemany(
            "INSERT INTO id_map (old_link_set, new_link_set, old_global_id, new_global_id, shared, change_id) "
            f"VALUES (?, ?, ?, ?, ?, {change_id})",
            [
                (old, name, old_id, new_id, int(shared))
                for old_id, new_id, shared in zip(pairs["old_global_id"], new_ids, pairs["shared"], strict=True)
            ],
        )
        return numbers

    def _set_current(self, link_set_id, change_id):
        self._run(
            "INSERT INTO current_link_set (one, link_set_id, change_id) VALUES (1, ?, ?) "
            "ON CONFLICT (one) DO UPDATE SET link_set_id = excluded.link_set_id",
            link_set_id,
            change_id,
        )

    def use(self, link_set):
        """Make a link set the current one.

        Raises
        ------
        UnitStoreError
            No such link set.
        """
        with self._change("use", link_set) as change_id:
            self._set_current(self._link_set_id(link_set), change_id)

    def remove(self, link_set):
        """Delete a link set; sessions, units and pins stay.

        Raises
        ------
        UnitStoreError
            No such link set.
        """
        with self._change("remove", link_set) as change_id:
            self._run("DELETE FROM link_set WHERE link_set_id = ?", self._link_set_id(link_set))
            newest = self._run("SELECT max(link_set_id) FROM link_set").fetchone()[0]
            if self.current() is None and newest is not None:
                self._set_current(newest, change_id)

    def link(self, a, b, *, link_set=None):
        """Say that two units are one cell: join what they belong to and pin the link.

        Parameters
        ----------
        a, b : UnitKey or (session, group, unit)
            The units.
        link_set : str, optional
            The current one by default.

        Returns
        -------
        MultiSessUnit
            What both belong to now; the older identity keeps its ids.

        Raises
        ------
        UnitStoreError
            Unknown unit; a locked one; two members in one session; a pin that keeps two of them apart.
        """
        a, b = UnitKey(*a), UnitKey(*b)
        with self._change("link", f"{a} = {b}") as change_id:
            link_set_id = self._link_set_id(link_set)
            ids = [self._unit_id(a), self._unit_id(b)]
            if ids[0] == ids[1]:
                raise UnitStoreError(f"{a} cannot be linked with itself")
            self._pin("link", *ids, change_id)
            owners = [self._owner(unit_id, link_set_id) for unit_id in ids]
            if None in owners or owners[0] != owners[1]:
                owners[0] = self._join(ids, owners, link_set_id, change_id)
            return self._multi_sess_unit(owners[0])

    def _join(self, ids, owners, link_set_id, change_id):
        """Put two units with all that is linked to them into one identity; its row."""
        sides = [self._member_rows(owner) if owner else {unit_id} for unit_id, owner in zip(ids, owners, strict=True)]
        self._refuse_locked(sides[0] | sides[1])
        self._refuse_clash(*sides)
        kept = min((owner for owner in owners if owner), default=None)
        if kept is None:
            number = (
                1
                + self._run(
                    "SELECT max(coalesce(max(number), 0), coalesce(max(CAST(label AS INTEGER)), 0)) "
                    "FROM multi_sess_unit WHERE link_set_id = ?",
                    link_set_id,
                ).fetchone()[0]
            )
            kept = self._run(
                "INSERT INTO multi_sess_unit (link_set_id, number, global_id, label, change_id) VALUES (?, ?, ?, ?, ?)",
                *(link_set_id, number, str(uuid.uuid4()), str(number), change_id),
            ).lastrowid
        for unit_id, owner in zip(ids, owners, strict=True):
            if owner is None:
                self._run(
                    "INSERT INTO member_unit (link_set_id, unit_id, session_id, multi_sess_unit_id, change_id) "
                    "SELECT ?, unit_id, session_id, ?, ? FROM unit WHERE unit_id = ?",
                    *(link_set_id, kept, change_id, unit_id),
                )
            elif owner != kept:
                self._run("UPDATE member_unit SET multi_sess_unit_id = ? WHERE multi_sess_unit_id = ?", kept, owner)
                self._run("DELETE FROM multi_sess_unit WHERE multi_sess_unit_id = ?", owner)
        return kept

    def unlink(self, unit, other=None, *, link_set=None):
        """Say that a unit is not the same cell: take it out of its identity and pin that.

        Parameters
        ----------
        unit : UnitKey or (session, group, unit)
            The unit that leaves; it belongs to no identity afterwards.
        other : UnitKey or (session, group, unit), optional
            The unit it must be kept apart from; by default every unit it is linked with now.
        link_set : str, optional
            The current one by default.

        Raises
        ------
        UnitStoreError
            Unknown unit, a locked one, or nothing to unlink it from.
        """
        unit = UnitKey(*unit)
        other = other and UnitKey(*other)
        with self._change("unlink", f"{unit} from {other or 'all'}") as change_id:
            link_set_id = self._link_set_id(link_set)
            unit_id = self._unit_id(unit)
            owner = self._owner(unit_id, link_set_id)
            linked = (self._member_rows(owner) if owner else set()) - {unit_id}
            apart = {self._unit_id(other)} if other else linked
            if not apart - {unit_id}:
                raise UnitStoreError(f"{unit} is linked with no other unit")
            for other_id in apart:
                self._pin("unlink", unit_id, other_id, change_id)
            if apart & linked:
                self._refuse_locked(linked | {unit_id})
                for other_id in linked - apart:
                    self._run(
                        "DELETE FROM pin WHERE kind = 'link' AND unit_a = ? AND unit_b = ?",
                        *sorted((unit_id, other_id)),
                    )
                self._run("DELETE FROM member_unit WHERE link_set_id = ? AND unit_id = ?", link_set_id, unit_id)

    def lock(self, unit, *, link_set=None):
        """Pin an identity as it is: exactly these members, in this link set and in later matching runs.

        Raises
        ------
        UnitStoreError
            No such unit, or a member is locked already.
        """
        link_set_id = self._link_set_id(link_set)
        owner = self._multi_sess_unit_id(unit, link_set_id)
        with self._change("lock", f"unit {self._multi_sess_unit(owner).number}") as change_id:
            members = sorted(self._member_rows(owner))
            self._refuse_locked(members)
            for a, b in zip(members, members[1:] or members, strict=False):
                self._run("INSERT INTO pin (unit_a, unit_b, kind, change_id) VALUES (?, ?, 'lock', ?)", a, b, change_id)

    def unlock(self, unit, *, link_set=None):
        """Take the lock off an identity.

        Raises
        ------
        UnitStoreError
            No such unit, or it is not locked.
        """
        link_set_id = self._link_set_id(link_set)
        owner = self._multi_sess_unit_id(unit, link_set_id)
        number = self._multi_sess_unit(owner).number
        with self._change("unlock", f"unit {number}"):
            members = json.dumps(sorted(self._member_rows(owner)))
            sql = "DELETE FROM pin WHERE kind = 'lock' AND unit_a IN (SELECT value FROM json_each(?))"
            if not self._run(sql, members).rowcount:
                raise UnitStoreError(f"unit {number} is not locked")

    def _owner(self, unit_id, link_set_id):
        row = self._run(
            "SELECT multi_sess_unit_id FROM member_unit WHERE link_set_id = ? AND unit_id = ?", link_set_id, unit_id
        ).fetchone()
        return row and row[0]

    def _member_rows(self, multi_sess_unit_id):
        sql = "SELECT unit_id FROM member_unit WHERE multi_sess_unit_id = ?"
        return {unit_id for (unit_id,) in self._run(sql, multi_sess_unit_id)}

    def _pin(self, kind, a, b, change_id):
        """Pin a pair; the newer of two contrary decisions holds."""
        a, b = sorted((a, b))
        self._run("DELETE FROM pin WHERE unit_a = ? AND unit_b = ? AND kind IN ('link', 'unlink')", a, b)
        self._run("INSERT INTO pin (unit_a, unit_b, kind, change_id) VALUES (?, ?, ?, ?)", a, b, kind, change_id)

    def _refuse_locked(self, unit_ids):
        row = self._run(
            "SELECT unit_a, author, time FROM pin JOIN change USING (change_id) JOIN json_each(?) "
            "ON value IN (unit_a, unit_b) WHERE kind = 'lock'",
            json.dumps(sorted(unit_ids)),
        ).fetchone()
        if row:
            key = self._unit_keys([row[0]])[row[0]]
            raise UnitStoreError(f"{key} is locked (by {row[1]}, {row[2]}); unlock it first")

    def _refuse_clash(self, a, b):
        """Refuse to join two sets of units that share a session or that a pin keeps apart."""
        ids = (json.dumps(sorted(a)), json.dumps(sorted(b)))
        clash = self._run(
            "SELECT a.unit_id, b.unit_id, s.name FROM unit a JOIN unit b USING (session_id) "
            "JOIN session s USING (session_id) WHERE a.unit_id IN (SELECT value FROM json_each(?)) "
            "AND b.unit_id IN (SELECT value FROM json_each(?))",
            *ids,
        ).fetchone()
        if clash:
            keys = self._unit_keys(clash[:2])
            raise UnitStoreError(
                f"{keys[clash[0]]} and {keys[clash[1]]} are two units of session {clash[2]!r}; "
                "a multi-session unit has one member per session"
            )
        pin = self._run(
            "SELECT unit_a, unit_b FROM pin, json_each(?1) x, json_each(?2) y WHERE kind = 'unlink' "
            "AND unit_a = min(x.value, y.value) AND unit_b = max(x.value, y.value)",
            *ids,
        ).fetchone()
        if pin:
            keys = self._unit_keys(pin)
            raise UnitStoreError(f"{keys[pin[0]]} and {keys[pin[1]]} are pinned as different cells")

    def undo(self):
        """Take back the last change that is not undone yet.

        Returns
        -------
        str
            What was undone.

        Raises
        ------
        UnitStoreError
            There is nothing left to undo.
        """
        with self._errors(), self._transaction():
            row = self._run(
                "SELECT change_id, action, detail FROM change WHERE undone_by IS NULL AND action <> 'undo' "
                "ORDER BY change_id DESC LIMIT 1"
            ).fetchone()
            if row is None:
                raise UnitStoreError(f"{self.path}: nothing to undo")
            change_id, what = row[0], f"{row[1]} {row[2]}"
            undo_id = self._run(
                "INSERT INTO change (time, author, action, detail) VALUES (?, ?, 'undo', ?)",
                *(_now(), self.author, f"change {change_id}: {what}"),
            ).lastrowid
            self._run("PRAGMA defer_foreign_keys = ON")
            for table in reversed(schema.COLUMNS):
                self._run(f"DELETE FROM {table} WHERE change_id = ?", change_id)
            for table in schema.COLUMNS:
                rows = self._run(
                    "SELECT row FROM undo_log WHERE change_id = ?1 AND table_name = ?2 "
                    "AND json_extract(row, '$.change_id') <> ?1 ORDER BY undo_id DESC",
                    change_id,
                    table,
                ).fetchall()
                self._connection.executemany(schema.restore(table), [{"row": text} for (text,) in rows])
            self._run("DELETE FROM undo_log WHERE change_id = ?", change_id)
            self._run("UPDATE change SET undone_by = ? WHERE change_id = ?", undo_id, change_id)
        return what

    def export(self, path, **options):
        """Write a link set as .xlsx, .csv, .tsv, .npz or .mat; see `pyflow.units.export.export`."""
        from pyflow.units.export import export

        return export(self, path, **options)


def _now():
    return datetime.now(UTC).isoformat(timespec="seconds")


def _split(sql):
    """Statements of an SQL script."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _plain(value):
    """A cell's value as JSON knows it."""
    if isinstance(value, np.generic):
        value = value.item()
    return value.isoformat() if hasattr(value, "isoformat") else value


def _attributes(frame, exclude):
    """JSON text of each row's further columns, blanks left out."""
    columns = [column for column in frame if column not in exclude]
    if not columns:
        return ["{}"] * len(frame)
    rows = zip(*(frame[column].tolist() for column in columns), strict=True)
    return [
        json.dumps({c: _plain(v) for c, v in zip(columns, row, strict=True) if not pd.isna(v)}, ensure_ascii=False)
        for row in rows
    ]


def _expand(frame):
    """The frame with its column of JSON attributes spread into one column each."""
    attributes = pd.DataFrame([json.loads(text) for text in frame.pop("attributes")], index=frame.index)
    attributes.columns = [f"{c} (attribute)" if c in frame else c for c in attributes]
    return pd.concat([frame, attributes], axis=1)


def _numbers(labels):
    """Labels that are all whole numbers, as numbers; None otherwise."""
    if all(label.isascii() and label.isdecimal() and str(int(label)) == label for label in labels):
        return np.array([int(label) for label in labels], dtype=np.int64)
    return None
