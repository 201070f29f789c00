"""What a folder holds, seen as a session: which of its files are recordings, and how they are opened."""

import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from pyflow.io import ReaderOptions, open_video
from pyflow.io.readers.axes import PlaneError
from pyflow.io.readers.formats import format_by_name, is_zarr, natural_key
from pyflow.layout import AVERAGE_FILE, FIELD_FILE, FLOW_FILES, MASK_FILE, META_FILES, RESULT_FILE, ROI_FILE
from pyflow.session.artifacts import read_status
from pyflow.session.config import SessionConfig
from pyflow.session.info import describe
from pyflow.session.keys import stage1_options
from pyflow.session.recordings import SESSION_FILE, Recording, find_recordings, matching, relative_path
from pyflow.session.stage import RECORDING_ERRORS

MOST_OPENED = 200  # recordings of a folder that are looked at: more would tell nothing new

_RESULT_STEMS = {Path(name).stem for name in (AVERAGE_FILE, FIELD_FILE, MASK_FILE, ROI_FILE, *FLOW_FILES, *META_FILES)}
_RESULT = re.compile(rf"compensated(_ch\d+)?|aligned_.+|.*_valid_idx(_aligned)?|{RESULT_FILE}", re.IGNORECASE)
_SINGLE, _RESULTS = "a single image", "named like results"
_NO_MOVIES = (".xml", ".npz")  # of those that name what they belong to
_PIECE = re.compile(r"(.+_\d{5})_\d{5}")  # as ScanImage numbers the files that it splits a recording into


@dataclass(frozen=True)
class Seen:
    """A recording as it was opened: its path below the folder, its shape (T, H, W, C), planes, and Hz if it says so."""

    name: str
    shape: tuple[int, int, int, int]
    n_planes: int
    frame_rate_hz: float | None


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    Parameters
    ----------
    folder
        Where was looked.
    pattern, reader
        Those of a session with the recordings.
    recordings
        Those that were opened, in order.
    n_recordings
        How many there are.
    others
        Patterns of other files that may be recordings, and how many files each has.
    left_out
        What is no recording of this session, by reason.
    matched
        Files among these that the pattern matches nevertheless.
    attention
        What is odd about the frames of the first recording; empty where nothing is.
    in_pieces
        Whether the names look like those of pieces of fewer recordings.
    """

    folder: Path
    pattern: str
    reader: ReaderOptions
    recordings: list[Seen]
    n_recordings: int
    others: dict[str, int]
    left_out: dict[str, list[str]]
    matched: list[str]
    attention: str
    in_pieces: bool


def look_around(folder: Path, reader: ReaderOptions) -> Survey:
    """Look at what is in a folder and below it.

    The files of one kind that take most of the disk are taken for the recordings. Files that cannot be opened, hold a
    single image or are named like results are none.

    Parameters
    ----------
    folder
        Where the recordings are.
    reader
        What the files do not say.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        There is no such folder, or it is none.
    ValueError
        There is no recording in it; the message says what there is.
    """
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file, expected the folder with the recordings")
    folder = folder.absolute()
    files, left_out = _files(folder)
    candidates = _candidates(folder, files)
    for n_before, pattern in enumerate(candidates, 1):
        for way, options in _ways(pattern, reader):
            opened = _open_all(SessionConfig(root=folder, pattern=way, reader=options), left_out.get(_RESULTS, ()))
            if opened.seen:
                others = {other: len(candidates[other]) for other in list(candidates)[n_before:]}
                return _survey(opened, others, left_out)
            if set(opened.refused) != {_SINGLE}:
                break
        _add(left_out, opened.refused)
    reasons = "; ".join(f"{several(names)}: {reason}" for reason, names in left_out.items())
    raise ValueError(f"{folder}: no recording found, {reasons or 'there is no file of a known format'}")


def several(names: Sequence[str]) -> str:
    """Name the first of some files, and say how many more there are."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 2 else " and ".join(names)


def _add(left_out: dict[str, list[str]], refused: dict[str, list[str]]) -> None:
    for reason, names in refused.items():
        left_out.setdefault(reason, []).extend(names)


def _files(folder: Path) -> tuple[list[Path], dict[str, list[str]]]:
    """Files that may be recordings, in order, and what is none by its name or place, by reason."""
    files: list[Path] = []
    left_out: dict[str, list[str]] = {}
    for top, folders, names in os.walk(folder):
        place = Path(top)
        folders[:] = sorted((one for one in folders if not one.startswith(".")), key=natural_key)
        if place != folder and _holds_results(place):
            left_out.setdefault("a folder of results", []).append(f"{relative_path(place, folder)}/")
            folders.clear()
            continue
        stores = [one for one in folders if is_zarr(place / one)]
        folders[:] = [one for one in folders if one not in stores]
        for path in (place / name for name in (*names, *stores) if not name.startswith(".")):
            known, elsewhere = format_by_name(path)
            if elsewhere and path.suffix.lower() not in _NO_MOVIES:
                left_out.setdefault(elsewhere, []).append(relative_path(path, folder))
            elif known and (_RESULT.fullmatch(path.stem) or path.stem.lower() in _RESULT_STEMS):
                left_out.setdefault(_RESULTS, []).append(relative_path(path, folder))
            elif known:
                files.append(path)
    return sorted(files, key=lambda file: natural_key(relative_path(file, folder))), left_out


def _holds_results(folder: Path) -> bool:
    """Tell folders of pyflow's results, and of suite2p's."""
    ours = {Path(str(SessionConfig.model_fields[name].default)).name for name in ("output_root", "final_results")}
    return (
        folder.name in ours
        or (folder / SESSION_FILE).is_file()
        or bool(read_status(folder))
        or ((folder / "data.bin").is_file() and (folder / "ops.npy").is_file())
    )


def _candidates(folder: Path, files: Iterable[Path]) -> dict[str, list[Path]]:
    """Patterns and the files that each is about, those with the most bytes first."""
    found: dict[str, list[Path]] = {}
    by_suffix: dict[str, list[Path]] = {}
    for file in files:
        by_suffix.setdefault(file.suffix, []).append(file)
    for suffix, alike in by_suffix.items():
        top = [file for file in alike if file.parent == folder]
        below = [file for file in alike if file.parent != folder]
        ending = f"*{glob.escape(suffix)}"
        if top:
            found[ending] = top
        places = sorted({file.parent for file in below})
        if len(places) == 1:
            found[f"{glob.escape(relative_path(places[0], folder))}/{ending}"] = below
        elif places and all(place.parent == folder for place in places):
            found[f"*/{ending}"] = below
        elif places:
            found[f"**/{ending}"] = alike
    size = {pattern: sum(map(_size, files)) for pattern, files in found.items()}
    return {pattern: found[pattern] for pattern in sorted(found, key=lambda pattern: -size[pattern])}


def _size(path: Path) -> int:
    try:
        return sum(_size(one) for one in path.iterdir()) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def _ways(pattern: str, reader: ReaderOptions) -> Iterator[tuple[str, ReaderOptions]]:
    """Ways to take what a pattern matches: files, and where each is one image, folders of them or numbered files."""
    yield pattern, reader
    place = pattern.rpartition("/")[0]
    if place not in ("", "**"):
        yield f"{place}/", reader
    yield pattern, reader.model_copy(update={"files": "time"})


@dataclass
class _Opened:
    """Recordings of a session that could be opened, those beyond `MOST_OPENED`, and why others were not."""

    config: SessionConfig
    seen: list[tuple[Recording, Seen]] = field(default_factory=list)
    unseen: list[Recording] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)


def _open_all(config: SessionConfig, results: Collection[str]) -> _Opened:
    opened = _Opened(config)
    by_name: dict[str, Recording] = {}

    def refuse(name: str, error: BaseException) -> None:
        reason = str(error).replace(f"{config.root}{os.sep}", "").removeprefix(f"{name}: ")
        opened.refused.setdefault(reason, []).append(name)

    try:
        for recording in find_recordings(config):
            by_name[relative_path(recording.path, config.root)] = recording
    except RECORDING_ERRORS as error:
        refuse(config.pattern, error)
    names = [name for name in by_name if name not in results]
    for name in names[:MOST_OPENED]:
        recording = by_name[name]
        try:
            seen = _open(config, recording, name)
        except (*RECORDING_ERRORS, ImportError) as error:
            refuse(name, error)
            continue
        if seen.shape[0] > 1:
            opened.seen.append((recording, seen))
        else:
            opened.refused.setdefault(_SINGLE, []).append(name)
    opened.unseen = [by_name[name] for name in names[MOST_OPENED:]]
    return opened


def _open(config: SessionConfig, recording: Recording, name: str) -> Seen:
    source = stage1_options(config, recording).input_file
    try:
        reader = open_video(source, config.reader)
    except PlaneError:
        reader = open_video(source, config.reader, plane=0)
    with reader:
        return Seen(name, reader.shape, reader.n_planes, reader.frame_rate_hz)


def _survey(opened: _Opened, others: dict[str, int], left_out: dict[str, list[str]]) -> Survey:
    """Choose the recordings of one size, most of all, and a pattern that matches them and nothing else."""
    config, folder = opened.config, opened.config.root
    _add(left_out, opened.refused)
    matched = {relative_path(path, folder) for path in matching(folder, config.pattern)}
    unwanted = matched & {name for names in left_out.values() for name in names}
    sizes: dict[tuple[int, ...], list[tuple[Recording, Seen]]] = {}
    for recording, seen in opened.seen:
        sizes.setdefault(seen.shape[1:], []).append((recording, seen))
    sizes = dict(sorted(sizes.items(), key=lambda item: (-len(item[1]), -sum(seen.shape[0] for _, seen in item[1]))))
    files = [_names(folder, [recording for recording, _ in group]) for group in sizes.values()]
    files[0] += _names(folder, opened.unseen)
    patterns = [
        _narrower(config.pattern, names, unwanted.union(*files[:i], *files[i + 1 :])) for i, names in enumerate(files)
    ]
    chosen = opened.seen
    if len(sizes) > 1 and patterns[0]:
        (_, chosen), *rest = sizes.items()
        for size, group in rest:
            _add(left_out, {f"frames of another size, {size_in_words(size)}": [seen.name for _, seen in group]})
        of_others = {way: len(names) for way, names in zip(patterns[1:], files[1:], strict=True) if way}
        others = {**of_others, **others}
    wanted = _names(folder, [recording for recording, _ in chosen] + opened.unseen)
    pattern = _narrower(config.pattern, wanted, matched - set(wanted) if chosen is not opened.seen else unwanted)
    reader = config.reader
    if reader.plane is None and any(seen.n_planes > 1 for _, seen in chosen):
        reader = reader.model_copy(update={"plane": 0})
    try:
        facts = {fact: value for fact, value, _ in describe(stage1_options(config, chosen[0][0]).input_file, reader)}
    except RECORDING_ERRORS as error:  # in the middle of a file that opens
        facts = {"attention": str(error)}
    pieces = [match[1] for name in wanted if (match := _PIECE.fullmatch(Path(name).stem))]
    return Survey(
        folder=folder,
        pattern=pattern or config.pattern,
        reader=reader,
        recordings=[seen for _, seen in chosen],
        n_recordings=len(chosen) + len(opened.unseen),
        others=others,
        left_out=left_out,
        matched=[] if pattern else sorted(unwanted, key=natural_key),
        attention=facts.get("attention", ""),
        in_pieces=reader.files is None and len(set(pieces)) < len(pieces),
    )


def _names(folder: Path, recordings: Iterable[Recording]) -> list[str]:
    """Files of recordings, or their folders, below the folder that is looked at."""
    paths = [path for one in recordings for path in ((one.path,) if one.path.is_dir() else one.files)]
    return [relative_path(path, folder) for path in paths]


def size_in_words(shape: Sequence[int]) -> str:
    """Say how large frames of (H, W, C) are."""
    height, width, n_channels = shape
    return f"{height} x {width}" + (f" with {n_channels} channels" if n_channels > 1 else "")


def _narrower(pattern: str, wanted: Sequence[str], unwanted: Collection[str]) -> str:
    """Return a pattern that matches what is wanted and nothing that is not, by how the names begin or end, or none."""
    if not unwanted:
        return pattern
    place, slash, last = pattern.rpartition("/")
    ending = last.removeprefix("*")
    if not last.startswith("*"):
        return ""
    names, others = ([name.rpartition("/")[2] for name in some] for some in (wanted, unwanted))
    stems = [name.removesuffix(ending) for name in names]
    begin = os.path.commonprefix(stems)  # noqa: RUF071, of names
    end = os.path.commonprefix([stem[::-1] for stem in stems])[::-1]  # noqa: RUF071
    ways = [glob.escape(stem) for stem in set(stems) if len(set(stems)) == 1]
    ways += [f"{glob.escape(text)}*" for text in (begin.rstrip("0123456789"), begin) if text]
    ways += [f"*{glob.escape(end)}"] if end else []
    ways += [f"{glob.escape(begin)}*{glob.escape(end)}"] if begin and end else []
    for way in (f"{way}{ending}" for way in ways):
        if all(fnmatchcase(name, way) for name in names) and not any(fnmatchcase(name, way) for name in others):
            return f"{place}{slash}{way}"
    return ""
