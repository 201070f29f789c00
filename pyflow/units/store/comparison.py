"""Two link sets against each other: which links they share, and which identity became which.

A link is a pair of units said to be one cell. Links are counted from the overlaps of identities, for a cell in 200
sessions alone has 19900 of them; they are only listed where someone asks for the list.
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

_WORD = 52  # sessions in one number: as many bits as a float64 adds without rounding


class Members(NamedTuple):
    """Members of a link set, by unit: ids of the unit, its session and the multi-session unit it belongs to."""

    unit: np.ndarray
    session: np.ndarray
    identity: np.ndarray


class Overlap(NamedTuple):
    """Pairs of an old and a new identity with members in common, by old, and how many they share."""

    old: np.ndarray
    new: np.ndarray
    shared: np.ndarray


def overlap(old: Members, new: Members) -> Overlap:
    """`Overlap` of two link sets."""
    new_identity = _by_unit(new, old)[old.unit]
    code = (old.identity.astype(np.int64) << 32 | new_identity)[new_identity > 0]
    code, shared = np.unique(code, return_counts=True)
    return Overlap(code >> 32, code & 0xFFFFFFFF, shared)


def mutual_best(overlaps: Overlap) -> Overlap:
    """Those pairs of an `Overlap` in which both share more members with each other than with any other."""
    order = np.lexsort((overlaps.new, overlaps.old, -overlaps.shared))
    best = np.ones(len(order), dtype=bool)
    for side in (overlaps.old, overlaps.new):
        first = np.zeros(len(order), dtype=bool)
        first[order[np.unique(side[order], return_index=True)[1]]] = True
        best &= first
    return Overlap(*(values[best] for values in overlaps))


class Comparison:
    """Links of link set b against those of a.

    The tables are made when they are first asked for, while the store is open.

    Attributes
    ----------
    counts : dict of str to int
        Numbers of `shared`, `added`, `lost` and `conflicting` links. Those of a are the shared and the lost ones,
        those of b the shared and the added ones; conflicting ones say why a link was lost and another added.
    """

    def __init__(self, a: Members, b: Members, keys: Callable[[np.ndarray], pd.DataFrame]) -> None:
        self._a, self._b, self._keys = _renumbered(a), _renumbered(b), keys
        self._size_a, self._size_b = (np.bincount(m.identity, minlength=1) for m in (self._a, self._b))
        self._overlaps = overlap(self._a, self._b)
        shared = _pairs(self._overlaps.shared)
        self.counts = {
            "shared": shared,
            "added": _pairs(self._size_b) - shared,
            "lost": _pairs(self._size_a) - shared,
            "conflicting": self._count_conflicts(),
        }

    def _count_conflicts(self):
        """Sum over overlapping identities: members in both, times the sessions in which both have another one."""
        old, new, shared = (values[self._contested] for values in self._overlaps)
        common = np.zeros(len(old), dtype=np.int64)
        last = max(int(m.session.max(initial=0)) for m in (self._a, self._b))
        for first in range(0, last + 1, _WORD):
            of_a, of_b = (_present(m, first, len(n)) for m, n in ((self._a, self._size_a), (self._b, self._size_b)))
            common += _ones(of_a[old] & of_b[new])
        return int((shared * (common - shared)).sum())

    @cached_property
    def _contested(self):
        """Pairs of overlapping identities in which both have more members than they share."""
        more_a = self._size_a[self._overlaps.old] > self._overlaps.shared
        return np.flatnonzero(more_a & (self._size_b[self._overlaps.new] > self._overlaps.shared))

    @cached_property
    def _strangers(self):
        """Members of each pair of overlapping identities that are not in both.

        Number of sessions that places count, then for a and for b: their places (pair, session) and units.
        """
        pairs = self._overlaps
        n_sessions = 1 + max(int(m.session.max(initial=0)) for m in (self._a, self._b))
        sides = []
        for mine, other, size, own, others in (
            (self._a, self._b, self._size_a, pairs.old, pairs.new),
            (self._b, self._a, self._size_b, pairs.new, pairs.old),
        ):
            position, row = _members_of(mine.identity, size, own[self._contested])
            unit = mine.unit[row]
            stranger = _by_unit(other, mine)[unit] != others[self._contested][position]
            place = self._contested[position[stranger]] * n_sessions + mine.session[row[stranger]]
            sides.append((place, unit[stranger]))
        return n_sessions, *sides

    @cached_property
    def shared(self) -> pd.DataFrame:
        """Links in both: session, group, unit and partner_session, partner_group, partner_unit."""
        return self._links(self._a, self._b, np.ones_like(self._size_a, dtype=bool), shared=True)

    @cached_property
    def added(self) -> pd.DataFrame:
        """Links only in b, columns as of `shared`."""
        return self._links(self._b, self._a, self._changed(self._overlaps.new, self._size_b), shared=False)

    @cached_property
    def lost(self) -> pd.DataFrame:
        """Links only in a, columns as of `shared`."""
        return self._links(self._a, self._b, self._changed(self._overlaps.old, self._size_a), shared=False)

    @cached_property
    def conflicting(self) -> pd.DataFrame:
        """Units that have another partner in the same session.

        Columns: session, group, unit, partner_session, group_in_a, unit_in_a, group_in_b, unit_in_b.
        """
        n_sessions, (places_a, units_a), (places_b, units_b) = self._strangers
        places, in_a, in_b = np.intersect1d(places_a, places_b, assume_unique=True, return_indices=True)
        pair = places // n_sessions
        clash, row = _members_of(self._a.identity, self._size_a, self._overlaps.old[pair])
        unit = self._a.unit[row]
        in_both = _by_unit(self._b, self._a)[unit] == self._overlaps.new[pair][clash]
        clash, unit = clash[in_both], unit[in_both]
        names = [self._keys(ids) for ids in (unit, units_a[in_a[clash]], units_b[in_b[clash]])]
        names[1].columns = ["partner_session", "group_in_a", "unit_in_a"]
        names[2].columns = ["session_in_b", "group_in_b", "unit_in_b"]
        return pd.concat(names, axis=1).drop(columns="session_in_b")

    def _changed(self, identities, size):
        """Which identities are not whole in the other link set, by id."""
        whole = np.zeros(len(size), dtype=bool)
        whole[identities[self._overlaps.shared == size[identities]]] = True
        return ~whole

    def _links(self, mine, other, which, *, shared):
        elsewhere = _by_unit(other, mine)
        u, v = _links(mine, which)
        same = (elsewhere[u] == elsewhere[v]) & (elsewhere[u] > 0)
        u, v = (ids[same == shared] for ids in (u, v))
        partner = self._keys(v).add_prefix("partner_")
        return pd.concat([self._keys(u), partner], axis=1)


def _renumbered(members):
    """The same with identities from 1: ids grow with every import, arrays indexed by them need not."""
    return members._replace(identity=members.identity - members.identity.min(initial=2**31 - 1) + 1)


def _pairs(n):
    n = n.astype(np.int64)
    return int((n * (n - 1) // 2).sum())


def _by_unit(members, other):
    """Identity of each unit, 0 where it has none, indexed by unit id up to the largest of both."""
    identity = np.zeros(1 + max(m.unit.max(initial=0) for m in (members, other)), dtype=np.int64)
    identity[members.unit] = members.identity
    return identity


def _present(members, first, n):
    """Sessions of each identity, one bit for each of `_WORD` from the first."""
    here = (members.session >= first) & (members.session < first + _WORD)
    bit = np.ldexp(1.0, members.session[here] - first)
    return np.bincount(members.identity[here], bit, minlength=n).astype(np.uint64)


def _unpacked_ones(words):
    return np.unpackbits(words[:, None].view(np.uint8), axis=1).sum(axis=1)


_ones = getattr(np, "bitwise_count", _unpacked_ones)  # numpy has it since 2.0


def _members_of(identity, size, wanted):
    """All members of the wanted identities: position in `wanted`, row of the member."""
    order = np.sort(identity.astype(np.int64) << 32 | np.arange(len(identity))) & 0xFFFFFFFF  # faster than argsort
    start = np.cumsum(size) - size
    n = size[wanted]
    position = np.repeat(np.arange(len(wanted)), n)
    within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    return position, order[start[wanted][position] + within]


def _links(members, which):
    """Pairs of units in the identities that `which` (by id) marks."""
    rows = np.flatnonzero(which[members.identity])
    rows = rows[np.argsort(members.identity[rows], kind="stable")]
    _, size = np.unique(members.identity[rows], return_counts=True)
    start = np.cumsum(size) - size
    links = [np.empty((2, 0), dtype=np.int64)]
    for n in np.unique(size):
        group = members.unit[rows[start[size == n, None] + np.arange(n)]]
        links.append(np.stack([group[:, i].ravel() for i in np.triu_indices(n, 1)]))
    return np.concatenate(links, axis=1)
