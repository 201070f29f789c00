"""Everything that another store knows, taken over into this one in one change."""

import json
import logging

import pandas as pd

from pyflow.units.store import frames, lookup
from pyflow.units.store.adding import add_within
from pyflow.units.store.database import Database, UnitStoreError
from pyflow.units.store.pins import locked_cells, read_pins
from pyflow.units.store.schema import SOURCE_OF
from pyflow.units.unit_table import UnitTable

logger = logging.getLogger(__name__)

_CLAIM = ("source", "algorithm", "version", "author", "created")


def merge(database: Database, other: Database) -> list[str]:
    """Take over another store; see `UnitStore.merge`."""
    if other.path.resolve() == database.path.resolve():
        raise UnitStoreError(f"{other.path}: a store cannot be merged with itself")
    names = [name for (name,) in other.rows("SELECT name FROM link_set WHERE replaced_by IS NULL ORDER BY link_set_id")]
    sessions = _sessions(database, other)
    with database.change("merge", str(other.path)) as change_id:
        units = frames.spread(frames.all_units(other))
        kept = {"origin": str(other.path), "sessions": sessions}
        listed = units.drop(columns=["session_id", "unit_id"])
        add_within(database, UnitTable(listed, name="", **kept), change_id)
        _add_pins(database, other, change_id)
        return [_add_link_set(database, other, name, kept, change_id) for name in names]


def _sessions(database, other):
    """The other store's sessions, their sources as seen from anywhere."""
    sessions = frames.sessions(other).drop(columns="n_units")
    start_of = dict(database.rows("SELECT name, start_time FROM session"))
    for name, start in sessions[["name", "start_time"]].itertuples(index=False):
        if start and start_of.get(name) not in (None, "", start):
            raise UnitStoreError(
                f"session {name!r} started at {start_of[name]} in {database.path}, but at {start} in {other.path}"
            )
    folder = other.path.absolute().parent
    sources = [column for column in sessions if column == "source" or column.startswith(SOURCE_OF)]
    return sessions.assign(**{column: sessions[column].map(lambda path: _anywhere(folder, path)) for column in sources})


def _anywhere(folder, source):
    """A source as seen from anywhere; as it is, where there is none or nothing is there."""
    is_there = isinstance(source, str) and source and (folder / source).exists()
    return str(folder / source) if is_there else source


def _add_pins(database, other, change_id):
    """Pins of the other store, between the units as they are called here, but for those that contradict ours."""
    pins = read_pins(other)
    ids = sorted({unit for pin in pins for unit in (pin.a, pin.b)})
    keys = lookup.unit_keys(other, ids).itertuples(index=False)
    here = {old: lookup.unit_id(database, tuple(key)) for old, key in zip(ids, keys, strict=True)}
    # as rows of a table they are sorted, and a lock is a chain of such pairs
    theirs = [pin._replace(a=min(pair), b=max(pair)) for pin in pins for pair in [(here[pin.a], here[pin.b])]]
    ours = read_pins(database)
    locks, their_locks = locked_cells(ours), locked_cells(theirs)
    for pin in reversed(theirs):
        lock = their_locks[pin.a] if pin.kind == "lock" else None
        if any(pin[:3] == known[:3] for known in ours):
            continue
        if any(_contradict(known, pin, lock, locks) for known in ours):
            logger.warning(
                "%s: this decision of %s is left out, since others were made here: %s",
                *(database.path, other.path, pin.sentence(database)),
            )
            continue
        database.run(
            "INSERT INTO pin (unit_a, unit_b, kind, change_id) VALUES (?, ?, ?, ?)", pin.a, pin.b, pin.kind, change_id
        )


def _contradict(ours, theirs, lock, locks):
    """Tell whether a pin of ours leaves no room for one of theirs.

    `lock` are all units of the lock that theirs is part of.
    """
    if {ours.a, ours.b} == {theirs.a, theirs.b}:
        return True
    ours_here = locks[ours.a] if ours.kind == "lock" else frozenset()
    if lock is not None:  # exactly these units, so that no other may be one cell with one of them
        if ours.kind == "unlink":
            return {ours.a, ours.b} <= lock
        return len({ours.a, ours.b} & lock) == 1 or (bool(ours_here & lock) and ours_here != lock)
    inside = len({theirs.a, theirs.b} & ours_here)
    return inside == 2 if theirs.kind == "unlink" else inside == 1


def _add_link_set(database, other, name, kept, change_id):
    claim, _, units = frames.gather(other, name)
    units = units.rename(columns={"identity_id": "global_id", "identity_probability": "probability"})
    scores = frames.scores(other, lookup.link_set_id(other, name))
    units = units.set_index("unit_id").drop(columns=["session_id", "identity_number"])
    table = UnitTable(
        units[["session", "group", "unit", "identity", "global_id", "probability"]],
        name=_free_name(database, name, units, other),
        parameters=json.loads(claim["parameters"]),
        scores=scores if len(scores) else None,
        **kept,
        **{field: claim[field] for field in _CLAIM},
    )
    add_within(database, table, change_id, other_groups="replace")
    return table.name


def _free_name(database, name, units, other):
    """The link set's name, or one beside ours where ours says something else."""
    if database.value("SELECT 1 FROM link_set WHERE name = ?", name) is None:
        return name
    columns = ["session", "group", "unit", "global_id"]
    ours = frames.members(database, lookup.link_set_id(database, name))[columns]
    theirs = units[units["identity"].notna()][columns]
    same = pd.concat([ours, theirs]).astype(object).drop_duplicates(keep=False).empty
    return name if same else f"{name} (from {other.path.name})"
