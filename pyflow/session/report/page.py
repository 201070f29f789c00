"""The report as a file: one page of a session, or of a recording, written whole or not at all."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pyflow import __version__
from pyflow.align.trust import ALIGNED
from pyflow.io import ReaderOptions
from pyflow.io.atomic import remove_leftovers, replacing
from pyflow.layout import DEPTH_FILE, REPORT_FILE, RESULT_FILE, find_video, fingerprint_of_several, read_npz
from pyflow.session.artifacts import STAGES, make_key, read_marker
from pyflow.session.claims import claim
from pyflow.session.config import SessionConfig
from pyflow.session.keys import stage1_options
from pyflow.session.recordings import Recording, find_compensated
from pyflow.session.report import figures
from pyflow.session.report.content import (
    FINE,
    LOOK,
    UNREADABLE,
    WORDS,
    Centre,
    Given,
    RecordingReport,
    finished,
    flat,
    read_first_average,
    recording_report,
    say_standings,
    share_of,
)
from pyflow.session.report.figures import Detail, Picture
from pyflow.session.status import Standing

logger = logging.getLogger(__name__)

HOW_TO_GET_IT = 'it needs jinja2 and matplotlib: pip install "pyflow-2p[report]", then: pyflow-session report'

_VERSION = 1  # of what a report shows; part of what tells whether one is of today
_KEY = "<!-- made from {} -->"
_HEAD_BYTES = 4096

# A page stays below 20 MB: of many recordings the images are smaller, and of very many only the worst are shown.
_PIXELS = 100 * 320**2
_SIDES = 224, 512
_BYTES = 2_400_000  # of each of a recording's four or five images, over all recordings
_MOST_BYTES = 200_000
MOST_SHOWN = 200

Standings = Mapping[str, Mapping[str, Standing]]


@dataclass
class Page:
    """What the template shows.

    Parameters
    ----------
    title, headline
        Of the page.
    verdict
        The worst of its recordings, a word.
    recordings
        Worst first.
    sentences
        About the session.
    n_rest
        Recordings that stand in the table only.
    """

    title: str
    headline: str
    recordings: list[RecordingReport]
    whole_session: bool
    verdict: str = WORDS[FINE]
    sentences: list[str] = field(default_factory=list)
    n_rest: int = 0
    mask: Picture | None = None
    share: Picture | None = None
    options: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    made: str = ""
    version: str = __version__
    words: tuple[str, ...] = WORDS


def save_session_report(
    config: SessionConfig, standings: Standings, session: Standing, *, keep: bool = False
) -> Path | None:
    """Write the session's report.

    Parameters
    ----------
    config
        The session.
    standings
        By recording and by stage's title, how far they are.
    session
        How far stage 3 is.
    keep
        Leave one that shows the results of today as it is.

    Returns
    -------
    Path or None
        The report; None where jinja2 or matplotlib is not installed, which is logged.

    Raises
    ------
    FileNotFoundError, ValueError
        The inputs are not as the configuration says.
    OSError
        It cannot be written.
    """
    recordings = find_compensated(config)
    path = config.final_results / REPORT_FILE
    markers = {recording.name: _markers(recording.folder) for recording in recordings}
    stage3 = read_marker(config.final_results, STAGES[2]) or {}
    key = make_key(
        {
            "report": [_VERSION, __version__],
            "stage3": [stage3.get("key"), session.word, session.why],
            "recordings": {
                name: [*(marker.get("key") for marker in found.values()), *map(str, standings[name].values())]
                for name, found in markers.items()
            },
            **_depths(recordings),
        }
    )
    if keep and _made_from(path) == key:
        return path
    if not is_available():
        return None
    page = _session_page(config, recordings, markers, standings, session, stage3)
    _save(path, page, key)
    return path


def save_recording_report(given: Given) -> Path | None:
    """Write the report of one recording into its folder; returns and raises as `save_session_report`.

    Raises
    ------
    FileNotFoundError
        The folder holds no registered recording, and nothing says why.
    """
    if find_video(given.folder) is None and not given.standings:
        raise FileNotFoundError(f"{given.folder}: there is no registered recording, expected compensated.hdf5 or .tif")
    if not is_available():
        return None
    report = recording_report(given, detail_of(1))
    page = Page(given.name, report.sentences[0], [report], False, report.word)
    page.options = [("stage 1", report.options)] if report.options else []
    report.options = {}
    path = given.folder / REPORT_FILE
    _save(path, page, "one recording")
    return path


def given_of(config: SessionConfig, recording: Recording, standings: Mapping[str, Standing]) -> Given:
    """Return what a report is told about a session's recording."""
    source, markers = None, _markers(recording.folder)
    if recording.path is not None:
        options = stage1_options(config, recording)
        source = (options.input_file, options.reader, options.channel_idx, options.bin_size)
    changed = _input_changed(config, recording, markers["stage1"])
    return Given(recording.name, recording.folder, markers, standings, source, changed)


def _input_changed(config: SessionConfig, recording: Recording, stage1: Mapping[str, Any]) -> bool:
    """Tell whether a recording is not what stage 1 read; of a file, its time of change alone does not say so."""
    known = stage1.get("input") or stage1.get("parts", {}).get("input")
    if recording.path is None or not isinstance(known, dict):
        return False
    try:
        kind = "lenient" if len(recording.files) == 1 else config.fingerprint
        found = fingerprint_of_several(recording.files, kind, known)
    except OSError:  # who opens it says why
        return False
    return any(known[name] != found[name] for name in known.keys() & found.keys())


def given_of_folder(folder: Path, source: Path | None = None) -> Given:
    """Return what a report is told about a folder that `compensate_recording` made, and the file it was made from.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    """
    if source is not None and not source.exists():
        raise FileNotFoundError(f"{source}: there is no such file")
    folder = folder.absolute()
    return Given(
        folder.name, folder, _markers(folder), {}, None if source is None else (source, ReaderOptions(), None, 1)
    )


def try_report(write: Callable[[], Path | None]) -> Path | None:
    """Write a report; where that fails, say so: what it is about is finished all the same."""
    try:
        return write()
    except Exception as error:  # whatever a report fails with, it fails no session
        logger.warning("there is no report: %s: %s", type(error).__name__, error)
        logger.debug("the report failed", exc_info=error)
        return None


def is_available() -> bool:
    """Tell whether reports can be made, and log how to get them where not."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError:
        logger.warning("there is no report: %s", HOW_TO_GET_IT)
        return False
    return True


def detail_of(n_recordings: int) -> Detail:
    """Return how large the images of so many recordings may be."""
    n_shown = min(max(n_recordings, 1), MOST_SHOWN)
    side = int(np.clip((_PIXELS / n_shown) ** 0.5, *_SIDES))
    return Detail(side, min(_MOST_BYTES, _BYTES // n_shown))


def _markers(folder: Path) -> dict[str, dict[str, Any]]:
    return {stage: read_marker(folder, stage) or {} for stage in STAGES[:2]}


def _depths(recordings: Sequence[Recording]) -> dict[str, dict[str, int]]:
    """Tell when depths were found that a report shows; they are no stage, and may come after it."""
    found = {}
    for recording in recordings:
        with contextlib.suppress(OSError):  # not looked for, or in a folder that may not be read
            found[recording.name] = (recording.folder / f"{DEPTH_FILE}.npz").stat().st_mtime_ns
    return {"depths": found} if found else {}


def _made_from(path: Path) -> str:
    """Return the key of a report, empty without one."""
    try:
        with open(path, encoding="utf-8") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return ""
    before, after = _KEY.split("{}")
    return head.partition(before)[2].partition(after)[0]


def _session_page(
    config: SessionConfig,
    recordings: Sequence[Recording],
    markers: Mapping[str, Mapping[str, Any]],
    standings: Standings,
    session: Standing,
    stage3: Mapping[str, Any],
) -> Page:
    detail = detail_of(len(recordings))
    centre = _centre(config, recordings, markers, stage3)
    given = [given_of(config, recording, standings[recording.name]) for recording in recordings]
    shown = {recording.name for recording in sorted(given, key=_looks_well)[:MOST_SHOWN]}
    reports = [
        _report_or_why(recording, detail if recording.name in shown else None, centre, config.final_results)
        for recording in given
    ]
    reports.sort(key=lambda report: report.verdict)
    page = Page(
        title=config.root.name or str(config.root),
        headline=_headline(reports),
        recordings=reports,
        whole_session=True,
        verdict=reports[0].word,
        n_rest=len(reports) - len(shown),
    )
    _tell_session(page, config, session, stage3, centre, detail)
    _share_options(page, stage3, markers)
    return page


def _report_or_why(given: Given, detail: Detail | None, centre: Centre | None, final: Path) -> RecordingReport:
    """Return a recording's part; one whose files nobody expected to be like that costs the others nothing."""
    try:
        return recording_report(given, detail, centre, final)
    except UNREADABLE as error:
        logger.warning("%s: its part of the report could not be made: %s", given.name, error, exc_info=error)
        report = RecordingReport(given.name)
        say_standings(report, given)
        report.say(LOOK, f"Its part of the report could not be made: {type(error).__name__}: {error}.")
        return report


def _looks_well(given: Given) -> bool:
    """Tell whether nothing speaks against a recording in what the stages said of it."""
    stages_done = all(given.standings[stage].word == "done" for stage in ("stage 1", "stage 2"))
    aligned = given.markers["stage2"].get("alignment", {}).get("verdict") == ALIGNED
    return stages_done and aligned and not given.markers["stage1"].get("problems")


def _centre(
    config: SessionConfig, recordings: Sequence[Recording], markers: Mapping[str, Any], stage3: Mapping[str, Any]
) -> Centre | None:
    """Return what stage 2 took for the centre; None where it has not run."""
    named = [found["stage2"].get("center") for found in markers.values()] + [stage3.get("center")]
    name = next((name for name in named if isinstance(name, str)), None)
    recording = next((recording for recording in recordings if recording.name == name), None)
    if recording is None:
        return None
    try:
        return Centre(recording.name, read_first_average(recording.folder))
    except UNREADABLE:
        return Centre(recording.name, None)  # its own part of the report says why


def _headline(reports: Sequence[RecordingReport]) -> str:
    """Say how the recordings are, worst first."""
    counts = Counter(report.verdict for report in reports)
    total = "One recording" if len(reports) == 1 else f"{len(reports)} recordings"
    if counts[FINE] == len(reports):
        return f"{total}. Nothing speaks against {'it' if len(reports) == 1 else 'any of them'}."
    parts = []
    for verdict, word in enumerate(WORDS):
        if counts[verdict]:
            verb = "" if word == "failed" else "is " if counts[verdict] == 1 else "are "
            parts.append(f"{counts[verdict]} {verb}{word}")
    return f"{total}: {', '.join(parts)}."


def _tell_session(
    page: Page,
    config: SessionConfig,
    session: Standing,
    stage3: Mapping[str, Any],
    centre: Centre | None,
    detail: Detail,
) -> None:
    if centre is not None:
        page.sentences.append(f"All are aligned to {centre.name}.")
    if session.word == "waits":
        page.sentences.append(
            f"The final mask is of the last run: stage 3 {session.why}." if stage3 else f"Stage 3 {session.why}."
        )
    elif session.word != "done":
        page.sentences.append(f"Stage 3 is {session.word}: {session.why}.")
    path = config.final_results / f"{RESULT_FILE}.npz"
    if stage3:
        try:
            data = read_npz(path, ("final_valid", "valid_share"))
            valid, share = data["final_valid"], data["valid_share"]
            page.sentences.append(f"{share_of(valid)} are valid in every recording that counts.")
            page.mask = figures.mask_picture(valid, "pixels valid in every recording")
            page.share = figures.share_picture(share, detail, "share of the frames in which a pixel is valid")
        except UNREADABLE as error:
            page.sentences.append(f"The final mask is not shown: {error}.")
        page.facts.append(("stage 3", finished(stage3)))
        versions = stage3.get("versions", {})
        page.facts.append(("versions in stage 3", ", ".join(f"{name} {version}" for name, version in versions.items())))
    page.facts = [
        ("recordings", f"{config.root} ({config.pattern})"),
        ("results", str(config.final_results)),
        *page.facts,
    ]


def _share_options(page: Page, stage3: Mapping[str, Any], markers: Mapping[str, Mapping[str, Any]]) -> None:
    """Show options of all recordings once, and with each recording only those in which it differs."""
    known = [report.options for report in page.recordings if report.options]
    common = dict(known[0].items() & _common(known)) if known else {}
    for report in page.recordings:
        report.options = {name: value for name, value in report.options.items() if common.get(name) != value}
    second = [flat(found["stage2"]["parts"].get("options", {})) for found in markers.values() if found["stage2"]]
    third = flat(stage3["parts"].get("options", {})) if stage3 else {}
    groups = [("stage 1", common), ("stage 2", second[0] if second else {}), ("stage 3", third)]
    page.options = [(title, dict(sorted(options.items()))) for title, options in groups if options]


def _common(options: Sequence[Mapping[str, str]]) -> set[tuple[str, str]]:
    return set.intersection(*(set(found.items()) for found in options))


def _save(path: Path, page: Page, key: str) -> None:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    page.made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html")
    with claim(path.parent):
        remove_leftovers(path.parent)  # of a process that was killed while it wrote a report
        with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file:
            template.stream(page=page, key=key).dump(file)
    logger.info("report: %s (%.1f MB)", path, path.stat().st_size / 1e6)
