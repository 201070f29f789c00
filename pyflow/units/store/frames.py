"""Whole tables of a store as DataFrames.

SQLite hands out a column of a large table much faster as one text than as one value per row, and names are joined by
their rows' numbers here, not there: 400000 units and their members take a tenth of the time.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pyflow.units.store import lookup, schema
from pyflow.units.store.database import Database

_OF_MEMBER = [
    *("number", "global_id", "label", "session", "start_time", "source", "kind", "group", "unit", "original_index"),
    *("probability", "unit_id"),
]
_IDENTITY = ("number", "global_id", "label")

Restriction = Mapping[str, Any]
"""Column -> value that rows must have, or list of such values."""


class Gathered(NamedTuple):
    """All units of a store, and who they are in one link set.

    Attributes
    ----------
    claim : dict
        The link set, as in `UnitStore.link_sets`.
    sessions : pandas.DataFrame
        As in `UnitStore.tables`.
    units : pandas.DataFrame
        As in `UnitStore.tables`, by session and order of import, with the columns `identity` (its label; missing: not
        followed), `identity_number`, `identity_id` (UUID) and `identity_probability` in front.
    """

    claim: dict[str, Any]
    sessions: pd.DataFrame
    units: pd.DataFrame


def tables(database: Database) -> dict[str, pd.DataFrame]:
    """All tables; see `UnitStore.tables`."""
    found = {name: database.frame(sql) for name, sql in schema.VIEWS.items()}
    found["session"] = spread(found["session"])
    units, identities = all_units(database), _identities(database)
    link_sets = found["link_set"]["link_set_id"].tolist()
    identities["link_set"] = _named(found["link_set"], "link_set_id", identities["link_set_id"])
    members = _members(database, link_sets, units, identities, ("link_set", "number", "global_id"))
    found["member_unit"] = members[
        ["link_set", "multi_sess_unit_id", "number", "global_id", "unit_id", "session", "group", "unit", "probability"]
    ]
    found["multi_sess_unit"] = identities[["multi_sess_unit_id", "link_set", *_IDENTITY, "n_sessions"]]
    found["unit"] = spread(units)
    return found


def units(database: Database, link_set: str | None = None) -> pd.DataFrame:
    """All units; see `UnitStore.units`."""
    if link_set is None and lookup.current(database) is None:
        frame = spread(all_units(database))
        frame["number"] = pd.array([pd.NA] * len(frame), dtype="Int64")
    else:
        frame = gather(database, link_set).units.rename(columns={"identity_number": "number"})
    front = ["session", "group", "unit", "original_index", "number"]
    own = {*front, "session_id", "unit_id", "identity", "identity_id", "identity_probability"}
    return frame[[*front, *(column for column in frame if column not in own)]]


def scores(database: Database, link_set_id: int) -> pd.DataFrame:
    """Scores of a link set between rows of units: columns `a`, `b`, `name`, `value`."""
    sql = "SELECT unit_a AS a, unit_b AS b, name, value FROM score WHERE link_set_id = ? ORDER BY 1, 2, 3"
    return database.frame(sql, link_set_id)


def restricted(frame: pd.DataFrame, where: Restriction | None) -> pd.DataFrame:
    """Rows of a frame that have the wanted values."""
    for column, wanted in (where or {}).items():
        if column not in frame:
            raise ValueError(f"no column {column!r}; there are {', '.join(map(str, frame))}")
        values = list(wanted) if isinstance(wanted, list | tuple | set | np.ndarray) else [wanted]
        frame = frame[frame[column].isin(values)]
    return frame.reset_index(drop=True) if where else frame


def sessions(database: Database) -> pd.DataFrame:
    """Sessions by start time; see `UnitStore.sessions`."""
    return spread(
        database.frame(
            "SELECT name, start_time, source, kind, "
            "(SELECT count(*) FROM unit u WHERE u.session_id = s.session_id) AS n_units, attributes "
            f"FROM session s ORDER BY {schema.BY_TIME}, session_id"
        )
    )


def members(database: Database, link_set_id: int) -> pd.DataFrame:
    """All members of a link set; see `UnitStore.members`."""
    of_session = database.frame(
        f"SELECT session_id, start_time, source, kind FROM session ORDER BY {schema.BY_TIME}, session_id"
    )
    units, identities = all_units(database), _identities(database, link_set_id)
    frame = _members(database, [link_set_id], units, identities, _IDENTITY)
    place = pd.Index(of_session["session_id"]).get_indexer(frame.pop("session_id"))
    order = np.lexsort((place, frame["number"].to_numpy()))
    frame, place = frame.iloc[order].reset_index(drop=True), place[order]
    for column in ("start_time", "source", "kind"):
        frame[column] = of_session[column].take(place).array
    if own := _own_sources(database):
        keys = pd.MultiIndex.from_frame(frame[["session", "group"]])
        which = pd.MultiIndex.from_tuples([key for *key, _ in own]).get_indexer(keys)
        frame.loc[which >= 0, "source"] = [own[row][2] for row in which[which >= 0]]
    index = units["original_index"].array.take(_places(units["unit_id"], frame["unit_id"]))
    frame["original_index"] = pd.array(index, dtype="Int64")
    return frame[_OF_MEMBER]


def _own_sources(database):
    """Session, group and source of groups that have a source of their own."""
    return database.rows(
        "SELECT name, substr(key, ?2), value FROM session, json_each(session.attributes) WHERE key LIKE ?1 || '%'",
        *(schema.SOURCE_OF, len(schema.SOURCE_OF) + 1),
    )


def gather(database: Database, link_set: str | None = None) -> Gathered:
    """`Gathered` of a link set; by default of the current one."""
    row = lookup.link_set_id(database, link_set)
    claim = database.frame(f"SELECT * FROM ({schema.VIEWS['link_set']}) WHERE link_set_id = ?", row).iloc[0].to_dict()
    units = all_units(database)
    identities, found = _identities(database, row), database.members(row)
    units = units.iloc[np.argsort(units["session_id"].to_numpy(), kind="stable")].reset_index(drop=True)
    identity = np.full(1 + units["unit_id"].max() if len(units) else 1, -1)
    identity[found.unit] = np.searchsorted(identities["multi_sess_unit_id"], found.identity)
    who = identities.reindex(identity[units["unit_id"]])
    front = {
        "identity": who["label"].array,
        "identity_number": pd.array(who["number"], dtype="Int64"),
        "identity_id": who["global_id"].array,
        "identity_probability": _probabilities(database, row, units["unit_id"].to_numpy()),
    }
    sessions = spread(database.frame(schema.VIEWS["session"]))
    return Gathered(claim, sessions, spread(pd.concat([pd.DataFrame(front), units], axis=1)))


def spread(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its column of JSON attributes spread into one column each."""
    texts = frame.pop("attributes")
    if (texts == "{}").all():
        return frame
    attributes = pd.DataFrame(json.loads(f"[{','.join(texts)}]"), index=frame.index)
    attributes.columns = [f"{column} (attribute)" if column in frame else column for column in attributes]
    return pd.concat([frame, attributes], axis=1)


def all_units(database: Database) -> pd.DataFrame:
    """Units as in `UnitStore.tables`, attributes as JSON."""
    columns = database.columns(
        "unit", ("unit_id", "session_id"), ("group_name", "unit_name", "original_index", "attributes")
    )
    names = database.frame("SELECT session_id, name FROM session")
    return pd.DataFrame(
        {
            "unit_id": columns["unit_id"],
            "session_id": columns["session_id"],
            "session": _named(names, "session_id", columns["session_id"]),
            "group": columns["group_name"],
            "unit": columns["unit_name"],
            "original_index": columns["original_index"].tolist(),
            "attributes": columns["attributes"],
        }
    )


def _named(table, key, ids):
    return table["name"].take(pd.Index(table[key]).get_indexer(ids)).array


def _identities(database, link_set_id=None):
    """Identities by their rows' numbers; of all link sets by default."""
    where = "" if link_set_id is None else f"link_set_id = {link_set_id}"
    numbers = ("multi_sess_unit_id", "link_set_id", "number", "n_sessions")
    return pd.DataFrame(database.columns("multi_sess_unit", numbers, ("global_id", "label"), where))


def _members(database, link_sets, units, identities, of_identity):
    """Members of link sets by unit, with what is known of their units and, in columns, of their identities."""
    found = [database.members(row) for row in link_sets]
    probability = [_probabilities(database, row, m.unit) for row, m in zip(link_sets, found, strict=True)]
    unit, session, identity = (
        np.concatenate([np.empty(0, np.int64), *column])
        for column in (zip(*found, strict=True) if found else ((),) * 3)
    )
    what, who = _places(units["unit_id"], unit), _places(identities["multi_sess_unit_id"], identity)
    columns = {"multi_sess_unit_id": identity, "session_id": session, "unit_id": unit}
    columns |= {column: identities[column].array.take(who) for column in of_identity}
    columns |= {column: units[column].array.take(what) for column in ("session", "group", "unit")}
    return pd.DataFrame(columns | {"probability": np.concatenate([np.empty(0), *probability])})


def _places(ids, wanted):
    """Place of each wanted id, all of which are there, among ids."""
    place = np.empty(1 + ids.max() if len(ids) else 0, np.int64)
    place[ids] = np.arange(len(ids))
    return place[wanted]


def _probabilities(database, link_set_id, unit_ids):
    """Probability of each unit's membership, NaN where there is none."""
    rows = database.rows(
        "SELECT unit_id, probability FROM member_unit WHERE link_set_id = ? AND probability IS NOT NULL", link_set_id
    )
    if not rows:
        return np.full(len(unit_ids), np.nan)
    return pd.Series(dict(rows), dtype=np.float64).reindex(unit_ids).to_numpy()
