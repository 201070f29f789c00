"""A few sessions of the same cells, with known truth, written as each format has them."""

from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import scipy.sparse
from scipy.ndimage import gaussian_filter

from pyflow.layout import AVERAGE_FILE, ROI_FILE, VIDEO_FILE

SHAPE = (40, 48)
FRAME_RATE = 10.0
CONTAINER = 511510736
TYPES = ("three_session_A", "three_session_B", "three_session_C")


@dataclass
class Session:
    """One session: its cells are in an order of its own, and `cells` says which is which."""

    name: str
    number: int
    kind: str
    cells: np.ndarray
    masks: np.ndarray
    image: np.ndarray
    traces: dict = field(default_factory=dict)
    path: Path | None = None

    def row(self, cell):
        return int(np.flatnonzero(self.cells == cell)[0])

    @property
    def timestamps(self):
        return np.arange(self.traces["fluorescence"].shape[1]) / FRAME_RATE


def sessions(n_cells=7, n_frames=300, n_sessions=3, seed=0):
    """Cells drift a little from day to day, their order changes, and each misses one session, but the first two."""
    rng = np.random.default_rng(seed)
    cells = 517472400 + rng.permutation(100)[:n_cells]
    grid = np.stack(np.meshgrid(np.arange(8, SHAPE[0] - 6, 11), np.arange(8, SHAPE[1] - 6, 12), indexing="ij"), -1)
    places = rng.permutation(grid.reshape(-1, 2))[:n_cells]
    found = []
    for number in range(n_sessions):
        present = [n for n in range(n_cells) if n < 2 or n % n_sessions != number]
        order = rng.permutation(present)
        drift = rng.integers(-2, 3, 2)
        masks = np.stack([_blob(places[n] + drift, 3 + n % 2) for n in order])
        traces = {"fluorescence": np.stack([_trace(n, number, n_frames, rng) for n in order])}
        traces["neuropil"] = rng.normal(40, 2, traces["fluorescence"].shape).astype(np.float32)
        traces["demixed"] = traces["fluorescence"] * np.float32(0.9)
        traces["dff"] = traces["fluorescence"] / 100 - 1
        traces["spikes"] = np.maximum(np.diff(traces["fluorescence"], prepend=0), 0)
        texture = gaussian_filter(rng.random(SHAPE), 1.5)
        image = (200 * (texture - texture.min()) / np.ptp(texture) + 300 * masks.any(axis=0)).astype(np.float32)
        found.append(Session(f"day{number + 1}", number, TYPES[number % 3], cells[order], masks, image, traces))
    return found


def _blob(centre, radius):
    y, x = np.indices(SHAPE)
    return ((y - centre[0]) ** 2 / radius**2 + (x - centre[1]) ** 2 / (radius + 1) ** 2) <= 1


def _trace(cell, session, n_frames, rng):
    """Transients at times that only this cell in this session has."""
    spikes = np.zeros(n_frames)
    spikes[rng.choice(n_frames, 4 + cell % 3, replace=False)] = rng.uniform(60, 120)
    decay = np.exp(-np.arange(60) / 8.0)
    return (100 + 10 * cell + session + np.convolve(spikes, decay)[:n_frames]).astype(np.float32)


MOVIE_FRAMES, MOVIE_REPEATS = 12, 4
GRATINGS = {"drifting_gratings": ("temporal_frequency", "orientation", "blank_sweep"),
            "static_gratings": ("orientation", "spatial_frequency", "phase")}  # fmt: skip


def movie_starts(session, movie="natural_movie_one"):
    """Sample at which each frame of a movie begins, (repeats, frames); in session C the monitor dropped one."""
    first, repeats = {
        "natural_movie_one": ((62, 110, 80)[session.number % 3], MOVIE_REPEATS),
        "natural_movie_three": (250, 2),
        "natural_movie_two": (160, 2),
    }[movie]
    starts = first + np.arange(repeats * MOVIE_FRAMES)
    starts[MOVIE_FRAMES + 5 :] += session.number % 3 == 2
    return starts.reshape(repeats, MOVIE_FRAMES)


def stimuli(session):
    """What each session type shows: rows of data, first and last sample of each; epochs part where AllenSDK's do."""
    rng = np.random.default_rng(session.number)
    movie = lambda name: (  # noqa: E731
        np.tile(np.arange(MOVIE_FRAMES), len(movie_starts(session, name))),
        movie_starts(session, name).ravel()[:, np.newaxis] + [0, 1],
    )
    rows = lambda first, n, step, length: first + step * np.arange(n)[:, np.newaxis] + [0, length]  # noqa: E731
    if session.kind == "three_session_A":
        sweeps = np.concatenate([rows(10, 3, 12, 6), rows(150, 2, 12, 6)])
        found = {
            "drifting_gratings": (rng.choice([0.0, 1.0, 2.0, np.nan], (5, 3)), sweeps),
            "natural_movie_three": movie("natural_movie_three"),
        }
        quiet = [[45, 60], [200, 240]]
    elif session.kind == "three_session_B":
        flashes = np.concatenate([rows(5, 10, 2, 2), rows(45, 10, 2, 2)])
        found = {
            "static_gratings": (rng.choice([0.0, 0.25, 30.0, np.nan], (20, 3)), flashes),
            "natural_scenes": (rng.integers(-1, 118, 15), rows(70, 15, 2, 2)),
        }
        quiet = [[170, 260]]
    else:
        noise = np.concatenate([rows(3, 10, 3, 3), rows(41, 10, 3, 3)])
        found = {
            "locally_sparse_noise": (rng.permutation(20), noise),
            "natural_movie_two": movie("natural_movie_two"),
        }
        quiet = [[130, 150]]
    found["natural_movie_one"] = movie("natural_movie_one")
    events = np.ravel(quiet)[:, np.newaxis] + [0, 0]
    found["spontaneous"] = (np.tile([1, -1], len(quiet)), events)
    return found


def write_allen(folder, session, version="2.0", translation="xy_translation"):
    """NWB 1.0 as the Allen Brain Observatory has it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{501704220 + session.number}.nwb"
    with h5py.File(path, "w") as file:
        put = lambda name, value: file.create_dataset(name, data=value)  # noqa: E731
        string = lambda name, value: put(name, np.bytes_(value))  # noqa: E731
        string("nwb_version", "NWB-1.0.6")
        string("session_start_time", f"2016-02-0{session.number + 1} 10:25:24")
        string("general/session_id", str(501704220 + session.number))
        string("general/experiment_container_id", str(CONTAINER))
        string("general/session_type", session.kind)
        string("general/specimen_name", "Cux2-CreERT2;Camk2a-tTA;Ai93-222426")
        string("general/fov", "400x400 microns (512 x 512 pixels)")
        put("general/generated_by", np.array([b"brain_observatory_pipeline", version.encode()]))
        string("general/devices/2-photon microscope", "Nikon A1R. CAM2P.2 Please see the white paper")
        string("general/subject/age", "105 days")
        string("general/subject/sex", "male")
        string("general/subject/genotype", "Cux2-CreERT2;Camk2a-tTA;Ai93(TITL-GCaMP6f)")
        plane = "general/optophysiology/imaging_plane_1"
        string(f"{plane}/location", "VISp")
        string(f"{plane}/imaging depth", "175 microns")
        string(f"{plane}/excitation_lambda", "910 nanometers")
        string(f"{plane}/indicator", "GCaMP6f")

        pipeline = "processing/brain_observatory_pipeline"
        segmentation = f"{pipeline}/ImageSegmentation"
        put(f"{segmentation}/cell_specimen_ids", session.cells.astype(np.int64))
        put(f"{segmentation}/roi_ids", np.arange(len(session.cells)) + 9000 + 100 * session.number)
        names = [f"roi_{roi:03d}" for roi in range(len(session.cells))]
        put(f"{segmentation}/imaging_plane_1/roi_list", np.array(names, dtype="S"))
        for name, mask in zip(names, session.masks, strict=True):
            put(f"{segmentation}/imaging_plane_1/{name}/img_mask", mask.astype(np.uint8))
        put(f"{segmentation}/imaging_plane_1/reference_images/maximum_intensity_projection_image/data", session.image)

        plane = f"{pipeline}/Fluorescence/imaging_plane_1"
        r = np.linspace(0.3, 0.8, len(session.cells))
        put(f"{plane}/data", session.traces["fluorescence"])
        put(f"{plane}/timestamps", session.timestamps)
        if version >= "2.0":
            put(f"{plane}_demixed_signal/data", session.traces["demixed"])
            put(f"{plane}_neuropil_response/data", session.traces["neuropil"])
            put(f"{plane}_neuropil_response/r", r)
        else:
            put(f"{plane}/neuropil_traces", session.traces["neuropil"])
            put(f"{plane}/r", r)
        put(f"{pipeline}/DfOverF/imaging_plane_1/data", session.traces["dff"])
        put(f"{pipeline}/DfOverF/imaging_plane_1/timestamps", session.timestamps + 0.01)
        place = f"{pipeline}/MotionCorrection/2p_image_series/{translation}"
        moves = np.random.default_rng(session.number).integers(-4, 5, (len(session.timestamps), 2))
        put(f"{place}/data", moves)
        put(f"{place}/timestamps", session.timestamps)
        put(f"{place}/feature_description", np.array([b"x_motion", b"y_motion"]))

        speed = np.random.default_rng(2).normal(8, 3, len(session.timestamps) - 5)
        put(f"{pipeline}/BehavioralTimeSeries/running_speed/data", speed[:, None] if version < "2.0" else speed)
        put(f"{pipeline}/BehavioralTimeSeries/running_speed/timestamps", session.timestamps[3:-2])
        if session.number < 2:
            times = session.timestamps[0] + np.arange(40) / 30
            for name, scale in (("pupil_location", 0.1), ("pupil_location_spherical", 2.0)):
                put(f"{pipeline}/EyeTracking/{name}/data", np.random.default_rng(4).normal(0, scale, (40, 2)))
                put(f"{pipeline}/EyeTracking/{name}/timestamps", times)
            put(f"{pipeline}/PupilTracking/pupil_size/data", np.random.default_rng(5).uniform(50, 90, 40))
            put(f"{pipeline}/PupilTracking/pupil_size/timestamps", times)

        for name, (data, span) in stimuli(session).items():
            order = np.random.default_rng(1).permutation(len(data)) if name == "natural_movie_one" else np.s_[:]
            place = f"stimulus/presentation/{name}_stimulus"
            put(f"{place}/data", data[order])
            put(f"{place}/frame_duration", span[order].astype(np.float64))
            if name in GRATINGS:
                put(f"{place}/features", np.array(GRATINGS[name], dtype="S"))
        images = np.arange(MOVIE_FRAMES * 4 * 6, dtype=np.uint8).reshape(MOVIE_FRAMES, 4, 6)
        put("stimulus/templates/natural_movie_one_image_stack/data", images)
        for name, shape in (("natural_scenes", (4, 6)), ("locally_sparse_noise", (16, 28))):
            if name in stimuli(session):
                images = np.random.default_rng(6).choice(np.array([0, 127, 255], np.uint8), (118, *shape))
                put(f"stimulus/templates/{name}_image_stack/data", images)
    return path


def write_suite2p(folder, session, *, planes=1, combined=False, order=None):
    """suite2p's output; the cells are dealt to the planes in turn. `order` gives each cell's place among more ROIs."""
    for plane in range(planes):
        mine = np.arange(plane, len(session.cells), planes)
        place = folder / "suite2p" / f"plane{plane}"
        _write_suite2p_plane(place, session, mine)
    if combined:
        _write_suite2p_plane(folder / "suite2p" / "combined", session, np.arange(len(session.cells)))
    return folder


def _write_suite2p_plane(place, session, rois):
    place.mkdir(parents=True, exist_ok=True)
    stat = np.empty(len(rois), dtype=object)
    for n, roi in enumerate(rois):
        y, x = np.nonzero(session.masks[roi])
        stat[n] = {
            "ypix": y,
            "xpix": x,
            "lam": np.linspace(0.1, 1, len(y), dtype=np.float32),
            "overlap": np.arange(len(y)) < 3,
            "med": [int(np.median(y)), int(np.median(x))],
        }
    ops = {
        "Ly": SHAPE[0],
        "Lx": SHAPE[1],
        "fs": FRAME_RATE,
        "yrange": [1, SHAPE[0] - 1],
        "xrange": [2, SHAPE[1] - 2],
        "max_proj": session.image[1:-1, 2:-2],
        "meanImg": session.image / 2,
        "neucoeff": 0.6,
        "xoff": np.arange(5) - 2,
        "yoff": np.arange(5),
        "data_path": ["/raw"],
    }
    np.save(place / "stat.npy", stat, allow_pickle=True)
    np.save(place / "ops.npy", ops, allow_pickle=True)
    np.save(place / "F.npy", session.traces["fluorescence"][rois])
    np.save(place / "Fneu.npy", session.traces["neuropil"][rois])
    np.save(place / "spks.npy", session.traces["spikes"][rois])
    np.save(place / "iscell.npy", np.ones((len(rois), 2)))


def write_caiman(folder, session, *, dff=True, frame_rate=True):
    """What ``CNMF.save`` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{session.name}.hdf5"
    weights = session.masks * np.linspace(0.5, 1, session.masks[0].size).reshape(SHAPE)
    tails = 0.1 * weights.max(axis=(1, 2), keepdims=True) * np.roll(session.masks, 2, axis=2)
    footprints = np.maximum(weights, tails)
    columns = scipy.sparse.csc_matrix(np.stack([f.ravel(order="F") for f in footprints], axis=1))
    with h5py.File(path, "w") as file:
        for name in ("data", "indices", "indptr"):
            file[f"estimates/A/{name}"] = getattr(columns, name)
        file["estimates/A/shape"] = columns.shape
        file["estimates/C"] = session.traces["demixed"]
        file["estimates/YrA"] = session.traces["fluorescence"] - session.traces["demixed"]
        file["estimates/S"] = session.traces["spikes"]
        file["estimates/F_dff"] = session.traces["dff"] if dff else "NoneType"
        file["estimates/Cn"] = session.image
        file["dims"] = SHAPE
        if frame_rate:
            file["params/data/fr"] = FRAME_RATE
    return path


def write_nwb2(folder, session, *, masks="image", ids=True, image=True, shown=False):
    """NWB 2 with one plane; the traces of the last series are in an order of their own.

    Voxels lie in two planes, and every second of them is in both. With `shown`, stimuli and running as well; they are
    counted on the clock of the fluorescence, which begins at 2 s.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{session.name}.nwb"
    n = len(session.cells)
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.6.0"
        for name, value in (("identifier", f"id-{session.name}"), ("session_description", "a test")):
            file[name] = value
        file["session_start_time"] = f"2024-01-0{session.number + 1}T10:00:00+01:00"
        file["general/optophysiology/plane/location"] = "VISp"
        file["general/optophysiology/plane/indicator"] = "GCaMP6f"
        file["general/subject/subject_id"] = "mouse 1"

        table = _typed(file, "processing/ophys/ImageSegmentation/PlaneSegmentation", "PlaneSegmentation")
        table.parent.attrs["neurodata_type"] = "ImageSegmentation"
        table["imaging_plane"] = h5py.SoftLink("/general/optophysiology/plane")
        table["id"] = np.arange(n) + 70
        names = []
        if ids:
            table["cell_specimen_id"] = session.cells
            names.append("cell_specimen_id")
        if masks == "image":
            table["image_mask"] = session.masks.astype(np.float32)
        else:
            pixels = [np.nonzero(mask) for mask in session.masks]
            fields = [("x", "u4"), ("y", "u4"), *([("z", "u4")] if masks == "voxel" else []), ("weight", "f4")]
            if masks == "voxel":
                pixels = [[np.append(axis, axis[::2]) for axis in p] for p in pixels]
            flat = np.zeros(sum(len(y) for y, _ in pixels), fields)
            flat["y"], flat["x"] = (np.concatenate([p[axis] for p in pixels]) for axis in (0, 1))
            flat["weight"] = 0.5
            table[f"{masks}_mask"] = flat
            table[f"{masks}_mask_index"] = np.cumsum([len(y) for y, _ in pixels])
        table.attrs["colnames"] = [*names, f"{masks}_mask"]

        if image:
            image = _typed(file, "processing/ophys/images", "Images").create_dataset(
                "max_projection", data=session.image
            )
            image.attrs["neurodata_type"] = "GrayscaleImage"

        shuffled = np.random.default_rng(session.number).permutation(n)
        for place, kind, around, order in (
            ("Fluorescence/RoiResponseSeries", "fluorescence", "Fluorescence", np.arange(n)),
            ("Fluorescence/Neuropil", "neuropil", "Fluorescence", np.arange(n)),
            ("dff/traces", "dff", "DfOverF", shuffled),
        ):
            series = _typed(file, f"processing/ophys/{place}", "RoiResponseSeries")
            series.parent.attrs["neurodata_type"] = around
            series["data"] = session.traces[kind][order].T
            series["rois"] = order
            series["rois"].attrs["table"] = table.ref
            if kind == "dff":
                series["timestamps"] = session.timestamps + 0.5
            else:
                start = series.create_dataset("starting_time", data=2.0)
                start.attrs["rate"] = FRAME_RATE
        if shown:
            _write_nwb2_stimuli(file, session)
    return path


def _write_nwb2_stimuli(file, session):
    """A movie and gratings in tables, another movie as a series of frames, and flashes as a series of features."""
    seconds = lambda samples: 2 + np.asarray(samples) / FRAME_RATE  # noqa: E731
    starts = movie_starts(session).ravel()
    table = _typed(file, "intervals/shown_presentations", "TimeIntervals")
    table["id"] = np.arange(len(starts) + 2)
    table["start_time"] = (20 + np.r_[starts, 20, 40]) / FRAME_RATE + 1e-5  # of a clock that rounds otherwise
    table["stop_time"] = (20 + np.r_[starts + 1, 30, 50]) / FRAME_RATE
    table["stimulus_name"] = ["natural_movie_one"] * len(starts) + ["gratings"] * 2
    table["movie_frame_index"] = np.r_[np.tile(np.arange(MOVIE_FRAMES), MOVIE_REPEATS), -1, -1]
    table["orientation"] = np.r_[np.full(len(starts), np.nan), 45.0, 90.0]
    epochs = _typed(file, "intervals/epochs", "TimeIntervals")
    epochs["start_time"], epochs["stop_time"] = seconds([20, 0]), seconds([50, 10])
    epochs["tags"], epochs["tags_index"] = ["gratings", "loud", "dark"], np.array([2, 3])
    series = _typed(file, "stimulus/presentation/natural_movie_two", "IndexSeries")
    series["data"] = np.tile(np.arange(4, dtype=np.uint32), 2)
    series["timestamps"] = seconds(200 + 2 * np.arange(8))
    series = _typed(file, "stimulus/presentation/flashes", "AbstractFeatureSeries")
    series["data"], series["features"] = np.array([[1.0, 0.2], [2.0, 0.4], [3.0, 0.6]]), ["size", "contrast"]
    series.create_dataset("starting_time", data=seconds(250)).attrs["rate"] = 1.0
    file["stimulus/templates/natural_movie_two/data"] = np.zeros((4, 3, 5), np.uint8)
    speed = _typed(file, "processing/running/speed", "TimeSeries")
    speed["data"], speed["timestamps"] = np.arange(10.0), np.arange(10.0)
    _typed(file, "processing/eye/EyeTracking", "EyeTracking")
    _typed(file, "acquisition/PupilTracking", "PupilTracking")
    for place, values, unit, conversion in (
        ("processing/eye/EyeTracking/gaze", np.array([[1.0, 2.0], [3.0, 4.0]]), "meters", 0.01),
        ("processing/eye/EyeTracking/angles", np.array([[0.1, 0.2], [0.3, 0.4]]), "radians", 1.0),
        ("acquisition/PupilTracking/pupil_area", np.array([[60.0], [70.0]]), "pixels", 1.0),
        ("acquisition/PupilTracking/pupil_raw", np.zeros(2), "pixels", 1.0),
    ):
        series = _typed(file, place, "SpatialSeries")
        series["data"] = values
        series["data"].attrs.update(unit=unit, conversion=conversion)
        series.create_dataset("starting_time", data=2.0).attrs["rate"] = 4.0


def _typed(file, name, kind):
    group = file.create_group(name)
    group.attrs["neurodata_type"] = kind
    return group


def write_recording(folder, session, *, labels=True, frame_rate=True):
    """A compensated recording in which each cell's pixels have its trace, with ROIs drawn on it."""
    folder.mkdir(parents=True, exist_ok=True)
    n_frames = session.traces["fluorescence"].shape[1]
    movie = np.full((n_frames, *SHAPE), 7, np.float32)
    for mask, trace in zip(session.masks, session.traces["fluorescence"], strict=True):
        movie[:, mask] = trace[:, np.newaxis]
    with h5py.File(folder / VIDEO_FILE, "w") as file:
        file["ch1"] = movie
    np.save(folder / AVERAGE_FILE, movie.mean(axis=0, dtype=np.float64))
    rois = {"masks": session.masks.astype(np.float32)}
    if labels:
        rois = {"labels": sum((n + 1) * 10 * mask.astype(np.int32) for n, mask in enumerate(session.masks))}
    np.savez(folder / ROI_FILE, **rois, **({"frame_rate_hz": FRAME_RATE} if frame_rate else {}))
    return folder
