"""Every unit's data in every session, with AllenSDK's names, on local files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pyflow.units.across import listing
from pyflow.units.across.dataset import DataSet, typed_as_text
from pyflow.units.sources import Source, SourceError, open_source
from pyflow.units.sources.stimuli import stimuli_of
from pyflow.units.store.schema import SOURCE_OF

_NO_SOURCE = "session {!r} has no source in the unit store"

# AllenSDK's name in the list of experiments: its name in the metadata.
_LISTED = {
    "imaging_depth": "imaging_depth_um",
    "targeted_structure": "targeted_structure",
    "cre_line": "cre_line",
    "reporter_line": "reporter_line",
    "acquisition_age_days": "age_days",
    "experiment_container_id": "experiment_container_id",
    "session_type": "session_type",
    "donor_name": "donor_name",
    "specimen_name": "specimen_name",
    "fail_eye_tracking": "fail_eye_tracking",
}


@dataclass
class Experiment:
    """One imaging plane of one session, opened when it is used.

    Attributes
    ----------
    id : int or str
        Unique among all experiments.
    session : str
    path : Path or None
        The source; None where a store names none.
    group : str
        Its plane.
    members : pandas.DataFrame, optional
        The units that a store follows; without them all ROIs are cells.
    attributes : dict
        Of the session in the store.
    """

    id: int | str
    session: str
    path: Path | None
    group: str = ""
    members: pd.DataFrame | None = None
    attributes: dict = field(default_factory=dict)

    @cached_property
    def source(self) -> Source:
        """The `Source`."""
        if self.path is None:
            raise SourceError(_NO_SOURCE.format(self.session))
        if not self.path.exists():
            raise FileNotFoundError(
                f"session {self.session!r}: its source {self.path} does not exist "
                "(relative ones in a unit store start from its folder)"
            )
        return open_source(self.path, self.group)

    @cached_property
    def data(self) -> DataSet:
        """The `DataSet`."""
        if self.members is None:
            return DataSet(str(self.id), self.source)
        numbers, session_type = self.members["number"].to_numpy(), self.attributes.get("session_type")
        return DataSet(self.session, self.source, self._find_rows(), numbers, session_type)

    @property
    def data_if_any(self) -> DataSet | None:
        """The `DataSet`, None without a source."""
        return None if self.path is None else self.data

    def _find_rows(self):
        """Rows of the members in the source: their original indices, else those of the ROIs that have their ids."""
        n, row_of = len(self.source.roi_ids), {}
        if self.members["original_index"].isna().any():
            for ids in (self.source.cell_specimen_ids, self.source.roi_ids):
                if ids is not None:
                    row_of |= {str(name): row for row, name in enumerate(ids.tolist())}
        rows = []
        for unit, index in zip(self.members["unit"], self.members["original_index"], strict=True):
            row = row_of.get(unit, -1) if pd.isna(index) else int(index)
            if not 0 <= row < n:
                why = "whose ids are others" if pd.isna(index) else f"where its original index is {row}"
                raise SourceError(
                    f"session {self.session!r}: no unit {unit!r} among the {n} ROIs of {self.source.path}, {why}"
                )
            rows.append(row)
        return rows

    @cached_property
    def cells(self) -> set[int | str]:
        """Ids of its cells; none where nobody knows them."""
        if self.members is not None:
            return set(self.members["number"].tolist())
        ids = self.source.cell_specimen_ids
        return set() if ids is None else set(ids.tolist()) - {-1}

    @cached_property
    def _found(self):
        return self.source.experiment() if self.path is not None else {}

    @cached_property
    def record(self) -> dict[str, Any]:
        """What AllenSDK lists of an experiment, and the store's attributes of the session."""
        listed = {name: self._found.get(key) for name, key in _LISTED.items()}
        return {"id": self.id} | listed | self.attributes | {"id": self.id}

    @cached_property
    def searched(self) -> dict[str, Any]:
        """`record` and what else can be searched for: genotype, lines, stimuli."""
        session_type = self.record["session_type"]
        return {
            "transgenic_lines": self._found.get("transgenic_lines", []),
            "genotype": self._found.get("genotype"),
            "stimuli": self._found.get("stimuli", stimuli_of(session_type)),
        } | self.record


class Trace(NamedTuple):
    """One unit's samples in one session, with their times."""

    timestamps: np.ndarray
    values: np.ndarray


class Place(NamedTuple):
    """The plane of a session that holds a cell or, where it is absent, would hold it; None without a source."""

    data: DataSet | None
    present: bool


class Sessions:
    """Recording sessions, their cells and their data; made by `pyflow.units.open_sessions`."""

    def __init__(self, experiments: Iterable[Experiment]) -> None:
        self._experiments = {}
        for experiment in experiments:
            if (other := self._experiments.setdefault(experiment.id, experiment)) is not experiment:
                raise ValueError(f"{other.path} and {experiment.path} both call themselves {experiment.id!r}")

    def __len__(self) -> int:
        return len(self._experiments)

    @property
    def names(self) -> list[str]:
        """Names of the sessions."""
        return list(dict.fromkeys(experiment.session for experiment in self._experiments.values()))

    @property
    def presence(self) -> pd.DataFrame:
        """Which cell is in which session: DataFrame of bool, one row per cell, one column per session."""
        cells = sorted(set().union(*(experiment.cells for experiment in self._experiments.values())))
        table = pd.DataFrame(False, index=pd.Index(cells, name="unit"), columns=self.names)
        for experiment in self._experiments.values():
            table.loc[list(experiment.cells), experiment.session] = True
        return table

    def get_ophys_experiments(
        self,
        *,
        ids: Sequence[Any] | None = None,
        experiment_container_ids: Sequence[Any] | None = None,
        targeted_structures: Sequence[Any] | None = None,
        imaging_depths: Sequence[Any] | None = None,
        cre_lines: Sequence[str] | None = None,
        reporter_lines: Sequence[str] | None = None,
        transgenic_lines: Sequence[str] | None = None,
        stimuli: Sequence[str] | None = None,
        session_types: Sequence[Any] | None = None,
        cell_specimen_ids: Sequence[int | str] | None = None,
        include_failed: bool = False,
        require_eye_tracking: bool = False,
    ) -> list[dict[str, Any]]:
        """List experiments (one imaging plane in one session).

        Parameters
        ----------
        ids, experiment_container_ids, targeted_structures, imaging_depths, session_types : list, optional
            Only experiments with one of these.
        cre_lines, reporter_lines, transgenic_lines : list of str, optional
            Only experiments with one of these driver lines, reporter lines, or either; in capitals or not.
        stimuli : list of str, optional
            Only experiments that showed one of these.
        cell_specimen_ids : list, optional
            Only experiments that hold one of these cells.
        include_failed : bool
            For AllenSDK's sake: local files do not say which containers failed, so that they are always included.
        require_eye_tracking : bool
            Only experiments whose file holds eye tracking.

        Returns
        -------
        list of dict
            Those that pass all filters. Keys are AllenSDK's (None: unknown), and the store's attributes of sessions.
        """
        found = listing.chosen(
            (experiment.searched for experiment in self._experiments.values()),
            id=ids,
            experiment_container_id=experiment_container_ids,
            targeted_structure=targeted_structures,
            imaging_depth=imaging_depths,
            cre_line=cre_lines,
            reporter_line=reporter_lines,
            transgenic_lines=transgenic_lines,
            stimuli=stimuli,
            session_type=session_types,
            fail_eye_tracking=[False] if require_eye_tracking else None,
        )
        found = [self._experiments[record["id"]] for record in found]
        if cell_specimen_ids is not None:
            wanted = set(listing.as_list("cell_specimen_ids", cell_specimen_ids))
            found = [experiment for experiment in found if wanted & experiment.cells]
        return [experiment.record for experiment in found]

    def get_experiment_containers(
        self,
        *,
        ids: Sequence[Any] | None = None,
        targeted_structures: Sequence[Any] | None = None,
        imaging_depths: Sequence[Any] | None = None,
        cre_lines: Sequence[str] | None = None,
        reporter_lines: Sequence[str] | None = None,
        transgenic_lines: Sequence[str] | None = None,
        include_failed: bool = False,
    ) -> list[dict[str, Any]]:
        """List containers: experiments on one field of view; arguments and result as of `get_ophys_experiments`.

        `tags` are always empty and `failed` is always False: local files do not say.
        """
        return listing.containers(
            (experiment.searched for experiment in self._experiments.values()),
            id=ids,
            targeted_structure=targeted_structures,
            imaging_depth=imaging_depths,
            cre_line=cre_lines,
            reporter_line=reporter_lines,
            transgenic_lines=transgenic_lines,
        )

    def get_cell_specimens(
        self,
        *,
        ids: Sequence[int | str] | None = None,
        experiment_container_ids: Sequence[Any] | None = None,
        include_failed: bool = False,
        filters: Sequence[dict[str, Any]] | None = None,
    ) -> list[dict[str, Any]]:
        """List cells.

        Parameters
        ----------
        ids, experiment_container_ids : list, optional
            Only these cells; only cells of one of these containers.
        include_failed : bool
            As of `get_ophys_experiments`.
        filters : list of dict, optional
            Only cells that pass all of them: ``{"field": "imaging_depth", "op": "<", "value": 300}``. Fields are the
            keys of the result; `op` is ``=``, ``<``, ``>``, ``<=``, ``>=``, ``is``, ``in`` (a list) or ``between``
            (a list of two).

        Returns
        -------
        list of dict
            `cell_specimen_id`, `experiment_container_id`, `area`, `imaging_depth`, `tld1_name` (driver line),
            `donor_full_genotype`, `specimen_id` (None: local files lack it), `failed_experiment_container` (False),
            `all_stim` (whether it is in all experiments of its container) as AllenSDK names them, and
            `ophys_experiment_ids`, the experiments that hold it. AllenSDK's tuning metrics are not in the files.

        Raises
        ------
        ValueError
            A filter names a field or an operation that does not exist, or a value of another type than its field.
        """
        cells = listing.cell_specimens((one.searched, one.cells) for one in self._experiments.values())
        found = listing.chosen(cells, cell_specimen_id=ids, experiment_container_id=experiment_container_ids)
        filters = listing.as_list("filters", filters or [])
        return [cell for cell in found if all(listing.passes(cell, condition) for condition in filters)]

    def get_all_targeted_structures(self) -> list[str]:
        """Areas of all experiments, sorted."""
        return self._all("targeted_structure")

    def get_all_cre_lines(self) -> list[str]:
        """Driver lines of all experiments, sorted."""
        return self._all("cre_line")

    def get_all_reporter_lines(self) -> list[str]:
        """Reporter lines of all experiments, sorted."""
        return self._all("reporter_line")

    def get_all_imaging_depths(self) -> list[int]:
        """Depths of all experiments, micrometres, sorted."""
        return self._all("imaging_depth")

    def get_all_session_types(self) -> list[str]:
        """Session types of all experiments, sorted."""
        return self._all("session_type")

    def get_all_stimuli(self) -> list[str]:
        """Stimuli of all experiments, sorted."""
        return sorted(set().union(*(experiment.searched["stimuli"] for experiment in self._experiments.values())))

    def _all(self, key):
        return sorted({experiment.record[key] for experiment in self._experiments.values()} - {None})

    def get_ophys_experiment_stimuli(self, experiment_id: int | str) -> list[str]:
        """Names of the stimuli of one experiment, sorted; those of its session type where its file keeps none."""
        return self._experiment(experiment_id).searched["stimuli"]

    def get_ophys_experiment_data(self, ophys_experiment_id: int | str) -> DataSet:
        """Open the data of one experiment.

        Returns
        -------
        DataSet

        Raises
        ------
        KeyError
            There is no such experiment.
        """
        return self._experiment(ophys_experiment_id).data

    def get_ophys_experiment_events(self, ophys_experiment_id: int | str) -> np.ndarray:
        """Magnitudes of the events of an experiment's cells, (N, T): their traces of the kind ``"spikes"``.

        Raises
        ------
        KeyError
            There is no such experiment.
        SourceError
            Its source keeps none. AllenSDK downloads them for Allen files, as
            ``ophys_experiment_events/<id>_events.npz``.
        """
        return self.get_ophys_experiment_data(ophys_experiment_id).get_traces("spikes")[1]

    def get_nwb_filepath(self, ophys_experiment_id: int | str) -> str:
        """Path of an experiment's file or folder.

        Raises
        ------
        KeyError
            There is no such experiment.
        """
        return str(self._experiment(ophys_experiment_id).path)

    def _experiment(self, wanted):
        if wanted not in self._experiments:
            known = "; there are " + (", ".join(map(repr, self._experiments)) or "none")
            raise KeyError(f"no experiment {wanted!r}{typed_as_text(wanted, self._experiments) or known}")
        return self._experiments[wanted]

    def find(self, cell: int | str) -> dict[str, Place]:
        """Where a cell is.

        Parameters
        ----------
        cell : int or str
            Cell specimen id.

        Returns
        -------
        dict of str to Place
            By session.

        Raises
        ------
        ValueError
            No session has the cell.
        """
        holding = {e.session: e for e in self._experiments.values() if cell in e.cells}
        if not holding:
            known = set().union(*(experiment.cells for experiment in self._experiments.values()))
            raise ValueError(
                f"cell specimen {cell!r} is in none of the sessions {', '.join(map(repr, self.names))}"
                f"{typed_as_text(cell, known)}"
            )
        groups = {experiment.group for experiment in holding.values()}
        planes = {}
        for experiment in self._experiments.values():  # where the cell would be: its plane, else the first
            if experiment.group in groups or experiment.session not in planes:
                planes[experiment.session] = experiment
        return {name: Place((planes | holding)[name].data_if_any, name in holding) for name in self.names}

    def _find_data(self, cell, missing):
        """`find`, refusing what `traces` and `masks` do."""
        places = self.find(cell)
        self._refuse_absent(cell, places, missing)
        for name, (data, present) in places.items():
            if present and data is None:
                raise SourceError(_NO_SOURCE.format(name))
        return places

    @staticmethod
    def _refuse_absent(cell, places, missing):
        if missing not in ("raise", "nan"):
            raise ValueError(f"missing is {missing!r}, expected 'raise' or 'nan'")
        absent = [repr(name) for name, place in places.items() if not place.present]
        if absent and missing == "raise":
            raise ValueError(f"cell {cell} is absent in {', '.join(absent)}; missing='nan' fills them")

    def traces(
        self, cell: int | str, *, kind: str = "dff", missing: str = "raise", as_: str | None = None
    ) -> dict[str, Trace] | pd.DataFrame | Any:
        """One cell's traces in all sessions.

        Parameters
        ----------
        cell : int or str
            Cell specimen id.
        kind : str
            Kind of traces; each format says in `Source.trace_kinds` which it has.
        missing : {"raise", "nan"}
            What to do where the cell is absent: refuse, or give NaN at the session's timestamps.
        as_ : {None, "xarray", "dataframe"}

        Returns
        -------
        dict of str to Trace, xarray.DataArray or pandas.DataFrame
            By session; an array (session, frame), padded with NaN, with coordinate `timestamp` (session, frame); or a
            table with columns `session`, `timestamp` and the kind.

        Raises
        ------
        ValueError
            No session has the cell, or some lack it and `missing` is ``"raise"``.
        """
        traces = {}
        for name, (data, present) in self._find_data(cell, missing).items():
            if present:
                timestamps, values = data.get_traces(kind, [cell])
                traces[name] = Trace(timestamps, values[0])
            else:
                timestamps = data.source.timestamps(kind) if data else np.empty(0)
                traces[name] = Trace(timestamps, np.full(len(timestamps), np.nan, np.float32))
        return _as_traces(traces, kind, as_)

    def movie_responses(
        self, cell: int | str, movie: str, *, kind: str = "dff", missing: str = "raise", as_: str | None = None
    ) -> dict[str, np.ndarray] | pd.DataFrame | Any:
        """One cell's traces while a movie was shown, in all sessions that showed it.

        Parameters
        ----------
        cell, kind, missing, as_
            As of `traces`.
        movie : str
            One of the movies of `get_all_stimuli`.

        Returns
        -------
        dict of str to ndarray, xarray.DataArray or pandas.DataFrame
            By session: (repeats, frames) as of `DataSet.get_movie_responses`, (0, 0) where the cell is absent; an
            array (session, repeat, frame), padded with NaN; or a table with columns `session`, `repeat`, `frame` and
            the kind.

        Raises
        ------
        ValueError
            As of `traces`.
        SourceError
            No session showed the movie.
        """
        places = {
            name: place
            for name, place in self._find_data(cell, "nan").items()
            if place.data is not None and movie in place.data.list_stimuli()
        }
        if not places:
            there = ", ".join(self.get_all_stimuli()) or "none"
            raise SourceError(f"no session with data showed {movie!r}; the stimuli are {there}")
        self._refuse_absent(cell, places, missing)
        responses = {
            name: data.get_movie_responses(movie, [cell], kind=kind)[0] if present else np.empty((0, 0), np.float32)
            for name, (data, present) in places.items()
        }
        return _as_responses(responses, kind, as_)

    def masks(
        self, cell: int | str, *, missing: str = "raise", as_: str | None = None
    ) -> dict[str, np.ndarray] | pd.DataFrame | Any:
        """One cell's masks in all sessions.

        Parameters
        ----------
        cell, missing, as_
            As of `traces`.

        Returns
        -------
        dict of str to ndarray, xarray.DataArray or pandas.DataFrame
            By session: (H, W) uint8, 1 inside, or float32 NaN where the cell is absent; an array (session, y, x),
            padded with NaN; or a table of the pixels inside with columns `session`, `y`, `x`.

        Raises
        ------
        ValueError
            As of `traces`.
        """
        masks = {}
        for name, (data, present) in self._find_data(cell, missing).items():
            if present:
                masks[name] = data.get_roi_mask_array([cell])[0]
            else:
                masks[name] = np.full(data.source.shape if data else (0, 0), np.nan, np.float32)
        return _as_masks(masks, as_)


def followed_experiments(sessions: pd.DataFrame, members: pd.DataFrame, folder: Path) -> list[Experiment]:
    """Experiments of sessions whose cells are followed, as a unit store lists them.

    Parameters
    ----------
    sessions : DataFrame
        `UnitStore.sessions()`.
    members : DataFrame
        `UnitStore.members()`, of all cells or of one.
    folder : Path
        Where relative sources start from.

    Returns
    -------
    list of Experiment
    """
    followed = {}
    for (name, group), rows in members.groupby(["session", "group"], sort=False):
        followed.setdefault(name, {})[group] = rows
    nobody = dict.fromkeys(members["group"], members.iloc[:0]) or {"": members}
    own = ("name", "start_time", "source", "kind", "n_units")
    attributes = [c for c in sessions if c not in own and not c.startswith(SOURCE_OF)]
    experiments = []
    for session in sessions.to_dict("records"):
        name = session["name"]
        known = {key: session[key] for key in attributes if not pd.isna(session[key])}
        planes = followed.get(name, nobody)
        for group, rows in planes.items():
            key = name if len(planes) == 1 else f"{name}/{group}"
            source = rows["source"].iloc[0] if len(rows) else session["source"]
            path = folder / source if source else None
            experiments.append(Experiment(key, name, path, group, rows, known))
    return experiments


def _as_traces(traces, kind, as_):
    if as_ is None:
        return traces
    if as_ == "dataframe":
        return pd.concat(
            [pd.DataFrame({"session": name, "timestamp": t, kind: values}) for name, (t, values) in traces.items()],
            ignore_index=True,
        )
    length = max(len(trace.values) for trace in traces.values())
    padded = np.full((2, len(traces), length), np.nan)
    for place, (timestamps, values) in enumerate(traces.values()):
        padded[0, place, : len(values)], padded[1, place, : len(values)] = timestamps, values
    coords = {"session": list(traces), "timestamp": (("session", "frame"), padded[0])}
    return _xarray(as_).DataArray(padded[1], coords, ("session", "frame"), name=kind)


def _as_responses(responses, kind, as_):
    if as_ is None:
        return responses
    if as_ == "dataframe":
        return pd.concat(
            [
                pd.DataFrame({"session": name, "repeat": repeat, "frame": frame, kind: values.ravel()})
                for name, values in responses.items()
                for repeat, frame in [np.indices(values.shape).reshape(2, -1)]
            ],
            ignore_index=True,
        )
    padded = _padded(responses.values(), np.result_type(*responses.values()))
    return _xarray(as_).DataArray(padded, {"session": list(responses)}, ("session", "repeat", "frame"), name=kind)


def _padded(planes, dtype):
    """Planes of different shapes as one array, NaN around them."""
    planes = list(planes)
    padded = np.full((len(planes), *np.max([plane.shape for plane in planes], axis=0)), np.nan, dtype)
    for room, plane in zip(padded, planes, strict=True):
        room[: plane.shape[0], : plane.shape[1]] = plane
    return padded


def _as_masks(masks, as_):
    if as_ is None:
        return masks
    if as_ == "dataframe":
        pixels = {name: np.nonzero(mask == 1) for name, mask in masks.items()}
        return pd.concat(
            [pd.DataFrame({"session": name, "y": y, "x": x}) for name, (y, x) in pixels.items()], ignore_index=True
        )
    padded = _padded(masks.values(), np.float32)
    return _xarray(as_).DataArray(padded, {"session": list(masks)}, ("session", "y", "x"), name="mask")


def _xarray(as_):
    if as_ != "xarray":
        raise ValueError(f"as_ is {as_!r}, expected None, 'xarray' or 'dataframe'")
    try:
        import xarray
    except ImportError as error:
        raise ImportError("as_='xarray' needs xarray: pip install xarray") from error
    return xarray
