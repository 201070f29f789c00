"""What is asked of a link set: in how many sessions its cells are, their scores, and who they are in another one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pyflow.units.store import lookup
from pyflow.units.store.comparison import overlap
from pyflow.units.store.database import Database


def present_in(database: Database, link_set_id: int, at_least: int, sessions: Sequence[str] | None) -> np.ndarray:
    """Numbers of cells that are in so many sessions; see `UnitStore.present_in`."""
    if at_least < 1:
        raise ValueError(f"at_least is {at_least}, expected 1 or more")
    at_least = min(at_least, np.iinfo(np.int64).max)  # SQLite knows no larger number
    chosen, values = ("n_sessions >= ?", (at_least,)) if sessions is None else ("TRUE", ())
    # As one string each: 100000 rows one by one take three times as long.
    ids, numbers = (
        np.fromstring(text or "", dtype=np.int64, sep=",")
        for text in database.row(
            "SELECT group_concat(multi_sess_unit_id), group_concat(number) FROM multi_sess_unit "
            f"WHERE link_set_id = ? AND {chosen}",
            *(link_set_id, *values),
        )
    )
    if sessions is not None:
        wanted = [lookup.session_id(database, name) for name in sessions]
        members = database.members(link_set_id)
        counted = np.zeros(1 + max(members.session.max(initial=0), *wanted), dtype=bool)
        counted[wanted] = True
        counts = np.bincount(members.identity[counted[members.session]], minlength=1 + ids.max(initial=0))
        numbers = numbers[counts[ids] >= at_least]
    return np.sort(numbers)


def scores(database: Database, link_set_id: int, multi_sess_unit_id: int) -> pd.DataFrame:
    """Scores of pairs with a member of a cell; see `UnitStore.scores`."""
    members = "SELECT unit_id FROM member_unit WHERE multi_sess_unit_id = ?2"
    found = database.frame(
        "SELECT unit_a, unit_b, name, value FROM score "
        f"WHERE link_set_id = ?1 AND (unit_a IN ({members}) OR unit_b IN ({members})) ORDER BY 1, 2, 3",
        *(link_set_id, multi_sess_unit_id),
    )
    return pd.concat([*both_units(database, found), found], axis=1)


def both_units(database: Database, pairs: pd.DataFrame) -> list[pd.DataFrame]:
    """Take `unit_a` and `unit_b` out of a table of pairs, and name them: session_a, group_a, unit_a, session_b ..."""
    return [lookup.unit_keys(database, pairs.pop(f"unit_{side}")).add_suffix(f"_{side}") for side in ("a", "b")]


def stats(database: Database, link_set: str | None) -> dict[str, Any]:
    """Numbers of sessions, units and cells; see `UnitStore.stats`."""
    found = {name: database.value(f"SELECT count(*) FROM {name[:-1]}") for name in ("sessions", "units")}
    link_set = lookup.current(database) if link_set is None else link_set
    if link_set is None:
        return found
    by_sessions = database.rows(
        "SELECT n_sessions, count(*) FROM multi_sess_unit WHERE link_set_id = ? GROUP BY n_sessions",
        lookup.link_set_id(database, link_set),
    )
    return found | {
        "link_set": link_set,
        "followed": sum(n * count for n, count in by_sessions),
        "multi_sess_units": sum(count for _, count in by_sessions),
        "by_sessions": dict(by_sessions),
    }


def id_map(database: Database, old: int, new: int) -> pd.DataFrame:
    """Map from the ids of one link set to those of another; see `UnitStore.id_map`."""
    shared = overlap(*(database.members(row) for row in (old, new)))
    frame = pd.DataFrame(shared._asdict(), dtype=np.int64)
    for side, row in (("old", old), ("new", new)):
        identities = database.frame(
            f"SELECT multi_sess_unit_id AS {side}, number AS {side}_number, global_id AS {side}_global_id, "
            f"n_sessions AS {side}_size FROM multi_sess_unit WHERE link_set_id = ?",
            row,
        )
        frame = frame.merge(identities, how="outer", on=side)
    frame["shared"] = frame["shared"].fillna(0)
    columns = ["old_number", "old_global_id", "new_number", "new_global_id", "shared", "old_size", "new_size"]
    frame = frame[columns].astype({c: "Int64" for c in columns if not c.endswith("id")})
    return frame.sort_values(["old_number", "new_number"], ignore_index=True)
