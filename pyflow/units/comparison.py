"""Two link sets against each other: which links they share, and which id became which."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Comparison:
    """Links (pairs of units said to be one cell) of link set b against those of a.

    Attributes
    ----------
    shared : int
        Number of links in both.
    added, lost : pandas.DataFrame
        Links only in b, only in a: columns `unit`, `partner` as ``session/group/unit``.
    conflicting : pandas.DataFrame
        Units whose partner in another session differs: columns `unit`, `in_a`, `in_b`.
    """

    shared: int
    added: pd.DataFrame
    lost: pd.DataFrame
    conflicting: pd.DataFrame

    @property
    def counts(self):
        """Number of shared, added, lost and conflicting links."""
        tables = {"added": self.added, "lost": self.lost, "conflicting": self.conflicting}
        return {"shared": self.shared} | {name: len(table) for name, table in tables.items()}


def shared_members(old, new):
    """Old-to-new id map of two member tables; see `UnitStore.id_map`."""
    key = ["number", "global_id"]
    both = old.merge(new, on="unit_id", suffixes=("_old", "_new"))
    columns = ["number_old", "global_id_old", "number_new", "global_id_new"]
    pairs = both.groupby(columns, as_index=False).size().rename(columns={"size": "shared"})
    for side, members in (("old", old), ("new", new)):
        sizes = members.groupby(key, as_index=False).size()
        sizes.columns = [f"number_{side}", f"global_id_{side}", f"{side}_size"]
        pairs = pairs.merge(sizes, how="outer", on=[f"number_{side}", f"global_id_{side}"])
    pairs = pairs.fillna({"shared": 0, "old_size": 0, "new_size": 0})
    pairs = pairs.astype({c: "Int64" for c in ("number_old", "number_new", "shared", "old_size", "new_size")})
    pairs = pairs.rename(columns={f"{k}_{side}": f"{side}_{k}" for k in key for side in ("old", "new")})
    order = ["old_number", "old_global_id", "new_number", "new_global_id", "shared", "old_size", "new_size"]
    return pairs[order].sort_values(["old_number", "new_number"]).reset_index(drop=True)


def mutual_best(pairs):
    """Rows of an id map in which both sides share more members with each other than with anything else."""
    pairs = pairs[pairs["shared"] > 0].sort_values(["shared", "old_number"], ascending=[False, True])
    return pairs[~pairs.duplicated("old_global_id") & ~pairs.duplicated("new_global_id")]


def compare_members(a, b, keys):
    """`Comparison` of two member tables (`unit_id`, `session_id`, `number`); `keys` names a list of units."""
    a, b, unchanged = _changed(a, b)
    session = pd.concat([a, b]).drop_duplicates("unit_id").set_index("unit_id")["session_id"]
    links_a, links_b = _links(a), _links(b)
    common = np.intersect1d(links_a, links_b)
    only_a, only_b = np.setdiff1d(links_a, common), np.setdiff1d(links_b, common)
    towards_a, towards_b = _towards(only_a, session), _towards(only_b, session)
    conflicts = towards_a.merge(towards_b, on=["unit", "session"], suffixes=("_a", "_b"))
    names = keys(np.unique(_unpack(np.concatenate([only_a, only_b]))))

    def named(frame, columns):
        text = {new: [str(names[unit]) for unit in frame[old]] for old, new in columns.items()}
        return pd.DataFrame(text, columns=list(columns.values()))

    sides = []
    for only, towards in ((only_b, "b"), (only_a, "a")):
        units, partners = _unpack(only).T
        met = np.union1d(_pack(conflicts["unit"].to_numpy(), conflicts[f"partner_{towards}"].to_numpy()), [])
        free = ~np.isin(only, met)
        frame = pd.DataFrame({"unit": units[free], "partner": partners[free]})
        sides.append(named(frame, {"unit": "unit", "partner": "partner"}))
    conflicting = named(conflicts, {"unit": "unit", "partner_a": "in_a", "partner_b": "in_b"})
    return Comparison(unchanged + len(common), *sides, conflicting)


def _changed(a, b):
    """Members of the units that are not the same in both, and the number of links of those that are."""
    pairs = shared_members(*(m.assign(global_id="") for m in (a, b)))
    same = pairs[(pairs["shared"] == pairs["old_size"]) & (pairs["shared"] == pairs["new_size"])]
    size = same["shared"].to_numpy(np.int64)
    a = a[~a["number"].isin(same["old_number"])]
    b = b[~b["number"].isin(same["new_number"])]
    return a, b, int((size * (size - 1) // 2).sum())


def _pack(u, v):
    return (np.minimum(u, v).astype(np.int64) << 32) | np.maximum(u, v).astype(np.int64)


def _unpack(links):
    return np.stack([links >> 32, links & 0xFFFFFFFF], axis=1)


def _links(members):
    """All pairs of units with the same number, packed as one int64 each, sorted."""
    members = members.sort_values("number")
    units, size = members["unit_id"].to_numpy(np.int64), members.groupby("number").size().to_numpy()
    start = np.cumsum(size) - size
    links = [np.empty(0, np.int64)]
    for n in np.unique(size):
        group = units[start[size == n, None] + np.arange(n)]
        i, j = np.triu_indices(n, 1)
        links.append(_pack(group[:, i], group[:, j]).ravel())
    return np.sort(np.concatenate(links))


def _towards(links, session):
    """Each link seen from both ends: unit, session of its partner, partner."""
    u, v = _unpack(links).T
    unit, partner = np.concatenate([u, v]), np.concatenate([v, u])
    return pd.DataFrame({"unit": unit, "session": session.reindex(partner).to_numpy(), "partner": partner})
