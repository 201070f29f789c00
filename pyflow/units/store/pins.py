"""Decisions made by hand (pins), which hold against whatever is imported later.

A pin is about two units: they are one cell (`link`), they are not (`unlink`), or they belong to an identity that is
locked (`lock`: a chain through its members, who are then exactly these). It concerns every link set that covers the
sessions and groups of both.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from pyflow.units.store.database import Database
from pyflow.units.store.lookup import unit_key

_LARGEST = 9  # digits of a label that counts as a number


class Pin(NamedTuple):
    """One decision: its kind, the rows of both units, who made it and when."""

    kind: str
    a: int
    b: int
    author: str
    time: str

    def sentence(self, database: Database) -> str:
        """What was decided, for people."""
        a, b = (unit_key(database, unit) for unit in (self.a, self.b))
        verdict = {"link": "are one cell", "unlink": "are different cells", "lock": "are locked as one cell"}[self.kind]
        who = f"{a} is locked alone" if a == b else f"{a} and {b} {verdict}"
        return f"{who} ({self.author}, {self.time})"


def read_pins(database: Database) -> list[Pin]:
    """All pins, the newest first."""
    sql = "SELECT kind, unit_a, unit_b, author, time FROM pin JOIN change USING (change_id) ORDER BY change_id DESC"
    return [Pin(*row) for row in database.rows(sql)]


def locked_cells(pins: Iterable[Pin]) -> dict[int, frozenset[int]]:
    """Return, for each unit that is locked, all units of its locked cell."""
    cells = {}
    for pin in pins:
        if pin.kind == "lock":
            cell = cells.get(pin.a, frozenset((pin.a,))) | cells.get(pin.b, frozenset((pin.b,)))
            cells |= dict.fromkeys(cell, cell)
    return cells


def _places(database):
    """Row of the session and group of each unit that has a pin."""
    rows = database.rows(
        "SELECT unit_id, session_id, group_name FROM unit "
        "WHERE unit_id IN (SELECT unit_a FROM pin UNION SELECT unit_b FROM pin)"
    )
    return {unit: (session, group) for unit, session, group in rows}


@dataclass
class _Claim:
    """Identities of a link set while pins are applied: unit -> label and label -> units, and both kinds of pins."""

    label_of: dict
    session_of: dict
    apart: defaultdict = field(default_factory=lambda: defaultdict(set))
    together: dict = field(default_factory=dict)
    closed: set = field(default_factory=set)

    def __post_init__(self):
        self.members = defaultdict(set)
        for unit, label in self.label_of.items():
            self.members[label].add(unit)
        self._last = max((int(x) for x in self.members if x.isdecimal() and len(x) <= _LARGEST), default=0)
        self.changed = {}

    def fits(self, units: Iterable[int]) -> bool:
        """Tell whether units can be one cell: one per session, and no pin between them."""
        units = set(units)
        sessions = {self.session_of[unit] for unit in units}
        return len(sessions) == len(units) and not any(self.apart[unit] & units for unit in units)

    def bundle(self, unit: int) -> frozenset:
        """Units that are pinned to be one cell with a unit, itself included."""
        return self.together.get(unit, frozenset((unit,)))

    def bind(self, pin: Pin) -> None:
        """Note that two units are one cell, unless newer pins leave no room for that."""
        if pin.b in self.bundle(pin.a):
            return
        union = self.bundle(pin.a) | self.bundle(pin.b)
        if self.fits(union) and (pin.kind == "lock" or not union & self.closed):
            self.together.update(dict.fromkeys(union, union))

    def move(self, units: Iterable[int], label: str | None) -> None:
        """Give units a label; None: they are not followed."""
        for unit in units:
            self.members[self.label_of.pop(unit, None)].discard(unit)
            self.changed[unit] = label
            if label is not None:
                self.label_of[unit] = label
                self.members[label].add(unit)

    def split_off(self, units: set[int]) -> None:
        """Make units that were others' partners an identity of their own; of one alone nothing is claimed."""
        self.move(list(units), None if len(units) < 2 else self._fresh())

    def _fresh(self):
        self._last += 1
        return str(self._last)

    def separate(self, label: str, doubt: dict[int, float]) -> None:
        """Take out of an identity what is pinned apart: the unit with most such pins first, then the least sure."""
        while True:
            units = self.members[label]
            clashes = {unit: len(self.apart[unit] & units) for unit in units if self.apart[unit] & units}
            if not clashes:
                return
            leaving = max(clashes, key=lambda unit: (clashes[unit], doubt.get(unit, 0.0), unit))
            self.split_off(set(self.bundle(leaving)) & units)

    def unite(self, bundle: frozenset) -> None:
        """Make units that are pinned together one identity; what cannot belong to it leaves."""
        labels = Counter(self.label_of[unit] for unit in bundle if unit in self.label_of)
        target = max(labels, key=lambda label: (labels[label], label)) if labels else self._fresh()
        closed = bool(bundle & self.closed)
        whole = set(bundle).union(*(self.members[label] for label in labels))
        if not closed and self.fits(whole):  # whoever says that two are one cell says so of their partners too
            self.move([unit for unit in sorted(whole) if self.label_of.get(unit) != target], target)
            return
        strangers = {
            unit for unit in self.members[target] - bundle if closed or not self.fits(bundle | self.bundle(unit))
        }
        strangers = set().union(*(self.bundle(unit) for unit in strangers)) & self.members[target]
        if strangers:
            self.split_off(strangers)
        self.move([unit for unit in sorted(bundle) if self.label_of.get(unit) != target], target)


def hold(
    database: Database, rows: pd.DataFrame, covered: set[tuple[int, str]]
) -> tuple[pd.DataFrame, list[Pin], list[Pin]]:
    """Change a claim so that it keeps to the pins.

    Parameters
    ----------
    database : Database
    rows : pandas.DataFrame
        Followed units: `unit`, `session` (rows of the store), `identity` (label), `global_id`, `probability`.
    covered : set of (int, str)
        Row of the session and group of all units that the claim is about.

    Returns
    -------
    rows : pandas.DataFrame
        The same with the pins' identities.
    overruled : list of Pin
        Those that the claim contradicted and which hold now.
    broken : list of Pin
        Those that do not hold, since other decisions or "one unit per session" are against them.
    """
    place = _places(database)
    pins = [pin for pin in read_pins(database) if {place[pin.a], place[pin.b]} <= covered]
    if not pins:
        return rows, [], []
    units, labels = rows["unit"].tolist(), rows["identity"].tolist()
    session_of = dict(zip(units, rows["session"].tolist(), strict=True)) | {u: s for u, (s, _) in place.items()}
    claim = _Claim(dict(zip(units, labels, strict=True)), session_of)
    ids = rows.dropna(subset="global_id").drop_duplicates("identity").set_index("identity")["global_id"]
    for pin in pins:
        if pin.kind == "unlink":
            claim.apart[pin.a].add(pin.b)
            claim.apart[pin.b].add(pin.a)
    for pin in pins:
        if pin.kind == "lock":
            claim.bind(pin)
    claim.closed = {unit for pin in pins if pin.kind == "lock" for unit in (pin.a, pin.b)}
    for pin in pins:
        if pin.kind == "link":
            claim.bind(pin)
    against = [pin for pin in pins if _is_broken(pin, claim)]
    probability = pd.to_numeric(rows["probability"]).fillna(1.0)
    doubt = dict(zip(units, (1 - probability).tolist(), strict=True))
    for label in sorted({claim.label_of[unit] for unit in claim.apart if unit in claim.label_of}):
        claim.separate(label, doubt)
    for bundle in dict.fromkeys([*claim.together.values(), *(claim.bundle(unit) for unit in claim.closed)]):
        claim.unite(bundle)
    broken = [pin for pin in pins if _is_broken(pin, claim)]
    changed = claim.changed
    kept = rows[~rows["unit"].isin(changed)]
    moved = [
        (unit, claim.session_of[unit], label, ids.get(label), np.nan)
        for unit, label in sorted(changed.items())
        if label is not None
    ]
    moved = pd.DataFrame(moved, columns=["unit", "session", "identity", "global_id", "probability"])
    rows = pd.concat([part.astype(object) for part in (kept, moved)], ignore_index=True)
    return rows, [pin for pin in against if pin not in broken], broken


def _is_broken(pin, claim):
    a, b = (claim.label_of.get(unit) for unit in (pin.a, pin.b))
    if pin.kind == "unlink":
        return a is not None and a == b
    return a is None or a != b or (pin.kind == "lock" and claim.members[a] != claim.bundle(pin.a))


def contradictions(database: Database) -> list[str]:
    """One sentence for each pin that a link set of today contradicts."""
    pins = read_pins(database)
    if not pins:
        return []
    pinned = {unit for pin in pins for unit in (pin.a, pin.b)}
    place, found = _places(database), []
    for row, name in database.rows("SELECT link_set_id, name FROM link_set WHERE replaced_by IS NULL"):
        members = database.members(row)
        here = np.isin(members.unit, list(pinned))
        owner = dict(zip(members.unit[here].tolist(), members.identity[here].tolist(), strict=True))
        covered = set(
            database.rows(
                "SELECT DISTINCT m.session_id, group_name FROM member_unit m JOIN unit USING (unit_id) "
                "WHERE link_set_id = ?",
                row,
            )
        )
        for pin in pins:
            a, b = owner.get(pin.a), owner.get(pin.b)
            joined = a is not None and a == b
            concerns = {place[pin.a], place[pin.b]} <= covered
            if joined if pin.kind == "unlink" else concerns and not joined:
                keys = " and ".join(str(unit_key(database, unit)) for unit in (pin.a, pin.b))
                found.append(f"link set {name!r} {'links' if joined else 'separates'} {keys}, pinned as {pin.kind}")
        found += _unlocked(database, name, pins, members, owner)
    return found


def _unlocked(database, name, pins, members, owner):
    """Sentences about identities with a member more than when they were locked."""
    found = []
    locked = {unit for pin in pins if pin.kind == "lock" for unit in (pin.a, pin.b)}
    for identity in sorted({owner[unit] for unit in locked if unit in owner}):
        more = [unit for unit in members.unit[members.identity == identity].tolist() if unit not in locked]
        if more:
            found.append(f"link set {name!r} adds {unit_key(database, more[0])} to a cell that is locked")
    return found
