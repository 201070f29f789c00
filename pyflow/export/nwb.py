"""Hand-over in Neurodata Without Borders: a file per recording with the corrected movie and the mask."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyflow.export.source import AlignedRecording, AlignedSession
from pyflow.io.atomic import replacing
from pyflow.io.output import OutputFile
from pyflow.io.pieces import piece_length

# What NWB requires and no recording tells.
_REQUIRED: dict[str, Any] = {
    "session_description": str,
    "session_start_time": datetime,
    "frame_rate": (int, float),
    "device": str,
    "imaging_plane": {
        "description": str,
        "excitation_lambda": (int, float),
        "indicator": str,
        "location": str,
    },
    "optical_channel": {"name": str, "description": str, "emission_lambda": (int, float)},
}
_OPTIONAL = ("original", "subject", "experimenter", "institution", "lab", "session_id", "identifier")

# The processing module of an export, by which it is known.
_MODULE = "Motion correction by pyflow"


def to_nwb(
    final_results: str | Path,
    folder: str | Path,
    metadata: Mapping[str, Any],
    *,
    channel: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Path]:
    """Write an NWB file per recording of a session: its movie in the centre's frame, and the mask of valid pixels.

    In each file, the processing module ``ophys`` holds a ``CorrectedImageStack`` with ``corrected``, a
    ``TwoPhotonSeries`` (frames, columns, rows), as NWB has them; ``original``, a link to the file that was recorded;
    and ``xy_translation``, the mean displacement of each frame in pixels, NaN where displacements were not kept
    (``save_w``). The images ``valid_mask`` and ``reference`` are in ``summary_images``. Frames hold all pixels, those
    outside the mask as well.

    Parameters
    ----------
    final_results
        The session's folder.
    folder
        Where ``<recording>.nwb`` go.
    metadata
        What NWB requires and the data lack: ``session_description``, ``session_start_time`` (with its time zone),
        ``device`` (its name), ``imaging_plane`` (``description``, ``excitation_lambda`` in nm, ``indicator``,
        ``location``) and ``optical_channel`` (``name``, ``description``, ``emission_lambda`` in nm); ``frame_rate``, of
        the corrected movie in Hz, and ``original``, the file that was recorded, where the recording does not tell. As
        far as wished, ``identifier``, ``subject`` (a mapping), ``experimenter``, ``institution``, ``lab``,
        ``session_id``. A mapping ``recordings`` holds what differs between recordings, by their names.
    channel
        Counted from 1.
    progress
        Called as ``progress(recording, done, total)`` with frames.

    Returns
    -------
    list of Path
        In the order of the recordings.

    Raises
    ------
    ImportError
        pynwb is not installed: ``pip install "pyflow-2p[nwb]"``.
    FileNotFoundError
        The session has not run to its end, or a compensated video is gone.
    ValueError
        Metadata are missing, unknown or of another type; the message names all of them. Or there is no such channel, or
        a file of that name is there which is no export.
    OSError
        A file could not be written; the message names it.
    """
    try:
        import pynwb  # noqa: F401
    except ImportError as error:
        raise ImportError('NWB files need pynwb: pip install "pyflow-2p[nwb]"') from error
    session = AlignedSession.open(final_results, channel)
    everyone = {key: value for key, value in metadata.items() if key != "recordings"}
    own = metadata.get("recordings", {})
    names = [recording.name for recording in session.recordings]
    problems = [f"recordings.{name}: expected one of {', '.join(names)}" for name in own if name not in names]
    complete = []
    for recording in session.recordings:
        known = {"original": recording.input_file(), "frame_rate": recording.frame_rate_hz}
        about = {**known, **_merged(everyone, own.get(recording.name, {}))}
        problems += [f"{recording.name}: {problem}" for problem in _problems(about)]
        complete.append(about)
    if problems:
        raise ValueError("metadata: " + "; ".join(problems))
    folder = Path(folder).absolute()
    paths = [folder / f"{name}.nwb" for name in names]
    for path in paths:
        if path.exists() and not _is_export(path):
            raise ValueError(f"{path}: is no export of pyflow and would be replaced; name another folder")
    return [
        _write(session, recording, path, about, channel, progress)
        for recording, path, about in zip(session.recordings, paths, complete, strict=True)
    ]


def _is_export(path: Path) -> bool:
    """Tell whether a file was written by this module; others may be recordings."""
    try:
        with h5py.File(path, "r") as file:
            return file["processing/ophys"].attrs.get("description") == _MODULE
    except (OSError, KeyError):
        return False


def _merged(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: {**common[key], **own[key]} for key in own if isinstance(common.get(key), Mapping)}
    return {**common, **own, **both}


def _problems(about: Mapping[str, Any], required: Mapping[str, Any] = _REQUIRED, prefix: str = "") -> list[str]:
    """Say what is missing, of another type or unknown."""
    found = []
    for key, kind in required.items():
        value = about.get(key)
        if isinstance(kind, Mapping):
            found += _problems(value if isinstance(value, Mapping) else {}, kind, f"{prefix}{key}.")
        elif value is None:
            found.append(f"{prefix}{key} is missing")
        elif not isinstance(value, kind) or (kind is str and not value) or isinstance(value, bool):
            found.append(f"{prefix}{key}: expected {_words(kind)}, found {value!r}")
        elif isinstance(value, datetime) and value.tzinfo is None:
            found.append(f"{prefix}{key}: expected a time with its zone, found {value}")
    optional = () if prefix else _OPTIONAL
    found += [f"{prefix}{key} is unknown" for key in about if key not in required and key not in optional]
    if not prefix and about.get("original") is None:
        found.append("original is missing: which file was recorded is not known")
    return found


def _words(kind: Any) -> str:
    return {str: "text", datetime: "a date with time"}.get(kind, "a number")


def _write(
    session: AlignedSession,
    recording: AlignedRecording,
    path: Path,
    about: Mapping[str, Any],
    channel: int,
    progress: Callable[[str, int, int], None] | None,
) -> Path:
    import pynwb
    from pynwb.ophys import CorrectedImageStack, OpticalChannel

    names = ("experimenter", "institution", "lab", "session_id")
    file = pynwb.NWBFile(
        session_description=about["session_description"],
        identifier=about.get("identifier") or str(uuid.uuid4()),
        session_start_time=about["session_start_time"],
        **{key: about[key] for key in names if key in about},
    )
    if "subject" in about:
        file.subject = pynwb.file.Subject(**about["subject"])
    plane = file.create_imaging_plane(
        name="ImagingPlane",
        optical_channel=OpticalChannel(**_numbers(about["optical_channel"])),
        device=file.create_device(name=about["device"]),
        imaging_rate=float(about["frame_rate"]),
        **_numbers(about["imaging_plane"]),
    )
    corrected = _corrected(session, recording, plane, channel, progress)
    original = _original(recording, about)
    moved = _translation(recording, plane.imaging_rate)
    module = file.create_processing_module("ophys", _MODULE)
    file.add_acquisition(original)
    module.add(CorrectedImageStack(corrected=corrected, original=original, xy_translation=moved))
    file.add_acquisition(corrected)  # a link, under which programs find it that look for movies nowhere else
    module.add(_summary_images(session, channel))
    with replacing(path) as temporary, OutputFile(temporary, path) as target, h5py.File(target, "w") as hdf5:
        with pynwb.NWBHDF5IO(file=hdf5, mode="w", manager=pynwb.get_manager()) as io:
            io.write(file)
    return path


def _corrected(
    session: AlignedSession,
    recording: AlignedRecording,
    plane: Any,
    channel: int,
    progress: Callable[[str, int, int], None] | None,
) -> Any:
    """Return the series of a channel's frames in the centre's frame, which are warped while they are written."""
    from hdmf.data_utils import DataChunkIterator
    from pynwb.ophys import TwoPhotonSeries

    n_frames, height, width, _ = recording.shape

    def frames() -> Iterator[np.ndarray]:
        done = 0
        for piece in session.frames(recording, channel, masked=False):
            yield from piece.transpose(0, 2, 1)
            done += len(piece)
            if progress is not None:
                progress(recording.name, done, n_frames)

    per_chunk = piece_length((height, width), recording.dtype, 1 << 20)
    return TwoPhotonSeries(
        name="corrected",
        imaging_plane=plane,
        data=DataChunkIterator(
            data=frames(), maxshape=(n_frames, width, height), dtype=recording.dtype, buffer_size=per_chunk
        ),
        unit="n.a.",
        rate=plane.imaging_rate,
        dimension=[width, height],
        description="Registered to the centre of the session by variational optical flow; (frames, columns, rows).",
    )


def _original(recording: AlignedRecording, about: Mapping[str, Any]) -> Any:
    """Return the series that names the file which was recorded."""
    from pynwb.image import ImageSeries

    per_frame = recording.bin_size()
    return ImageSeries(
        name="original",
        external_file=[str(about["original"])],
        starting_frame=[0],
        format="external",
        num_samples=recording.shape[0] * per_frame,
        unit="n.a.",
        rate=float(about["frame_rate"]) * per_frame,
        description="The file that was recorded.",
    )


def _translation(recording: AlignedRecording, rate: float) -> Any:
    """Return the series of each frame's mean displacement, NaN where displacements were not kept."""
    import pynwb

    kept = recording.translation()
    return pynwb.TimeSeries(
        name="xy_translation",
        data=np.full((recording.shape[0], 2), np.nan) if kept is None else kept,
        unit="pixels",
        rate=rate,
        description="Not known: displacements of the frames were not kept."
        if kept is None
        else "Mean displacement of each frame along x (columns) and y (rows).",
    )


def _summary_images(session: AlignedSession, channel: int) -> Any:
    """Return the images that stand for all recordings: the mask, and the centre's average."""
    from pynwb.base import Images
    from pynwb.image import GrayscaleImage

    reference = session.reference[..., channel - 1]
    images = {
        "valid_mask": (session.valid.astype(np.uint8), "1 where a pixel is valid in every recording; (columns, rows)."),
        "reference": (reference.astype(np.float32), "Temporal average of the session's centre; (columns, rows)."),
    }
    return Images(
        name="summary_images",
        images=[
            GrayscaleImage(name=name, data=np.ascontiguousarray(image.T), description=description)
            for name, (image, description) in images.items()
        ],
    )


def _numbers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with their integers as floats, which NWB wants."""
    return {key: float(value) if isinstance(value, int) else value for key, value in fields.items()}
