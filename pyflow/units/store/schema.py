"""Tables of the unit store, as SQLite keeps them and as people see them.

Each table's rows carry the change that added them; rows that a change alters or deletes are kept in `undo_log` by
triggers. So undoing a change deletes what it added and puts back what it altered.
"""

import sqlite3
from collections.abc import Iterator

APPLICATION_ID = 0x50664C55  # "PfLU" in the file's header: this is a unit store
VERSION = 1

TABLES = """
CREATE TABLE change (
    change_id INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    author TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    undone_by INTEGER REFERENCES change
);
CREATE TABLE undo_log (
    undo_id INTEGER PRIMARY KEY,
    change_id INTEGER NOT NULL REFERENCES change,
    table_name TEXT NOT NULL,
    row TEXT NOT NULL
);
CREATE TABLE session (
    session_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE CHECK (name <> ''),
    start_time TEXT NOT NULL,
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    attributes TEXT NOT NULL CHECK (json_valid(attributes)),
    change_id INTEGER NOT NULL REFERENCES change
);
CREATE TABLE unit (
    unit_id INTEGER PRIMARY KEY,
    session_id INTEGER NOT NULL REFERENCES session,
    group_name TEXT NOT NULL,
    unit_name TEXT NOT NULL CHECK (unit_name <> ''),
    original_index INTEGER,
    attributes TEXT NOT NULL CHECK (json_valid(attributes)),
    change_id INTEGER NOT NULL REFERENCES change,
    UNIQUE (session_id, group_name, unit_name)
);
CREATE UNIQUE INDEX unit_session ON unit (unit_id, session_id);
CREATE TABLE link_set (
    link_set_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE CHECK (name <> ''),
    source TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    version TEXT NOT NULL,
    parameters TEXT NOT NULL CHECK (json_valid(parameters)),
    author TEXT NOT NULL,
    created TEXT NOT NULL,
    replaced_by INTEGER REFERENCES link_set ON DELETE SET NULL,
    change_id INTEGER NOT NULL REFERENCES change
);
CREATE TABLE current_link_set (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    link_set_id INTEGER NOT NULL REFERENCES link_set ON DELETE CASCADE,
    change_id INTEGER NOT NULL REFERENCES change
);
CREATE TABLE multi_sess_unit (
    multi_sess_unit_id INTEGER PRIMARY KEY,
    link_set_id INTEGER NOT NULL REFERENCES link_set ON DELETE CASCADE,
    number INTEGER NOT NULL CHECK (number >= 0),
    global_id TEXT NOT NULL CHECK (length(global_id) = 36),
    label TEXT NOT NULL,
    n_sessions INTEGER NOT NULL DEFAULT 0,
    change_id INTEGER NOT NULL REFERENCES change,
    UNIQUE (link_set_id, number),
    UNIQUE (link_set_id, global_id),
    UNIQUE (link_set_id, label),
    UNIQUE (multi_sess_unit_id, link_set_id)
);
CREATE INDEX multi_sess_unit_presence ON multi_sess_unit (link_set_id, n_sessions, number);
-- The keys are the invariants: a unit is in one multi-session unit of a link set, which has one member per session
-- (its link set stands in that key for the foreign key: SQLite would look its rows up by link set alone).
CREATE TABLE member_unit (
    link_set_id INTEGER NOT NULL,
    unit_id INTEGER NOT NULL,
    session_id INTEGER NOT NULL,
    multi_sess_unit_id INTEGER NOT NULL,
    probability REAL CHECK (probability BETWEEN 0 AND 1),
    change_id INTEGER NOT NULL REFERENCES change,
    PRIMARY KEY (link_set_id, unit_id),
    UNIQUE (multi_sess_unit_id, link_set_id, session_id),
    FOREIGN KEY (multi_sess_unit_id, link_set_id)
        REFERENCES multi_sess_unit (multi_sess_unit_id, link_set_id) ON DELETE CASCADE,
    FOREIGN KEY (unit_id, session_id) REFERENCES unit (unit_id, session_id)
) WITHOUT ROWID;
CREATE INDEX member_unit_unit ON member_unit (unit_id);
-- Every link set's members as one array (see comparison.py): a row for each would take too long to compare.
CREATE TABLE packed_members (
    link_set_id INTEGER PRIMARY KEY REFERENCES link_set ON DELETE CASCADE,
    members BLOB NOT NULL
);
CREATE TRIGGER member_added AFTER INSERT ON member_unit BEGIN
    UPDATE multi_sess_unit SET n_sessions = n_sessions + 1 WHERE multi_sess_unit_id = NEW.multi_sess_unit_id;
    DELETE FROM packed_members WHERE link_set_id = NEW.link_set_id;
END;
CREATE TRIGGER member_removed AFTER DELETE ON member_unit BEGIN
    UPDATE multi_sess_unit SET n_sessions = n_sessions - 1 WHERE multi_sess_unit_id = OLD.multi_sess_unit_id;
    DELETE FROM packed_members WHERE link_set_id = OLD.link_set_id;
END;
CREATE TRIGGER member_moved AFTER UPDATE OF multi_sess_unit_id ON member_unit BEGIN
    UPDATE multi_sess_unit SET n_sessions = n_sessions - 1 WHERE multi_sess_unit_id = OLD.multi_sess_unit_id;
    UPDATE multi_sess_unit SET n_sessions = n_sessions + 1 WHERE multi_sess_unit_id = NEW.multi_sess_unit_id;
    DELETE FROM packed_members WHERE link_set_id = NEW.link_set_id;
END;
CREATE TABLE score (
    link_set_id INTEGER NOT NULL REFERENCES link_set ON DELETE CASCADE,
    unit_a INTEGER NOT NULL REFERENCES unit,
    unit_b INTEGER NOT NULL REFERENCES unit,
    name TEXT NOT NULL,
    value REAL NOT NULL,
    change_id INTEGER NOT NULL REFERENCES change,
    PRIMARY KEY (link_set_id, unit_a, unit_b, name),
    CHECK (unit_a < unit_b)
) WITHOUT ROWID;
CREATE INDEX score_unit_a ON score (unit_a);
CREATE INDEX score_unit_b ON score (unit_b);
CREATE TABLE pin (
    unit_a INTEGER NOT NULL REFERENCES unit,
    unit_b INTEGER NOT NULL REFERENCES unit,
    kind TEXT NOT NULL CHECK (kind IN ('link', 'unlink', 'lock')),
    change_id INTEGER NOT NULL REFERENCES change,
    PRIMARY KEY (unit_a, unit_b, kind),
    CHECK (unit_a < unit_b OR (unit_a = unit_b AND kind = 'lock'))
) WITHOUT ROWID;
CREATE INDEX pin_unit_b ON pin (unit_b);
CREATE TABLE id_map (
    old_link_set TEXT NOT NULL,
    new_link_set TEXT NOT NULL,
    old_global_id TEXT NOT NULL,
    new_global_id TEXT NOT NULL,
    shared INTEGER NOT NULL,
    change_id INTEGER NOT NULL REFERENCES change,
    PRIMARY KEY (old_link_set, new_link_set, old_global_id, new_global_id)
) WITHOUT ROWID;
"""

# Times may be of several zones, whose texts do not sort; texts that are no times keep their order.
BY_TIME = "julianday(start_time), start_time"

# Table -> what `UnitStore.tables` gives of it (frames.py adds the large ones); attributes become columns there.
VIEWS = {
    "session": "SELECT session_id, name, start_time, source, kind, attributes FROM session ORDER BY session_id",
    "link_set": "SELECT link_set_id, name, source, algorithm, version, parameters, author, created, "
    "EXISTS (SELECT 1 FROM current_link_set c WHERE c.link_set_id = l.link_set_id) AS is_current, "
    "(SELECT name FROM link_set n WHERE n.link_set_id = l.replaced_by) AS replaced_by, "
    "(SELECT count(*) FROM multi_sess_unit m WHERE m.link_set_id = l.link_set_id) AS n_units, "
    "(SELECT coalesce(sum(n_sessions), 0) FROM multi_sess_unit m WHERE m.link_set_id = l.link_set_id) AS n_members "
    "FROM link_set l ORDER BY link_set_id",
    "score": "SELECT l.name AS link_set, unit_a, unit_b, s.name, value "
    "FROM score s JOIN link_set l USING (link_set_id) ORDER BY link_set_id, unit_a, unit_b, s.name",
    "pin": "SELECT kind, unit_a, unit_b, time, author FROM pin JOIN change USING (change_id) "
    "ORDER BY change_id, unit_a, unit_b",
    "id_map": "SELECT old_link_set, new_link_set, old_global_id, new_global_id, shared FROM id_map",
    "history": "SELECT change_id, time, author, action, detail, undone_by FROM change ORDER BY change_id",
}

# What `UnitStore.members` tells of the members of one identity
# Attribute of a session: where the results of one of its groups are, if not where those of the others are.
SOURCE_OF = "source of "

MEMBERS = (
    "SELECT number, global_id, label, s.name AS session, start_time, "
    f"coalesce((SELECT value FROM json_each(s.attributes) WHERE key = '{SOURCE_OF}' || group_name), source) AS source, "
    'kind, group_name AS "group", unit_name AS unit, original_index, probability, unit_id '
    "FROM multi_sess_unit u JOIN member_unit m USING (multi_sess_unit_id) JOIN unit USING (unit_id) "
    "JOIN session s ON s.session_id = m.session_id WHERE u.multi_sess_unit_id = ? "
    f"ORDER BY {BY_TIME}, s.session_id"
)

# Table -> (key, other columns that undo restores), parents first. n_sessions is left to its triggers.
COLUMNS = {
    "session": (("session_id",), ("name", "start_time", "source", "kind", "attributes", "change_id")),
    "unit": (
        ("unit_id",),
        ("session_id", "group_name", "unit_name", "original_index", "attributes", "change_id"),
    ),
    "link_set": (
        ("link_set_id",),
        ("name", "source", "algorithm", "version", "parameters", "author", "created", "replaced_by", "change_id"),
    ),
    "current_link_set": (("one",), ("link_set_id", "change_id")),
    "multi_sess_unit": (
        ("multi_sess_unit_id",),
        ("link_set_id", "number", "global_id", "label", "change_id"),
    ),
    "member_unit": (
        ("link_set_id", "unit_id"),
        ("session_id", "multi_sess_unit_id", "probability", "change_id"),
    ),
    "score": (("link_set_id", "unit_a", "unit_b", "name"), ("value", "change_id")),
    "pin": (("unit_a", "unit_b", "kind"), ("change_id",)),
    "id_map": (
        ("old_link_set", "new_link_set", "old_global_id", "new_global_id"),
        ("shared", "change_id"),
    ),
}


def _old(column):
    """A column's value before the change; json_object alone would keep 15 digits of a real number."""
    if column in ("probability", "value"):
        return f"iif(OLD.{column} IS NULL, NULL, printf('%!.17g', OLD.{column}))"
    return f"OLD.{column}"


def statements() -> Iterator[str]:
    """SQL statements that make an empty store."""
    sql = [TABLES, f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {VERSION};\n"]
    for table, (key, rest) in COLUMNS.items():
        row = ", ".join(f"'{column}', {_old(column)}" for column in key + rest)
        sql += [
            f"CREATE TRIGGER undo_{table}_{event[:6].lower()} BEFORE {event} ON {table}\n"
            "WHEN (SELECT action FROM change ORDER BY change_id DESC LIMIT 1) <> 'undo' BEGIN\n"
            "    INSERT INTO undo_log (change_id, table_name, row)\n"
            f"    VALUES ((SELECT max(change_id) FROM change), '{table}', json_object({row}));\nEND;\n"
            for event in ("DELETE", f"UPDATE OF {', '.join(rest)}")
        ]
    statement = ""
    for line in "".join(sql).splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def restore(table: str) -> str:
    """SQL that puts one row of `undo_log` (its JSON text) back into its table."""
    key, rest = COLUMNS[table]
    columns = key + rest
    values = ", ".join(f"json_extract(:row, '$.{column}')" for column in columns)
    updates = ", ".join(f"{column} = excluded.{column}" for column in rest)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) "
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {updates}"
    )
