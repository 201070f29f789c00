"""Cells of one session, with AllenSDK's names."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pyflow.units.sources import Source, SourceError
from pyflow.units.sources.nwb import ID_COLUMNS
from pyflow.units.sources.stimuli import OFF_SCREEN, SPONTANEOUS, StimulusSearch, on_screen


def typed_as_text(wanted: int | str, known: Container[int | str]) -> str:
    """What to say of an id that is only unknown since a number was given as text; empty where it is not that."""
    is_number = isinstance(wanted, str) and wanted.isascii() and wanted.isdecimal() and int(wanted) in known
    return f": it is the number {int(wanted)}, without quotes" if is_number else ""


@dataclass(frozen=True)
class RoiMask:
    """One ROI's mask, read when it is asked for.

    Attributes
    ----------
    source : Source
    row : int
        The ROI's row there.
    """

    source: Source
    row: int

    @property
    def label(self) -> str:
        """The ROI's id, text."""
        return str(self.source.roi_ids[self.row])

    def get_mask_plane(self) -> np.ndarray:
        """The mask in an image of full size, (H, W) uint8, 1 inside."""
        return self.source.masks([self.row])[0]

    @cached_property
    def _corners(self):
        """First row and column, and those after the last; nothing is at (0, 0)."""
        y, x, _ = self.source.footprint(self.row)
        return (int(y.min()), int(x.min()), int(y.max()) + 1, int(x.max()) + 1) if y.size else (0, 0, 0, 0)

    @property
    def mask(self) -> np.ndarray:
        """The mask without the field around it, (height, width) uint8; its first pixel is at row `y`, column `x`."""
        top, left, bottom, right = self._corners
        return self.get_mask_plane()[top:bottom, left:right]

    @property
    def x(self) -> int:
        """First column."""
        return self._corners[1]

    @property
    def y(self) -> int:
        """First row."""
        return self._corners[0]

    @property
    def width(self) -> int:
        """Columns from the first to the last."""
        return self._corners[3] - self._corners[1]

    @property
    def height(self) -> int:
        """Rows from the first to the last."""
        return self._corners[2] - self._corners[0]


class DataSet:
    """Cells of one session: one imaging plane's ROIs, or those of them that are followed.

    A unit store's cells come in the order of their numbers, a file's in its own.

    Parameters
    ----------
    session : str
        Name of the session, for messages.
    source : Source
    rows : sequence of int, optional
        The source's ROIs that are cells; all by default.
    cell_specimen_ids : sequence, optional
        Their ids across sessions; those of the source by default.
    session_type : str, optional
        What the source says by default.
    """

    def __init__(
        self,
        session: str,
        source: Source,
        rows: Sequence[int] | None = None,
        cell_specimen_ids: Sequence[int | str] | np.ndarray | None = None,
        session_type: str | None = None,
    ) -> None:
        self.session, self.source, self._session_type = session, source, session_type
        self._rows_given, self._ids_given = rows, cell_specimen_ids
        self._images = {}  # of the stimulus that was asked for last: a movie of 100 MB is not read for each sample

    def __repr__(self) -> str:
        return f"<DataSet {self.session}: {self.source}>"

    @cached_property
    def _rows(self):
        if self._rows_given is not None:
            return np.asarray(self._rows_given, int)
        ids = self.source.cell_specimen_ids
        return np.arange(len(self.source.roi_ids)) if ids is None else np.flatnonzero(ids != -1)

    @cached_property
    def _ids(self):
        if self._ids_given is not None:
            return np.asarray(self._ids_given)
        ids = self.source.cell_specimen_ids
        return None if ids is None else ids[self._rows]

    @cached_property
    def _index(self):
        return {cell: index for index, cell in reversed(list(enumerate(self.get_cell_specimen_ids().tolist())))}

    @property
    def number_of_cells(self) -> int:
        """How many cells there are."""
        return len(self._rows)

    def get_cell_specimen_ids(self) -> np.ndarray:
        """Ids of the cells that are the same in all sessions, (N,).

        Raises
        ------
        ValueError
            The source knows no such ids.
        """
        if self._ids is None:
            raise ValueError(
                f"session {self.session!r} ({self.source.path}) has no cell specimen ids "
                f"(columns of those names in NWB: {', '.join(ID_COLUMNS)}); open the unit store that links its ROIs"
            )
        return self._ids

    def get_roi_ids(self) -> np.ndarray:
        """The session's own ids of the cells' ROIs, (N,)."""
        return self.source.roi_ids[self._rows]

    def get_cell_specimen_indices(self, cell_specimen_ids: Sequence[int | str]) -> list[int]:
        """Places of cells in this session's arrays.

        Parameters
        ----------
        cell_specimen_ids : sequence
            In any order, repeats allowed.

        Returns
        -------
        list of int
            In the order asked for.

        Raises
        ------
        ValueError
            This session has no such cell; the message names both.
        """
        if np.ndim(cell_specimen_ids) != 1:
            raise TypeError(f"cell_specimen_ids is {cell_specimen_ids!r}, expected a list of ids")
        for cell in cell_specimen_ids:
            if cell not in self._index:
                where = f"session {self.session!r} ({self.source.path})"
                raise ValueError(f"cell specimen {cell!r} is not in {where}{typed_as_text(cell, self._index)}")
        return [self._index[cell] for cell in cell_specimen_ids]

    def _rows_of(self, cell_specimen_ids):
        if cell_specimen_ids is None:
            return self._rows
        return self._rows[self.get_cell_specimen_indices(cell_specimen_ids)]

    def get_max_projection(self) -> np.ndarray:
        """The maximum projection, (H, W); where the source has none, its best image (`Source.image` names it)."""
        return self.source.image()[0]

    def get_roi_mask_array(self, cell_specimen_ids: Sequence[int | str] | None = None) -> np.ndarray:
        """Masks of cells (all by default), (N, H, W) uint8, 1 inside."""
        return self.source.masks(self._rows_of(cell_specimen_ids))

    def get_roi_mask(self, cell_specimen_ids: Sequence[int | str] | None = None) -> list[RoiMask]:
        """Masks of cells (all by default), a list of `RoiMask`."""
        return [RoiMask(self.source, int(row)) for row in self._rows_of(cell_specimen_ids)]

    def get_traces(
        self, kind: str, cell_specimen_ids: Sequence[int | str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Traces of a kind (one of ``source.trace_kinds``).

        Returns
        -------
        timestamps : ndarray, shape (T,)
            In ``source.time_unit``.
        traces : ndarray, shape (N, T)
        """
        traces = self.source.traces(kind, self._rows_of(cell_specimen_ids))
        return self.source.timestamps(kind), traces

    def get_dff_traces(self, cell_specimen_ids: Sequence[int | str] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """dF/F of cells (all by default); see `get_traces`."""
        return self.get_traces("dff", cell_specimen_ids)

    def get_fluorescence_traces(
        self, cell_specimen_ids: Sequence[int | str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fluorescence of cells (all by default); see `get_traces`."""
        return self.get_traces("fluorescence", cell_specimen_ids)

    def get_neuropil_traces(
        self, cell_specimen_ids: Sequence[int | str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fluorescence around cells (all by default); see `get_traces`."""
        return self.get_traces("neuropil", cell_specimen_ids)

    def get_demixed_traces(self, cell_specimen_ids: Sequence[int | str] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Demixed fluorescence of cells (all by default); see `get_traces`."""
        return self.get_traces("demixed", cell_specimen_ids)

    def get_corrected_fluorescence_traces(
        self, cell_specimen_ids: Sequence[int | str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fluorescence of cells (all by default), neuropil subtracted; see `get_traces`."""
        return self.get_traces("corrected", cell_specimen_ids)

    def get_fluorescence_timestamps(self) -> np.ndarray:
        """Times of the fluorescence samples, (T,)."""
        return self.source.timestamps("fluorescence")

    def get_metadata(self) -> dict[str, Any]:
        """What the source says of the session, a dict."""
        return self.source.metadata()

    def get_motion_correction(self) -> pd.DataFrame:
        """Translations of the frames: DataFrame with `x_motion`, `y_motion` (pixels), `timestamp`."""
        return self.source.motion_correction()

    def get_neuropil_r(self, cell_specimen_ids: Sequence[int | str] | None = None) -> np.ndarray:
        """Share of the neuropil that is subtracted from cells (all by default), (N,); see `Source.neuropil_r`."""
        return self.source.neuropil_r(self._rows_of(cell_specimen_ids))

    def get_running_speed(self) -> tuple[np.ndarray, np.ndarray]:
        """Speed in cm/s and timestamps, in this order, as AllenSDK has it; see `Source.running_speed`."""
        return self.source.running_speed()

    def get_pupil_location(self, as_spherical: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Timestamps, and altitude and azimuth in degrees or x and y in centimetres, (n, 2); see `Source.pupil`."""
        return self.source.pupil("location_spherical" if as_spherical else "location")

    def get_pupil_size(self) -> tuple[np.ndarray, np.ndarray]:
        """Timestamps, and the pupil's area in pixels; see `Source.pupil`."""
        return self.source.pupil("size")

    def get_session_type(self) -> str:
        """What was done in this session, as the file or else the unit store says.

        Raises
        ------
        SourceError
            Neither does.
        """
        found = self._session_type or self.source.experiment().get("session_type")
        if found is None:
            raise SourceError(f"session {self.session!r} ({self.source.path}): no session type")
        return found

    def list_stimuli(self) -> list[str]:
        """Names of the stimuli that were shown, sorted; empty where the source keeps none."""
        return self.source.stimuli()

    def get_stimulus_table(self, stimulus_name: str) -> pd.DataFrame:
        """When a stimulus was shown; see `Source.stimulus_table`."""
        return self.source.stimulus_table(stimulus_name)

    def get_stimulus_epoch_table(self) -> pd.DataFrame:
        """Stretches with one stimulus; see `Source.stimulus_epochs`."""
        return self.source.stimulus_epochs()

    def get_stimulus_template(self, stimulus_name: str) -> np.ndarray:
        """Images of a stimulus, (frame, y, x)."""
        return self.source.stimulus_template(stimulus_name)

    @cached_property
    def stimulus_search(self) -> StimulusSearch:
        """What was shown at a sample: ``stimulus_search.search(sample)``."""
        return StimulusSearch(self.get_stimulus_table("master"), self.get_stimulus_epoch_table())

    def get_stimulus(self, frame_ind: int) -> tuple[tuple[int, float, dict[str, Any]] | None, np.ndarray | None]:
        """What was on the monitor at a sample of the traces.

        Parameters
        ----------
        frame_ind : int
            The sample, from 0.

        Returns
        -------
        presentation : (start, end, dict) or None
            As of `StimulusSearch.search`; None while nothing or only the grey monitor was shown.
        image : ndarray, shape (y, x), or None
            The presentation's image, of noise without the squares outside the monitor; None for gratings and for the
            blank between natural scenes.

        Raises
        ------
        SourceError
            The source keeps no stimuli, or no images of this one.
        """
        found = self.stimulus_search.search(frame_ind)
        if found is None or found[2]["stimulus"] == SPONTANEOUS:
            return None, None
        frame = found[2].get("frame", -1)
        if not frame >= 0:
            return found, None
        name = found[2]["stimulus"]
        if name not in self._images:
            self._images.clear()
            is_noise = name.startswith("locally_sparse_noise")
            get = self.get_locally_sparse_noise_stimulus_template if is_noise else self.get_stimulus_template
            self._images[name] = get(name)[0] if is_noise else get(name)
        images = self._images[name]
        if frame >= len(images):
            raise SourceError(
                f"{self.source.path}: stimulus {name!r} shows image {int(frame)} at sample {frame_ind}, but has "
                f"{len(images)} images"
            )
        return found, images[int(frame)].copy()

    def get_locally_sparse_noise_stimulus_template(
        self, stimulus: str, mask_off_screen: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images of locally sparse noise, and which of their squares lie on the monitor.

        Parameters
        ----------
        stimulus : str
            ``"locally_sparse_noise"``, ``"locally_sparse_noise_4deg"`` or ``"locally_sparse_noise_8deg"``.
        mask_off_screen : bool
            Set squares outside the monitor to 64.

        Returns
        -------
        template : ndarray, shape (frame, y, x)
        on_screen : bool ndarray, shape (y, x)

        Raises
        ------
        SourceError
            The source keeps no images of it, or they are no locally sparse noise of the Allen Brain Observatory.
        """
        images = self.get_stimulus_template(stimulus)
        mask = on_screen(images.shape[1:])
        if mask is None:
            raise SourceError(
                f"{self.source.path}: images of stimulus {stimulus!r} have {images.shape[1]} x {images.shape[2]} "
                "squares, but locally sparse noise has 16 x 28 or 8 x 14"
            )
        if mask_off_screen:
            images = images.copy()
            images[:, ~mask] = OFF_SCREEN
        return images, mask

    def get_movie_responses(
        self, movie: str, cell_specimen_ids: Sequence[int | str] | None = None, *, kind: str = "dff"
    ) -> np.ndarray:
        """Traces of cells (all by default) while a movie was shown.

        Parameters
        ----------
        movie : str
            Stimulus whose table has columns `frame` and `repeat`.
        cell_specimen_ids : sequence, optional
        kind : str
            Kind of traces.

        Returns
        -------
        ndarray, shape (N, repeats, frames)
            The sample at which each of the movie's frames began; NaN for frames that a repeat skipped.

        Raises
        ------
        SourceError
            The session has no such stimulus, it is no movie, or it ends after the traces.
        """
        shown = self.get_stimulus_table(movie)
        if not {"frame", "repeat"} <= set(shown):
            raise SourceError(f"{self.source.path}: stimulus {movie!r} is no movie; its columns: {', '.join(shown)}")
        _, traces = self.get_traces(kind, cell_specimen_ids)
        start, repeat, frame = (shown[column].to_numpy(np.int64) for column in ("start", "repeat", "frame"))
        if len(start) and start.max() >= traces.shape[1]:
            raise SourceError(
                f"{self.source.path}: stimulus {movie!r} goes on at sample {start.max()}, but the {kind} traces have "
                f"{traces.shape[1]}"
            )
        n_repeats, n_frames = (int(column.max(initial=-1)) + 1 for column in (repeat, frame))
        responses = np.full((len(traces), n_repeats, n_frames), np.nan, np.result_type(traces, np.float16))
        responses[:, repeat, frame] = traces[:, start]
        return responses
