"""The unit store: sessions, their units, and every claim about which units are one cell, in one SQLite file.

`UnitStore` is the front. What its methods do is in the files beside this one, by what is asked: whole tables
(`frames`), names (`lookup`), numbers (`questions`), two link sets (`comparison`), imports (`adding`), edits (`edits`,
`pins`).
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyflow.units.store import adding, edits, frames, lookup, pins, questions, schema
from pyflow.units.store.comparison import Comparison
from pyflow.units.store.database import Database, UnitStoreError
from pyflow.units.store.frames import Gathered, Restriction
from pyflow.units.store.lookup import MultiSessUnit, UnitKey, UnitReference
from pyflow.units.unit_table import UnitTable


class UnitStore:
    """Who is who across sessions, in one file.

    Open it with `UnitStore.open`; it is a context manager that closes the file. Every method that changes something
    is one transaction, all of it or none, with an entry in the history that names `author`.

    A cell (`unit` in `members`, `traces` ...) is given by its short number, its global id, the label that it has
    in its source, or as one of its members: (session, group, unit).
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(
        cls, path: str | Path, *, create: bool = True, author: str | None = None, timeout_s: float = 60.0
    ) -> "UnitStore":
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
        if path.is_dir():
            raise UnitStoreError(f"{path}: a folder, not a unit store")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path}: no folder {path.parent}")
        if not create and not path.stat().st_size:
            raise UnitStoreError(f"{path}: an empty file, not a unit store")
        return cls(Database(path, author, timeout_s))

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    @property
    def author(self) -> str:
        """Who makes the changes."""
        return self._database.author

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __repr__(self) -> str:
        try:
            stats, sets = self.stats(), self.link_sets()["name"].tolist()
        except (UnitStoreError, sqlite3.ProgrammingError):
            return f"<UnitStore {self.path}: closed or damaged>"
        inside = f"{stats['sessions']} sessions, {stats['units']} units"
        if "link_set" in stats:
            others = f" and {len(sets) - 1} more" if len(sets) > 1 else ""
            inside += f"; {stats['multi_sess_units']} cells in link set {stats['link_set']!r}{others}"
        return f"<UnitStore {self.path}: {inside}>"

    def __enter__(self) -> "UnitStore":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # What is there

    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables.

        Returns
        -------
        dict of str to pandas.DataFrame
            `session`, `unit`, `link_set`, `multi_sess_unit`, `member_unit`, `score`, `pin`, `id_map`, `history`.
            Attributes of sessions and units are columns.
        """
        return frames.tables(self._database)

    def sessions(self, where: Restriction | None = None) -> pd.DataFrame:
        """Sessions by start time: name, start_time, source, kind, n_units, then their attributes.

        Parameters
        ----------
        where : dict, optional
            Only rows with these values: column -> value, or list of values.
        """
        return frames.restricted(frames.sessions(self._database), where)

    def units(self, where: Restriction | None = None, *, link_set: str | None = None) -> pd.DataFrame:
        """All units, followed or not.

        Parameters
        ----------
        where : dict, optional
            Only rows with these values: column -> value, or list of values.
        link_set : str, optional
            The current one by default.

        Returns
        -------
        pandas.DataFrame
            `session`, `group`, `unit`, `original_index`, `number` of the cell (missing: not followed), and the units'
            attributes.

        Raises
        ------
        UnitStoreError
            No such link set.
        ValueError
            No such column.
        """
        return frames.restricted(frames.units(self._database, link_set), where)

    def link_sets(self) -> pd.DataFrame:
        """Link sets: their origin, how many cells and members they have, which is current, which were replaced."""
        return self._database.frame(schema.VIEWS["link_set"])

    def history(self) -> pd.DataFrame:
        """Who changed what, when; `undone_by` names the change that took it back."""
        return self._database.frame(schema.VIEWS["history"])

    def pins(self) -> pd.DataFrame:
        """What people decided: kind (link, unlink, lock), both units (session_a, group_a ...), time, author."""
        frame = self._database.frame(schema.VIEWS["pin"])
        return pd.concat([frame, *questions.both_units(self._database, frame)], axis=1)

    def current(self) -> str | None:
        """Name of the current link set, None in a store without one."""
        return lookup.current(self._database)

    def members(
        self,
        unit: UnitReference | None = None,
        *,
        sessions: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        where: Restriction | None = None,
        link_set: str | None = None,
    ) -> pd.DataFrame:
        """Units that a cell consists of.

        Parameters
        ----------
        unit : int, str, MultiSessUnit or (session, group, unit), optional
            The cell; by default the members of all.
        sessions, groups : sequence of str, optional
            Only members in these.
        where : dict, optional
            Only rows with these values: column -> value, or list of values.
        link_set : str, optional
            The current one by default.

        Returns
        -------
        pandas.DataFrame
            `number`, `global_id`, `label` of the cell; `session`, `start_time`, `source`, `kind` of the
            member's session (`source` of its group, where that has one of its own); `group`, `unit` (its id, text),
            `original_index` (0-based, over all that was detected), `probability`, `unit_id`; by number, then the
            session's time.

        Raises
        ------
        UnitStoreError
            No such link set, cell, session or group.
        ValueError
            No such column.
        """
        link_set_id = self._link_set(link_set)
        wanted = {"session": sessions, "group": groups}
        wanted = {column: names for column, names in wanted.items() if names is not None}
        for column, names in wanted.items():
            wanted[column] = lookup.known_names(self._database, column, names)
        if unit is None:
            frame = frames.members(self._database, link_set_id)
        else:
            row = lookup.multi_sess_unit_id(self._database, unit, link_set_id)
            frame = self._database.frame(schema.MEMBERS, row)
            frame = frame.astype({"original_index": "Int64", "probability": "float64"})
        return frames.restricted(frame, wanted | dict(where or {}))

    def multi_sess_unit(self, unit: UnitReference, *, link_set: str | None = None) -> MultiSessUnit:
        """Cell of a link set by its number, its global id, its label or one of its members.

        Raises
        ------
        UnitStoreError
            No such link set, or it has no such cell.
        """
        row = lookup.multi_sess_unit_id(self._database, unit, self._link_set(link_set))
        return lookup.multi_sess_unit(self._database, row)

    def find(self, session: str, unit: str, group: str = "", *, link_set: str | None = None) -> MultiSessUnit | None:
        """Which cell a session's unit belongs to.

        Returns
        -------
        MultiSessUnit or None
            None where the unit is not followed.

        Raises
        ------
        UnitStoreError
            No such session or unit.
        """
        link_set_id = self._link_set(link_set)
        row = lookup.owner(self._database, lookup.unit_id(self._database, (session, group, unit)), link_set_id)
        return None if row is None else lookup.multi_sess_unit(self._database, row)

    def present_in(
        self, at_least: int, *, sessions: Sequence[str] | None = None, link_set: str | None = None
    ) -> np.ndarray:
        """Numbers of the cells that are present in at least so many sessions.

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

        Raises
        ------
        UnitStoreError
            No such link set or session.
        ValueError
            `at_least` is less than 1.
        """
        return questions.present_in(self._database, self._link_set(link_set), at_least, sessions)

    def gather(self, link_set: str | None = None) -> Gathered:
        """All units and the cells they are in a link set, by default the current one.

        Returns
        -------
        Gathered

        Raises
        ------
        UnitStoreError
            No such link set.
        """
        return frames.gather(self._database, link_set)

    def scores(self, unit: UnitReference, *, link_set: str | None = None) -> pd.DataFrame:
        """Scores of the pairs of units in which a member of the cell takes part.

        Returns
        -------
        pandas.DataFrame
            session_a, group_a, unit_a, session_b, group_b, unit_b, name, value.
        """
        link_set_id = self._link_set(link_set)
        row = lookup.multi_sess_unit_id(self._database, unit, link_set_id)
        return questions.scores(self._database, link_set_id, row)

    def stats(self, *, link_set: str | None = None) -> dict[str, Any]:
        """Numbers of sessions and units and, of a link set, of followed units and of cells by sessions.

        Returns
        -------
        dict
            `sessions`, `units`, and in a store with link sets `link_set`, `followed`, `multi_sess_units`,
            `by_sessions` (number of sessions -> number of cells present in so many).
        """
        return questions.stats(self._database, link_set)

    def compare(self, a: str, b: str) -> Comparison:
        """Compare the links (pairs of units said to be one cell) of two link sets.

        Parameters
        ----------
        a, b : str
            Names of the link sets.

        Returns
        -------
        Comparison
            Counts of shared, added, lost and conflicting links, and tables of them.

        Raises
        ------
        UnitStoreError
            No such link set.
        """
        sides = (self._database.members(self._link_set(name)) for name in (a, b))
        return Comparison(*sides, lambda ids: lookup.unit_keys(self._database, ids))

    def id_map(self, old: str, new: str) -> pd.DataFrame:
        """Map from the ids of one link set to those of another.

        Returns
        -------
        pandas.DataFrame
            `old_number`, `old_global_id`, `new_number`, `new_global_id`, `shared` members, `old_size`, `new_size`; one
            row per pair of cells with a member in common, and one per cell without (missing on the other side).
        """
        return questions.id_map(self._database, *(self._link_set(name) for name in (old, new)))

    def set_source(self, session: str, source: str | Path, *, kind: str | None = None) -> None:
        """Say where the results of a session are, for all of its groups.

        Parameters
        ----------
        session : str
            Its name.
        source : path-like
            File or folder; below the store's folder it is kept as seen from there, so that both can be moved.
        kind : str, optional
            "suite2p", "nwb", "phy" ...; left as it is by default.

        Raises
        ------
        UnitStoreError
            No such session.
        FileNotFoundError
            No such file or folder.
        """
        if not Path(source).exists():
            raise FileNotFoundError(f"{source}: no such file or folder")
        row = lookup.session_id(self._database, session)
        with self._database.change("set-source", f"{session} {source}"):
            kept = adding.beside_store(self._database, str(source))
            self._database.run("UPDATE session SET source = ? WHERE session_id = ?", kept, row)
            adding.forget_sources_of_groups(self._database, row)
            if kind is not None:
                self._database.run("UPDATE session SET kind = ? WHERE session_id = ?", kind, row)

    def merge(self, other: "str | Path | UnitStore") -> list[str]:
        """Take over everything that another store knows: sessions, units, link sets with their ids, and pins.

        Where this store has a link set of the same name with other content, the one that comes in is called
        "... (from FILE)". Where pins of the two contradict each other, this store's hold.

        Parameters
        ----------
        other : UnitStore or path-like
            The store that is read.

        Returns
        -------
        list of str
            Names of the link sets that came in.

        Raises
        ------
        UnitStoreError
            A session of the same name started at another time, or the other is this store.
        FileNotFoundError
            No such store.
        """
        from pyflow.units.store import merging

        if isinstance(other, UnitStore):
            return merging.merge(self._database, other._database)
        with UnitStore.open(other, create=False) as opened:
            return merging.merge(self._database, opened._database)

    def check(self) -> list[str]:
        """Look for damage and contradictions.

        Returns
        -------
        list of str
            One sentence per finding; empty: all is well.
        """
        return self.damage() or pins.contradictions(self._database)

    def damage(self) -> list[str]:
        """What is missing or broken in the file; one sentence per finding, empty: nothing."""
        return self._database.damage()

    def _link_set(self, name=None):
        return lookup.link_set_id(self._database, name)

    # Bringing in

    def import_spreadsheet(self, path: str | Path, *, make_current: bool = False, **options: Any) -> str:
        """Import a spreadsheet of followed units; see `pyflow.units.incoming.spreadsheet.read_spreadsheet`.

        Returns
        -------
        str
            Name of the link set.

        Raises
        ------
        FileNotFoundError
            No such file.
        TableError
            The sheet contradicts itself or cannot be read; the store is unchanged.
        """
        from pyflow.units.incoming.spreadsheet import read_spreadsheet

        return self.import_table(read_spreadsheet(path, **options), make_current=make_current)

    def import_table(self, table: UnitTable, *, make_current: bool = False, other_groups: str = "refuse") -> str:
        """Add sessions, units and a link set, all or nothing.

        Sessions and units that the store has are reused (a unit is found by session, group and id) and their attributes
        updated. A link set of the same name is replaced, unless it says the same already: the cells of the new one
        take over the ids of those with which they share most members (both ways), ``tables()["id_map"]`` keeps the map
        from old to new, and the old one stays under the name "... (replaced 1)".

        Parameters
        ----------
        table : UnitTable
            What a reader read.
        make_current : bool
            Make its link set the current one. The first always is, and one that replaces the current one.
        other_groups : {"refuse", "append", "replace"}
            What to do where the link set of that name holds groups (tetrodes, probes, planes) that the table lacks:
            refuse, keep what it says of those, or drop it.

        Returns
        -------
        str
            Name of the link set; empty for a table without identities.

        Raises
        ------
        UnitStoreError
            The link set holds other groups and `other_groups` is ``"refuse"``.
        TableError
            An appended identity has another unit in a session already.
        StoreLockedError
            Another process kept the store locked.
        """
        adding.add_table(self._database, table, make_current=make_current, other_groups=other_groups)
        return table.name

    # Changing

    def use(self, link_set: str) -> None:
        """Make a link set the current one.

        Raises
        ------
        UnitStoreError
            No such link set.
        """
        with self._database.change("use", link_set) as change_id:
            adding.set_current(self._database, self._link_set(link_set), change_id)

    def remove(self, link_set: str) -> None:
        """Delete a link set, but no sessions, units or pins.

        If it was the current one, the newest of the others becomes current.

        Raises
        ------
        UnitStoreError
            No such link set.
        """
        with self._database.change("remove", link_set) as change_id:
            self._database.run("DELETE FROM link_set WHERE link_set_id = ?", self._link_set(link_set))
            newest = self._database.value("SELECT max(link_set_id) FROM link_set")
            if self.current() is None and newest is not None:
                adding.set_current(self._database, newest, change_id)

    def link(self, a: tuple[str, str, str], b: tuple[str, str, str], *, link_set: str | None = None) -> MultiSessUnit:
        """Say that two units are one cell: join what they belong to and pin the link.

        Parameters
        ----------
        a, b : (session, group, unit)
            The units.
        link_set : str, optional
            The current one by default.

        Returns
        -------
        MultiSessUnit
            What both belong to now; the older cell keeps its ids.

        Raises
        ------
        UnitStoreError
            Unknown unit; a locked one; two members in one session; a pin that keeps two of them apart.
        """
        with self._database.change("link", f"{UnitKey(*a)} = {UnitKey(*b)}") as change_id:
            units = [lookup.unit_id(self._database, key) for key in (a, b)]
            row = edits.link(self._database, *units, self._link_set(link_set), change_id)
            return lookup.multi_sess_unit(self._database, row)

    def unlink(
        self, unit: tuple[str, str, str], other: tuple[str, str, str] | None = None, *, link_set: str | None = None
    ) -> None:
        """Say that a unit is not the same cell: take it out of its cell and pin that.

        Parameters
        ----------
        unit : (session, group, unit)
            The unit that leaves; it belongs to no cell afterwards.
        other : (session, group, unit), optional
            The unit it must be kept apart from; by default every unit it is linked with now.
        link_set : str, optional
            The current one by default.

        Raises
        ------
        UnitStoreError
            Unknown unit, a locked one, or nothing to unlink it from.
        """
        what = f"{UnitKey(*unit)} from {UnitKey(*other) if other else 'all'}"
        with self._database.change("unlink", what) as change_id:
            units = [key and lookup.unit_id(self._database, key) for key in (unit, other)]
            edits.unlink(self._database, *units, self._link_set(link_set), change_id)

    def lock(self, unit: UnitReference, *, link_set: str | None = None) -> None:
        """Pin a cell as it is: exactly these members, until it is unlocked.

        Raises
        ------
        UnitStoreError
            No such cell, or a member is locked already.
        """
        cell = self.multi_sess_unit(unit, link_set=link_set)
        with self._database.change("lock", f"cell {cell.number}") as change_id:
            edits.lock(self._database, self._row_of(cell), change_id)

    def unlock(self, unit: UnitReference, *, link_set: str | None = None) -> None:
        """Take the lock off a cell.

        Raises
        ------
        UnitStoreError
            No such cell, or it is not locked.
        """
        cell = self.multi_sess_unit(unit, link_set=link_set)
        with self._database.change("unlock", f"cell {cell.number}"):
            edits.unlock(self._database, self._row_of(cell))

    def _row_of(self, cell):
        return lookup.multi_sess_unit_id(self._database, cell, self._link_set(cell.link_set))

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
        return self._database.undo()

    # Data and files

    def traces(
        self,
        unit: UnitReference,
        *,
        kind: str = "dff",
        missing: str = "raise",
        as_: str | None = None,
        link_set: str | None = None,
    ) -> dict[str, Any] | pd.DataFrame | Any:
        """Traces of a cell in every session.

        Parameters
        ----------
        unit : int, str, MultiSessUnit or (session, group, unit)
            As of `members`.
        kind, missing, as_
            As of `pyflow.units.across.sessions.Sessions.traces`.
        link_set : str, optional
            The current one by default.

        Returns
        -------
        dict of str to Trace, xarray.DataArray or pandas.DataFrame
            See `pyflow.units.across.sessions.Sessions.traces`.

        Raises
        ------
        UnitStoreError
            No such link set or cell.
        ValueError
            Some session lacks the cell and `missing` is ``"raise"``.
        SourceError
            A session names no source, or its source cannot be read.
        """
        sessions, number = self._sessions_of(unit, link_set)
        return sessions.traces(number, kind=kind, missing=missing, as_=as_)

    def masks(
        self, unit: UnitReference, *, missing: str = "raise", as_: str | None = None, link_set: str | None = None
    ) -> dict[str, np.ndarray] | pd.DataFrame | Any:
        """Masks of a cell in every session; see `pyflow.units.across.sessions.Sessions.masks`."""
        sessions, number = self._sessions_of(unit, link_set)
        return sessions.masks(number, missing=missing, as_=as_)

    def movie_responses(
        self,
        unit: UnitReference,
        movie: str,
        *,
        kind: str = "dff",
        missing: str = "raise",
        as_: str | None = None,
        link_set: str | None = None,
    ) -> dict[str, np.ndarray] | pd.DataFrame | Any:
        """Traces of a cell while a movie was shown; see `pyflow.units.across.sessions.Sessions.movie_responses`."""
        sessions, number = self._sessions_of(unit, link_set)
        return sessions.movie_responses(number, movie, kind=kind, missing=missing, as_=as_)

    def spikes(self, unit: UnitReference, *, missing: str = "raise", link_set: str | None = None) -> dict[str, Any]:
        """Spikes, waveform and depth of a cell in every session.

        Parameters
        ----------
        unit : int, str, MultiSessUnit or (session, group, unit)
            As of `members`.
        missing : {"raise", "none"}
            What to do where the cell is absent: refuse, or give None.
        link_set : str, optional
            The current one by default.

        Returns
        -------
        dict of str to SpikeTrain or None
            By session; see `pyflow.units.across.spikes.SpikeTrain`.

        Raises
        ------
        UnitStoreError
            No such link set or cell.
        ValueError
            Some session lacks the cell and `missing` is ``"raise"``.
        SourceError
            A session names no source, or that holds no sorted units.
        """
        from pyflow.units.across.spikes import spike_trains

        members = self.members(unit, link_set=link_set)
        return spike_trains(self.sessions(), members, self.path.parent, missing)

    def spike_times(
        self, unit: UnitReference, *, missing: str = "raise", link_set: str | None = None
    ) -> dict[str, np.ndarray | None]:
        """Times of a cell's spikes in every session, seconds from its start; arguments and errors as of `spikes`."""
        trains = self.spikes(unit, missing=missing, link_set=link_set)
        return {session: train and train.times_s for session, train in trains.items()}

    def _sessions_of(self, unit, link_set):
        """Sessions that hold nothing but one cell, and the number of that cell."""
        from pyflow.units.across.sessions import Sessions, followed_experiments

        members = self.members(unit, link_set=link_set)
        experiments = followed_experiments(self.sessions(), members, self.path.parent)
        return Sessions(experiments), int(members["number"].iloc[0])

    def export(self, path: str | Path, *, link_set: str | None = None) -> Path:
        """Write all units and who is who in a link set.

        Parameters
        ----------
        path : path-like
            ``.xlsx``, ``.csv``, ``.tsv``: the lab's spreadsheet, which `read_spreadsheet` reads again. ``.npz``,
            ``.mat``: what `pyflow.units.outgoing.arrays.arrays` returns; in .mat indices start at 1 and an absent one
            is 0, and text that is not ASCII is written in Python's escapes.
        link_set : str, optional
            The current one by default.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        UnitStoreError
            No such link set.
        ValueError
            Another suffix, or text that a workbook cannot hold.
        """
        from pyflow.units.outgoing.export import export

        return export(self.gather(link_set), path)
