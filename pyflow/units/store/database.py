"""The store's file: opening it, transactions with an entry in the history, and taking them back."""

import getpass
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyflow.units.store import schema
from pyflow.units.store.comparison import Members

_PACKED = np.dtype("<i4")  # rows in the table `packed_members`
_AT_ONCE = 250_000  # rows of a column in one text, which SQLite limits to 10**9 bytes
_CACHE_KIB = 131072  # SQLite's own 2 MB make a large import write its pages twice

_OBJECTS = "SELECT type, name FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
_MISCOUNTED = (
    "SELECT l.name, number, n_sessions, (SELECT count(*) FROM member_unit m "
    "WHERE m.multi_sess_unit_id = u.multi_sess_unit_id) AS found "
    "FROM multi_sess_unit u JOIN link_set l USING (link_set_id) WHERE n_sessions <> found OR found = 0"
)
_MEMBER_TRIGGERS = ("member_added", "member_removed", "undo_member_unit_delete", "undo_multi_sess_unit_delete")
_RECOUNT = (
    "UPDATE multi_sess_unit SET n_sessions = (SELECT count(*) FROM member_unit m "
    "WHERE m.multi_sess_unit_id = multi_sess_unit.multi_sess_unit_id) WHERE link_set_id IN "
    "(SELECT json_extract(row, '$.link_set_id') FROM undo_log WHERE change_id = ? AND table_name = 'member_unit')"
)


class UnitStoreError(ValueError):
    """The store refuses what was asked, or the file is not a store that this version reads."""


class StoreLockedError(UnitStoreError):
    """Another process kept the store locked for longer than the timeout."""


class Database:
    """One SQLite file with the tables of `pyflow.units.store.schema`, and who changes it.

    It is made with a rollback journal: safe on network file systems, and whole again after a crash.
    """

    def __init__(self, path: str | Path, author: str | None, timeout_s: float) -> None:
        self.path = Path(path)
        self.author = getpass.getuser() if author is None else author
        self._timeout_s = timeout_s
        with self._errors():
            self._connection = sqlite3.connect(self.path, timeout=timeout_s, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self):
        self.run("PRAGMA foreign_keys = ON")
        self.run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if not self._is_made():
            with self._transaction():
                if not self._is_made():  # another process may have made it meanwhile
                    for statement in schema.statements():
                        self.run(statement)
        if self.value("PRAGMA application_id") != schema.APPLICATION_ID:
            raise UnitStoreError(f"{self.path}: an SQLite file, but not a unit store")
        if (version := self.value("PRAGMA user_version")) > schema.VERSION:
            raise UnitStoreError(
                f"{self.path}: unit store of version {version}, made by a newer pyflow; "
                f"this one reads up to {schema.VERSION}"
            )

    def _is_made(self):
        return self.run("SELECT 1 FROM sqlite_master").fetchone() is not None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

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
        except UnicodeEncodeError as error:  # words of a command line whose bytes are no UTF-8
            raise UnitStoreError(f"{self.path}: {error.object!r} is no text") from error

    def run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Cursor of one statement."""
        with self._errors():
            return self._connection.execute(sql, values)

    def run_many(self, sql: str, rows: Iterable[Any]) -> None:
        """One statement for each row of values."""
        with self._errors():
            self._connection.executemany(sql, rows)

    def rows(self, sql: str, *values: Any) -> list[tuple]:
        """All rows of a query."""
        with self._errors():
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> tuple | None:
        """First row of a query, None where there is none."""
        with self._errors():
            return self._connection.execute(sql, values).fetchone()

    def value(self, sql: str, *values: Any) -> Any:
        """First value of a query, None where there is none."""
        row = self.row(sql, *values)
        return row and row[0]

    def frame(self, sql: str, *values: Any) -> pd.DataFrame:
        """A query as a DataFrame."""
        with self._errors():
            cursor = self._connection.execute(sql, values)
            columns = [column[0] for column in cursor.description]
            return pd.DataFrame(cursor.fetchall(), columns=columns)

    def columns(
        self, table: str, numbers: Sequence[str], others: Sequence[str], where: str = ""
    ) -> dict[str, np.ndarray]:
        """Columns of a large table, by its first column.

        Parameters
        ----------
        table : str
        numbers : sequence of str
            Columns of integers without NULL; the first is the key, a row's number.
        others : sequence of str
            Columns of text or of integers.
        where : str
            SQL that rows must fulfil; empty: all.

        Returns
        -------
        dict of str to ndarray
            int64, and objects (None where NULL).
        """
        made = [f"group_concat({column})" for column in numbers] + [f"json_group_array({column})" for column in others]
        sql = f"SELECT {', '.join(made)} FROM {table} WHERE {numbers[0]} BETWEEN ? AND ? {where and 'AND ' + where}"
        last = self.value(f"SELECT max({numbers[0]}) FROM {table}") or 0
        parts: dict[str, list] = {column: [] for column in (*numbers, *others)}
        for start in range(0, last + 1, _AT_ONCE):
            row = self.row(sql, start, start + _AT_ONCE - 1)
            for column, text in zip(parts, row, strict=True):
                if column in numbers:
                    parts[column].append(np.fromstring(text or "", dtype=np.int64, sep=","))
                else:
                    values = json.loads(text)
                    parts[column].append(np.fromiter(values, dtype=object, count=len(values)))
        empty = {column: np.empty(0, np.int64 if column in numbers else object) for column in parts}
        columns = {column: np.concatenate([empty[column], *found]) for column, found in parts.items()}
        order = np.argsort(columns[numbers[0]], kind="stable")
        return {column: values[order] for column, values in columns.items()}

    def next_id(self, table: str) -> int:
        """Smallest id above all of a table."""
        return 1 + self.value(f"SELECT coalesce(max({table}_id), 0) FROM {table}")

    def members(self, link_set_id: int) -> Members:
        """`Members` of a link set."""
        packed = self.value("SELECT members FROM packed_members WHERE link_set_id = ?", link_set_id)
        return Members(*np.frombuffer(packed or self._packed_members(link_set_id), _PACKED).reshape(3, -1))

    def _packed_members(self, link_set_id):
        """Members of a link set as the table `packed_members` keeps them."""
        rows = self.rows(
            "SELECT unit_id, session_id, multi_sess_unit_id FROM member_unit WHERE link_set_id = ? ORDER BY unit_id",
            link_set_id,
        )
        flat = np.fromiter(chain.from_iterable(rows), _PACKED, count=3 * len(rows))
        return flat.reshape(-1, 3).T.tobytes()

    def damage(self) -> list[str]:
        """One sentence for each thing that is missing or broken in the file."""
        findings = []
        for look in (self._find_missing, self._find_broken):
            try:
                findings = look()
            except UnitStoreError as error:  # what cannot even be asked is a finding too
                findings = [str(error)]
            if findings:
                return findings
        return findings

    def _find_missing(self):
        with closing(sqlite3.connect(":memory:")) as empty:
            for statement in schema.statements():
                empty.execute(statement)
            wanted = empty.execute(_OBJECTS).fetchall()
        there = set(self.rows(_OBJECTS))
        return [f"the {kind} {name} is missing" for kind, name in wanted if (kind, name) not in there]

    def _find_broken(self):
        findings = [text for (text,) in self.rows("PRAGMA integrity_check") if text != "ok"]
        findings += [
            f"table {name}: row {row} refers to nothing" for name, row, *_ in self.rows("PRAGMA foreign_key_check")
        ]
        findings += [
            f"table {table}: {column} {value!r} is no {kind}" for table, column, kind, value in self._find_mistyped()
        ]
        findings += [
            f"link set {name!r}: the table packed_members says otherwise than member_unit"
            for link_set_id, name, packed in self.rows(
                "SELECT link_set_id, name, members FROM packed_members JOIN link_set USING (link_set_id)"
            )
            if packed != self._packed_members(link_set_id)
        ]
        return findings + [
            f"link set {name!r}: unit {number} counts {n} sessions but has {found} members"
            for name, number, n, found in self.rows(_MISCOUNTED)
        ]

    def _find_mistyped(self):
        """Table, column, type and value where a table, whose types SQLite does not insist on, holds something else."""
        found = []
        for (table,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"):
            for _, column, kind, needed, *_ in self.rows(f"PRAGMA table_info({table})"):
                types = [kind.lower(), *([] if needed else ["null"]), *(["integer"] if kind == "REAL" else [])]
                wrong = f"typeof({column}) NOT IN ({', '.join(map(repr, types))})"
                if column == "attributes":
                    kind, wrong = "JSON object", f"{wrong} OR json_type(attributes) <> 'object'"
                values = self.rows(f"SELECT {column} FROM {table} WHERE {wrong} LIMIT 1")
                found += [(table, column, kind, value) for (value,) in values]
        return found

    # Changing

    @contextmanager
    def _transaction(self):
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def change(self, action: str, detail: str) -> Iterator[int]:
        """One transaction with its entry in the history; yields the change's id."""
        with self._transaction():
            yield self.run(
                "INSERT INTO change (time, author, action, detail) VALUES (?, ?, ?, ?)",
                *(now(), self.author, action, detail),
            ).lastrowid
            self._pack_members()

    def _pack_members(self):
        """Keep the packed members of link sets that this change touched (triggers dropped them)."""
        for (link_set_id,) in self.rows(
            "SELECT link_set_id FROM link_set WHERE link_set_id NOT IN (SELECT link_set_id FROM packed_members)"
        ):
            self.run("INSERT INTO packed_members VALUES (?, ?)", link_set_id, self._packed_members(link_set_id))

    @contextmanager
    def untriggered(self, *names: str) -> Iterator[None]:
        """Take triggers away for what follows in this transaction, which does their work itself."""
        made = [self.value("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?", name) for name in names]
        for name in names:
            self.run(f"DROP TRIGGER {name}")
        yield
        for sql in made:
            self.run(sql)

    def undo(self) -> str:
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
        last = "SELECT change_id, action, detail FROM change WHERE undone_by IS NULL AND action <> 'undo' "
        with self._transaction():
            row = self.row(last + "ORDER BY change_id DESC LIMIT 1")
            if row is None:
                raise UnitStoreError(f"{self.path}: nothing to undo")
            change_id, what = row[0], f"{row[1]} {row[2]}"
            undo_id = self.run(
                "INSERT INTO change (time, author, action, detail) VALUES (?, ?, 'undo', ?)",
                *(now(), self.author, f"change {change_id}: {what}"),
            ).lastrowid
            self.run("PRAGMA defer_foreign_keys = ON")
            whole = row[1] in ("import", "remove")  # link sets, whose members are counted anew rather than one by one
            with self.untriggered(*(_MEMBER_TRIGGERS if whole else ())):
                for table in reversed(schema.COLUMNS):
                    self.run(f"DELETE FROM {table} WHERE change_id = ?", change_id)
                for table in schema.COLUMNS:
                    old = self.rows(
                        "SELECT row FROM undo_log WHERE change_id = ?1 AND table_name = ?2 "
                        "AND json_extract(row, '$.change_id') <> ?1 ORDER BY undo_id DESC",
                        *(change_id, table),
                    )
                    self.run_many(schema.restore(table), [{"row": text} for (text,) in old])
            if whole:
                self.run(_RECOUNT, change_id)
            self.run("DELETE FROM undo_log WHERE change_id = ?", change_id)
            self.run("UPDATE change SET undone_by = ? WHERE change_id = ?", undo_id, change_id)
            self._pack_members()
        return what


def now() -> str:
    """Time as the store writes it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
