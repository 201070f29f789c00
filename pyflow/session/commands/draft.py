"""The text of a first ``session.toml``: what was seen in a folder, and every key that may be set."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pyflow.io import ReaderOptions
from pyflow.session.commands.explained import default_of, described
from pyflow.session.config import SessionConfig
from pyflow.session.recordings import stored_path
from pyflow.session.survey import MOST_OPENED, Seen, Survey, several, size_in_words

_WIDTH = 100
_MOST_LINES = 30  # of recordings that are listed

# What a key without a default may look like.
_FOR_EXAMPLE = {"memory_limit_gb": "16", "stage1_quality_setting": '"balanced"'}

# Options of the flow that people change first.
_FLOW = {
    "quality_setting": ("quality", 'how fine the flow is solved; "balanced" and "fast" take less time'),
    "alpha": ("auto", "how smooth the flow is; found from the noise, or a number; larger is smoother"),
    "reference_frames": ("50:500", "frames that the reference is made from"),
    "save_w": (False, "keep the displacement of every frame, which pyflow-session apply needs"),
}

_RULE = "# " + "-" * (_WIDTH - 2)


def draft(survey: Survey, path: Path) -> str:
    """Write the session of what was seen.

    Parameters
    ----------
    survey
        What was seen.
    path
        Where the text will be kept: paths in it are relative to that, and results lie beside it.
    """
    shown = {"root", "pattern", "center", "output_root", "final_results", "reader", "flow_options"}
    parts = [
        _head(survey, path.name),
        _places(survey, path),
        _center(survey),
        _further(shown),
        _reader(survey),
        _flow(),
    ]
    return "\n".join(line for part in parts for line in (*part, ""))


def _comment(text: str, first: str = "# ", then: str = "# ") -> list[str]:
    """Break a text into comments; what TOML allows in none, such as a line break in a file's name, becomes ?."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return textwrap.wrap(clean, _WIDTH, initial_indent=first, subsequent_indent=then, break_long_words=False) or ["#"]


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # which JSON allows as it is, and TOML not


def _place(path: Path, folder: Path) -> str:
    """Return a path relative to a folder that it is below, or else the whole of it."""
    relative = stored_path(path, folder)
    return str(path) if relative.startswith("..") else relative


def _head(survey: Survey, name: str) -> Iterator[str]:
    n = survey.n_recordings
    yield f"# {'One recording was' if n == 1 else f'{n} recordings were'} found:"
    yield from _table(survey.recordings)
    if len(survey.recordings) < n:
        yield f"# Only the first {MOST_OPENED} were opened."
    sizes: dict[str, list[str]] = {}
    for seen in survey.recordings:
        sizes.setdefault(size_in_words(seen.shape[1:]), []).append(seen.name)
    if len(sizes) > 1:
        yield "#"
        yield "# ATTENTION: their frames are not of one size, and only recordings of one size can be a session."
        yield "# Move those of other sizes elsewhere, or choose by another pattern:"
        for size, names in sizes.items():
            yield from _comment(f"{size}: {several(names)}", "#   ", "#     ")
    if survey.attention:
        yield from _comment(f"ATTENTION: {survey.recordings[0].name}: {survey.attention}.")
    for reason, names in survey.left_out.items():
        yield from _comment(f"Left out: {several(names)}: {reason}.", then="#   ")
    if survey.matched:
        yield from _comment(
            f"ATTENTION: the pattern below matches {several(survey.matched)} as well. Move such files elsewhere.",
            then="#   ",
        )
    yield "#"
    yield f"# pyflow-session info {name}      says how each recording is opened, and where that was read from"
    yield f"# pyflow-session {name}           runs everything; repeated, it goes on where it stopped"
    yield "#"
    yield "# A line that begins with # says nothing to pyflow: remove the # to set the key in it."


def _table(recordings: list[Seen]) -> Iterator[str]:
    rows = [("", "frames", "rows x columns", "channels", "planes", "frames per s")]
    for seen in recordings[:_MOST_LINES]:
        n_frames, height, width, n_channels = seen.shape
        rate = "not said" if seen.frame_rate_hz is None else f"{seen.frame_rate_hz:.4g}"
        name = "".join(c if c.isprintable() else "?" for c in seen.name)
        rows.append((name, str(n_frames), f"{height} x {width}", str(n_channels), str(seen.n_planes), rate))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *facts in rows:
        columns = (fact.rjust(width) for fact, width in zip(facts, widths[1:], strict=True))
        yield f"#   {'  '.join([name.ljust(widths[0]), *columns])}"
    if len(recordings) > _MOST_LINES:
        yield f"#   and {len(recordings) - _MOST_LINES} more"


def _places(survey: Survey, path: Path) -> Iterator[str]:
    root = _place(survey.folder, path.parent)
    yield from _comment("The folder with the recordings, relative to this file.")
    yield f"root = {_value(root)}"
    yield ""
    yield from _comment('Which files are the recordings; "**/*.tif" looks in all folders below as well.')
    yield f"pattern = {_value(survey.pattern)}"
    if survey.others:
        yield from _comment("Other files that may be recordings; each pattern is a session of its own:")
        for pattern, n_files in survey.others.items():
            yield f"# pattern = {_value(pattern)}  # {n_files} {'file' if n_files == 1 else 'files'}"
    yield ""
    yield from _comment("Where the results go: a folder for each recording, and one for all of them.")
    for name in ("output_root", "final_results"):
        default = Path(str(SessionConfig.model_fields[name].default))
        place = default if root == "." else path.parent / default
        yield f"{name} = {_value(str(place))}"


def _center(survey: Survey) -> Iterator[str]:
    names = [seen.name for seen in survey.recordings]
    middle = names[(len(names) - 1) // 2]
    yield from _comment(
        f"The recording that the others are aligned to. As it is now, the middle one: {middle}. "
        '"auto" chooses the one whose average resembles the others\' most.'
    )
    yield f"# center = {_value(middle)}"
    yield '# center = "auto"'


def _further(shown: set[str]) -> Iterator[str]:
    yield _RULE
    yield "# All other keys, with their defaults."
    for names, text in described(SessionConfig):
        if shown.isdisjoint(names):
            yield ""
            yield from _comment(text)
            for name in names:
                yield f"# {name} = {default_of(SessionConfig, name) or _FOR_EXAMPLE.get(name, '...')}"


def _reader(survey: Survey) -> Iterator[str]:
    yield _RULE
    yield "# How the recordings are opened, where their files do not say it."
    yield "[reader]"
    given = survey.reader.given()
    n_planes = max(seen.n_planes for seen in survey.recordings)
    if n_planes > 1:
        yield from _comment(
            f"Of {n_planes} planes this one, counted from 0; each plane is a session of its own, with its own "
            "output_root and final_results."
        )
    for name, value in given.items():
        yield f"{name} = {_value(value)}"
    if survey.in_pieces:
        yield from _comment("If files whose names differ in the last number only are pieces of one recording:")
        yield '# files = "time"'
    if "frame_rate" not in given and any(seen.frame_rate_hz is None for seen in survey.recordings):
        yield from _comment("Frames per second, which the files do not say; for plots and for the next program.")
        yield "# frame_rate = 30"
    for name, text in (("n_channels", "2"), ("channels", "[0]"), ("frames", '"0:1000"')):
        if name not in given:
            yield from _comment(next(said for names, said in described(ReaderOptions) if name in names))
            yield f"# {name} = {text}"


def _flow() -> Iterator[str]:
    yield _RULE
    yield "# How motion is found. In Python, help(pyflow.OFOptions) explains all options."
    yield "[flow_options]"
    for name, (default, text) in _FLOW.items():
        yield f"# {f'{name} = {_value(default)}':<32}# {text}"
