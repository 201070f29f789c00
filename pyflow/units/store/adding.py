"""A `UnitTable` into the store: sessions and units that are new, and the table's claim as a link set."""

import json
import logging
import os
import re
from datetime import date, time
from pathlib import Path

import numpy as np
import pandas as pd

from pyflow.units.store.comparison import Members, mutual_best, overlap
from pyflow.units.store.database import Database, UnitStoreError, now
from pyflow.units.store.lookup import current
from pyflow.units.store.pins import hold
from pyflow.units.store.schema import SOURCE_OF
from pyflow.units.unit_table import SESSION_COLUMNS, UNIT_COLUMNS, TableError, UnitTable

logger = logging.getLogger(__name__)

_SOURCE = SESSION_COLUMNS[1:].index("source")
_CLAIM = "SELECT source, algorithm, version, parameters FROM link_set WHERE link_set_id = ?"
_TOLD = 10  # decisions that a log names one by one
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def add_table(
    database: Database, table: UnitTable, *, make_current: bool = False, other_groups: str = "refuse"
) -> None:
    """Add a table; see `UnitStore.import_table`."""
    if other_groups not in ("refuse", "append", "replace"):
        raise ValueError(f"other_groups is {other_groups!r}, expected 'refuse', 'append' or 'replace'")
    with database.change("import", f"{table.origin} as {table.name!r}" if table.name else table.origin) as change_id:
        add_within(database, table, change_id, make_current=make_current, other_groups=other_groups)


def add_within(
    database: Database, table: UnitTable, change_id: int, *, make_current: bool = False, other_groups: str = "refuse"
) -> None:
    """Add a table in the change that is under way."""
    session_ids = _add_sessions(database, table, change_id)
    unit_ids = _add_units(database, table, session_ids, change_id)
    if table.name:
        link_set = _add_link_set(database, table, session_ids, unit_ids, other_groups, change_id)
        if make_current or current(database) is None:
            set_current(database, link_set, change_id)


def set_current(database: Database, link_set_id: int, change_id: int) -> None:
    """Make a link set the current one, in the change that is under way."""
    database.run(
        "INSERT INTO current_link_set (one, link_set_id, change_id) VALUES (1, ?, ?) "
        "ON CONFLICT (one) DO UPDATE SET link_set_id = excluded.link_set_id",
        *(link_set_id, change_id),
    )


def _attributes(origin, frame, own):
    """JSON text of each row's further columns; null where blank, which removes what was there before."""
    columns = {c: frame[c].astype(object).where(frame[c].notna(), None).tolist() for c in frame if c not in own}
    if not columns:
        return ["{}"] * len(frame)
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode
    try:
        return [encode(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    except (TypeError, ValueError):
        for column, values in columns.items():
            for row, value in zip(frame.index, values, strict=True):
                try:
                    encode(value)
                except (TypeError, ValueError) as error:
                    message = f"{value!r} is no attribute: expected text, a number or a date"
                    raise TableError(origin, message, rows=[row], column=str(column), values=[value]) from error
        raise


def _plain(value):
    """A number of numpy or a date, as JSON knows it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError


def _patch(database, table, row_id, attributes):
    database.run(
        f"UPDATE {table} SET attributes = json_patch(attributes, ?1) "
        f"WHERE {table}_id = ?2 AND attributes <> json_patch(attributes, ?1)",
        *(attributes, row_id),
    )


def _add_sessions(database, table, change_id):
    """Row of each session by name."""
    known = dict(database.rows("SELECT name, session_id FROM session"))
    folded, groups = {name.casefold(): name for name in known}, None
    sessions = _beside_store(database, table.sessions)
    attributes = _attributes(table.origin, sessions, SESSION_COLUMNS)
    rows = sessions[list(SESSION_COLUMNS)].itertuples(index=False)
    for (name, *values), of_session in zip(rows, attributes, strict=True):
        if name not in known:
            if (other := folded.setdefault(name.casefold(), name)) != name:
                message = "%s: session %r differs from session %r in nothing but case; they are two sessions"
                logger.warning(message, table.origin, name, other)
            known[name] = database.run(
                "INSERT INTO session (name, start_time, source, kind, attributes, change_id) "
                "VALUES (?, ?, ?, ?, json_patch('{}', ?), ?)",
                *(name, *values, of_session, change_id),
            ).lastrowid
            continue
        if values[_SOURCE]:
            groups = _groups_of_sessions(table.units) if groups is None else groups
            values[_SOURCE] = _source_of_all(database, known[name], values[_SOURCE], groups.get(name, ()))
        for column, value in zip(SESSION_COLUMNS[1:], values, strict=True):
            if value:
                database.run(
                    f"UPDATE session SET {column} = ?1 WHERE session_id = ?2 AND {column} <> ?1", value, known[name]
                )
        _patch(database, "session", known[name], of_session)
    return known


def _source_of_all(database, row, source, groups):
    """A known session's new source; empty where it is that of some of its groups only, with which it is noted."""
    before = database.value("SELECT source FROM session WHERE session_id = ?", row)
    there = {group for (group,) in database.rows("SELECT DISTINCT group_name FROM unit WHERE session_id = ?", row)}
    if not before or not groups or there <= set(groups):
        return source
    _patch(database, "session", row, json.dumps({f"{SOURCE_OF}{group}": source for group in groups}))
    return ""


def _groups_of_sessions(units):
    """Groups of each session's units."""
    found = {}
    for session, group in units[["session", "group"]].drop_duplicates().itertuples(index=False):
        found.setdefault(session, []).append(group)
    return found


def forget_sources_of_groups(database: Database, session_id: int) -> None:
    """Leave a session one source for all its groups."""
    attributes = json.loads(database.value("SELECT attributes FROM session WHERE session_id = ?", session_id))
    own = {key: None for key in attributes if key.startswith(SOURCE_OF)}
    _patch(database, "session", session_id, json.dumps(own))


def _beside_store(database, sessions):
    """Sessions whose sources are as seen from the store."""
    columns = [column for column in sessions if column == "source" or column.startswith(SOURCE_OF)]
    return sessions.assign(
        **{
            c: [beside_store(database, path) if isinstance(path, str) else path for path in sessions[c]]
            for c in columns
        }
    )


def beside_store(database: Database, source: str) -> str:
    """Path of a session's data as seen from the store's folder where it is below that, so that both can be moved."""
    if not source or not Path(source).exists():
        return source
    path, folder = Path(source).absolute(), database.path.absolute().parent
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _add_units(database, table, session_ids, change_id):
    """Rows of the table's units, in its order."""
    units = table.units
    session = units["session"].map(session_ids).to_numpy(np.int64)
    group, name = (units[column].to_numpy(object) for column in ("group", "unit"))
    index = np.array(_without_nan(units["original_index"].astype("Int64")), dtype=object)
    attributes = np.array(_attributes(table.origin, units, UNIT_COLUMNS), dtype=object)
    there = database.columns(
        *("unit", ("unit_id", "session_id"), ("group_name", "unit_name", "original_index", "attributes")),
        f"session_id IN ({', '.join(map(str, np.unique(session).tolist()))})",
    )
    place = _find_units(there, session, group, name)
    is_new = place < 0
    known, before = np.flatnonzero(~is_new), place[~is_new]
    ids = np.empty(len(units), np.int64)
    ids[known] = there["unit_id"][before]
    ids[is_new] = database.next_id("unit") + np.arange(is_new.sum())
    for row in known[(attributes[known] != "{}") & (attributes[known] != there["attributes"][before])]:
        _patch(database, "unit", int(ids[row]), attributes[row])
    for row in known[pd.notna(index[known]) & (index[known] != there["original_index"][before])]:
        database.run("UPDATE unit SET original_index = ? WHERE unit_id = ?", index[row], int(ids[row]))
    database.run_many(
        "INSERT INTO unit (unit_id, session_id, group_name, unit_name, original_index, attributes, change_id) "
        f"VALUES (?, ?, ?, ?, ?, json_patch('{{}}', ?), {change_id})",
        zip(*(column[is_new].tolist() for column in (ids, session, group, name, index, attributes)), strict=True),
    )
    return ids


def _find_units(there, session, group, name):
    """Place of each unit among those that the store has, -1 where it has none; one by one would take half a second."""
    n = len(there["unit_id"])
    key = np.concatenate([there["session_id"], session])
    for column, texts in (("group_name", group), ("unit_name", name)):
        codes, found = pd.factorize(np.concatenate([there[column], texts]))
        key = key * len(found) + codes
    return pd.Index(key[:n]).get_indexer(key[n:])


def _add_link_set(database, table, session_ids, unit_ids, other_groups, change_id):
    """Row of the table's link set; one of that name is kept under another name, and its ids live on."""
    old = database.value("SELECT link_set_id FROM link_set WHERE name = ?", table.name)
    followed = table.units["identity"].notna().to_numpy()
    rows = table.units.loc[followed, ["identity", "global_id", "probability"]].reset_index(drop=True)
    rows["unit"], rows["session"] = unit_ids[followed], table.units["session"][followed].map(session_ids).to_numpy()
    covered = set(zip(table.units["session"].map(session_ids).tolist(), table.units["group"].tolist(), strict=True))
    scores, said = _score_rows(table, unit_ids), (table.source, table.algorithm, table.version)
    parameters = table.parameters
    if old is not None:
        others = _rows_of_other_groups(database, old, table, rows)
        if len(others) and other_groups == "refuse":
            groups = ", ".join(map(repr, sorted(others["group"].unique())))
            raise UnitStoreError(
                f"{database.path}: link set {table.name!r} holds {len(others)} units of group {groups}, which "
                f"{table.origin} lacks: append to it (--append, other_groups='append'), "
                "replace it (--replace, other_groups='replace'), or give another name"
            )
        if len(others) and other_groups == "append":
            _refuse_second_units(table, rows, others, session_ids)
            covered |= set(zip(others["session"].tolist(), others["group"].tolist(), strict=True))
            rows = pd.concat([others[rows.columns], rows], ignore_index=True)
            scores = sorted(scores + _scores_among(database, old, others["unit"]))
            *before, text = database.row(_CLAIM, old)
            said = tuple(
                "; ".join(dict.fromkeys(filter(None, [*was.split("; "), own])))
                for was, own in zip(before, said, strict=True)
            )
            parameters = json.loads(text) | parameters
    rows, overruled, broken = hold(database, rows, covered)
    _tell(database, table.name, "overruled by a decision made by hand", overruled)
    _tell(database, table.name, "a decision made by hand that cannot be kept beside others", broken)
    codes, labels = pd.factorize(rows["identity"])
    labels = labels.tolist()
    members = Members(
        *(rows[key].to_numpy(np.int64) for key in ("unit", "session")), codes + database.next_id("multi_sess_unit")
    )
    probability = _without_nan(rows["probability"].astype("Float64"))
    claim = (*said, json.dumps(parameters))
    given = rows.groupby(codes)["global_id"].first()
    given = _without_nan(given)

    if old is not None and _is_same(database, old, claim, given, labels, codes, members, probability, scores):
        return old
    old_name = None if old is None else _rename(database, old, table.name)
    new = database.run(
        "INSERT INTO link_set (name, source, algorithm, version, parameters, author, created, change_id) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        *(table.name, *claim, table.author or database.author, table.created or now(), change_id),
    ).lastrowid
    global_ids = [one or other for one, other in zip(given, _uuids(len(given)), strict=True)]
    numbers = [None] * len(labels)
    used = set()
    if old is not None:
        used = _inherit(database, old, old_name, table.name, members, given, global_ids, numbers, change_id)
        database.run("UPDATE link_set SET replaced_by = ? WHERE link_set_id = ?", new, old)
        database.run("UPDATE current_link_set SET link_set_id = ? WHERE link_set_id = ?", new, old)
    _number_rest(labels, numbers, used)
    counts = np.bincount(codes, minlength=len(labels)).tolist()
    first = database.next_id("multi_sess_unit")
    database.run_many(
        "INSERT INTO multi_sess_unit "
        "(multi_sess_unit_id, link_set_id, number, global_id, label, n_sessions, change_id) "
        f"VALUES (?, {new}, ?, ?, ?, ?, {change_id})",
        zip(range(first, first + len(labels)), numbers, global_ids, labels, counts, strict=True),
    )
    order = np.argsort(members.unit)
    with database.untriggered("member_added"):  # they are counted, and to do it one by one takes twice as long
        database.run_many(
            "INSERT INTO member_unit (link_set_id, unit_id, session_id, multi_sess_unit_id, probability, change_id) "
            f"VALUES ({new}, ?, ?, ?, ?, {change_id})",
            zip(*(column[order].tolist() for column in members), [probability[i] for i in order], strict=True),
        )
    database.run_many(
        "INSERT INTO score (link_set_id, unit_a, unit_b, name, value, change_id) "
        f"VALUES ({new}, ?, ?, ?, ?, {change_id})",
        scores,
    )
    return new


def _without_nan(column):
    """List of a column's values, None where there is none."""
    return column.astype(object).where(column.notna(), None).tolist()


def _uuids(n):
    """Random UUIDs as `uuid.uuid4` makes them, 100000 in the time that takes for 10000."""
    octets = np.frombuffer(os.urandom(16 * n), np.uint8).reshape(n, 16).copy()
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40  # version 4
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80  # of RFC 4122
    digits = octets.tobytes().hex()
    texts = (digits[32 * i : 32 * i + 32] for i in range(n))
    return [f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" for text in texts]


def _tell(database, name, what, pins):
    for pin in pins[:_TOLD]:
        logger.warning("%s, link set %r: %s: %s", database.path, name, what, pin.sentence(database))
    if len(pins) > _TOLD:
        logger.warning("%s, link set %r: %s: %d more", database.path, name, what, len(pins) - _TOLD)


def _rows_of_other_groups(database, link_set, table, rows):
    """Members of a link set whose groups the table does not hold: their rows, identities and ids."""
    old = database.members(link_set).unit
    if np.isin(old, rows["unit"]).all():  # which is quick to see
        return table.units.iloc[:0]
    members = database.frame(
        'SELECT group_name AS "group", label AS identity, global_id, probability, m.unit_id AS unit, '
        "m.session_id AS session FROM member_unit m JOIN multi_sess_unit USING (multi_sess_unit_id) "
        "JOIN unit USING (unit_id) WHERE m.link_set_id = ? ORDER BY number, m.session_id",
        link_set,
    )
    return members[~members["group"].isin(table.units["group"])]


def _refuse_second_units(table, rows, others, session_ids):
    """Refuse to append an identity to one of the same label that has a unit in the same session."""
    clash = rows.merge(others, on=["identity", "session"])
    if len(clash):
        first = clash.iloc[0]
        session = {row: name for name, row in session_ids.items()}[first["session"]]
        raise table.error(
            f"identity {first['identity']!r} of session {session!r} has a unit in group {first['group']!r} already",
            column="identity",
            values=[first["identity"]],
        )


def _scores_among(database, link_set, units):
    return [
        row
        for row in database.rows("SELECT unit_a, unit_b, name, value FROM score WHERE link_set_id = ?", link_set)
        if {row[0], row[1]} <= set(units)
    ]


def _score_rows(table, unit_ids):
    if table.scores is None:
        return []
    a, b = (unit_ids[table.units.index.get_indexer(table.scores[x])] for x in "ab")
    pairs = (np.minimum(a, b).tolist(), np.maximum(a, b).tolist())
    return sorted(zip(*pairs, table.scores["name"].tolist(), table.scores["value"].tolist(), strict=True))


def _is_same(database, old, claim, given, labels, codes, members, probability, scores):
    """Tell whether a link set says all of this already."""
    order, before = np.argsort(members.unit), database.members(old)
    if not np.array_equal(members.unit[order], before.unit) or not _same_partners(codes[order], before.identity):
        return False
    rows = zip(members.unit.tolist(), (labels[c] for c in codes), (given[c] for c in codes), probability, strict=True)
    before = database.rows(
        "SELECT unit_id, label, global_id, probability FROM member_unit m JOIN multi_sess_unit "
        "USING (multi_sess_unit_id) WHERE m.link_set_id = ? ORDER BY unit_id",
        old,
    )
    return (
        database.row(_CLAIM, old) == claim
        and len(before) == len(codes)
        and all(
            was[:2] == row[:2] and was[3] == row[3] and row[2] in (was[2], None)
            for was, row in zip(before, sorted(rows, key=lambda row: row[0]), strict=True)
        )
        and scores
        == database.rows(
            "SELECT unit_a, unit_b, name, value FROM score WHERE link_set_id = ? ORDER BY unit_a, unit_b, name", old
        )
    )


def _same_partners(a, b):
    """Tell whether two ways to number the same units put the same ones together."""
    pairs = np.unique(a.astype(np.int64) << 32 | b)
    return len(pairs) == len(np.unique(a)) == len(np.unique(b))


def _rename(database, link_set_id, name):
    taken = {n for (n,) in database.rows("SELECT name FROM link_set")}
    count = 1
    while (old := f"{name} (replaced {count})") in taken:
        count += 1
    database.run("UPDATE link_set SET name = ? WHERE link_set_id = ?", old, link_set_id)
    return old


def _inherit(database, old, old_name, name, members, given, global_ids, numbers, change_id):
    """Give identities the ids of those they continue, and keep the map; the numbers that are used up."""
    rows = database.rows("SELECT multi_sess_unit_id, global_id, number FROM multi_sess_unit WHERE link_set_id = ?", old)
    before = {row: (global_id, number) for row, global_id, number in rows}
    first = database.next_id("multi_sess_unit")
    order = np.argsort(members.unit)
    overlaps = overlap(database.members(old), Members(*(column[order] for column in members)))
    best = mutual_best(overlaps)
    number_of = dict(before.values())
    numbers[:] = [number_of.get(global_id) for global_id in given]
    taken = set(given)
    for row, code in zip(best.old.tolist(), (best.new - first).tolist(), strict=True):
        if given[code] is None and before[row][0] not in taken:
            global_ids[code], numbers[code] = before[row]
    database.run_many(
        "INSERT INTO id_map (old_link_set, new_link_set, old_global_id, new_global_id, shared, change_id) "
        f"VALUES (?, ?, ?, ?, ?, {change_id})",
        [
            (old_name, name, before[row][0], global_ids[code], shared)
            for row, code, shared in zip(
                overlaps.old.tolist(), (overlaps.new - first).tolist(), overlaps.shared.tolist(), strict=True
            )
        ],
    )
    return set(number_of.values())


def _number_rest(labels, numbers, used):
    """Number identities that have none yet: by their label where that is a free number, else above all others."""
    for code, label in enumerate(labels):
        if numbers[code] is None and _NUMBER.fullmatch(label) and int(label) not in used:
            numbers[code] = int(label)
            used.add(numbers[code])
    top = max(used, default=0)
    for code, number in enumerate(numbers):
        if number is None:
            top += 1
            numbers[code] = top
