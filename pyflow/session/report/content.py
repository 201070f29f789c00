"""What a report says: gathered from the files that the stages left, in words and pictures.

What is not there is said, not guessed: every part that cannot be shown leaves a sentence in its place.
"""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.align import trust
from pyflow.flow.warp import imregister, valid_mask
from pyflow.io import open_video
from pyflow.layout import (
    AVERAGE_FILE,
    DEPTH_FILE,
    FIELD_FILE,
    FLOW_DATASETS,
    MASK_FILE,
    META_FILES,
    find_video,
    open_compensated,
    read_npz,
)
from pyflow.motion.depth import DepthEstimate
from pyflow.motion.frames import FrameSource
from pyflow.motion.quality import PROBLEMS
from pyflow.plots.drawing import grey_limits
from pyflow.session.artifacts import read_mask
from pyflow.session.report import figures
from pyflow.session.report.comparison import Comparison, compare
from pyflow.session.report.figures import Detail, Picture
from pyflow.session.status import Standing
from pyflow.session.zshift import doubts

logger = logging.getLogger(__name__)

# What a damaged or foreign file may raise; the report says so in its place and goes on.
UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, TypeError, EOFError, MemoryError, AttributeError, IndexError)

# Verdicts, worst first.
FAILED, NOT_ALIGNABLE, DOUBTFUL, UNFINISHED, LOOK, FINE = range(6)
WORDS = ("failed", trust.NOT_ALIGNABLE, trust.DOUBTFUL, "not finished", "to look at", "fine")

_MANY_MARKED = 0.05  # of the frames
_WORSE = 0.01  # of the frames' correlation with their mean
_LISTED = 12  # marked frames that are listed one by one


@dataclass
class RecordingReport:
    """One recording's part of a report.

    Parameters
    ----------
    name
        Of the recording.
    verdict
        One of the verdicts, `FAILED` to `FINE`.
    shown
        It has a part of its own, and not a line in the table only.
    sentences
        The verdict in plain words.
    missing
        What cannot be shown, and why.
    numbers
        What was measured: names and values.
    before, after, curves, overlay_before, overlay_after, displacement, mask, depth
        Pictures, as far as they can be drawn.
    marked
        Causes and the frames that were not registered for them.
    facts
        Names and values about inputs, versions and timings.
    options
        Of stage 1, flat.
    """

    name: str
    verdict: int = FINE
    shown: bool = True
    sentences: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    numbers: list[tuple[str, str]] = field(default_factory=list)
    before: Picture | None = None
    after: Picture | None = None
    curves: Picture | None = None
    overlay_before: Picture | None = None
    overlay_after: Picture | None = None
    displacement: Picture | None = None
    mask: Picture | None = None
    depth: Picture | None = None
    marked: list[tuple[str, str]] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    row: dict[str, str] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """The verdict as a word."""
        return WORDS[self.verdict]

    def say(self, verdict: int, sentence: str) -> None:
        """Add a sentence, and make the verdict that bad."""
        self.verdict = min(self.verdict, verdict)
        self.sentences.append(sentence)


@dataclass(frozen=True)
class Given:
    """What a report is told about a recording beside its folder.

    Parameters
    ----------
    name, folder
        Of the recording.
    markers
        By stage, what `mark_done` stored; empty where there is none.
    standings
        By stage's title, how far it is; empty for a recording without a session.
    source
        What stage 1 read: the input as `open_video` takes it, the reader's options, channels and bin size. None: not
        known.
    changed
        What is there now is not what stage 1 read.
    """

    name: str
    folder: Path
    markers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    standings: Mapping[str, Standing] = field(default_factory=dict)
    source: tuple[Any, Any, Any, int] | None = None
    changed: bool = False


@dataclass(frozen=True)
class Centre:
    """The recording that others are aligned to, and its first channel's average, None where that cannot be read."""

    name: str
    average: np.ndarray | None


def read_first_average(folder: Path) -> np.ndarray:
    """Read the first channel of a recording's temporal average, float64 (H, W).

    Raises
    ------
    ValueError
        It is no image, or there is nothing in it.
    OSError
        It cannot be read.
    """
    path = folder / AVERAGE_FILE
    try:
        image = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if image.ndim not in (2, 3) or 0 in image.shape or image.dtype.kind not in "uif":
        raise ValueError(f"{path}: expected an average (H, W) or (H, W, C), found {image.dtype} of shape {image.shape}")
    image = np.asarray(image if image.ndim == 2 else image[..., 0], np.float64)
    finite = image[np.isfinite(image)]
    if not finite.size or finite.min() == finite.max():
        raise ValueError(f"{path} holds no image: {'nothing is finite' if not finite.size else 'all pixels are equal'}")
    return image


def recording_report(
    given: Given, detail: Detail | None, centre: Centre | None = None, final: Path | None = None
) -> RecordingReport:
    """Gather what is known about a recording.

    Parameters
    ----------
    given
        The recording.
    detail
        How large its images are; None: it has none, and its frames are not looked at.
    centre
        What it is aligned to; None: without a session.
    final
        The folder of the session's results; None: without a session.
    """
    report = RecordingReport(given.name, shown=detail is not None)
    say_standings(report, given)
    stage1 = given.markers.get("stage1", {})
    statistics = _statistics(report, given)
    marked = _marked(report, given, statistics)
    comparison = None if detail is None else _comparison(report, given, marked)
    average = None
    try:
        average = read_first_average(given.folder)
    except UNREADABLE as error:
        if stage1 or find_video(given.folder):
            report.say(LOOK, f"Its average cannot be used: {error}.")
    if detail is not None:
        _draw_means(report, comparison, average, detail)
        _draw_curves(report, comparison, statistics, marked)
    _judge_stage1(report, given, comparison, statistics, marked)
    _say_depth(report, given, detail)
    if centre is not None:
        _say_alignment(report, given, centre)
        if detail is not None:
            _draw_between(report, given, centre, average, detail, final)
    _tell_facts(report, given, stage1)
    if not report.sentences:
        report.sentences.append("Nothing speaks against it.")
    return report


def say_standings(report: RecordingReport, given: Given) -> None:
    """Say which stages are not done, and make the verdict that bad."""
    stages = {title: standing for title, standing in given.standings.items() if title != "alignment"}
    for title, standing in stages.items():
        if standing.word == "failed":
            report.say(FAILED, f"{title.capitalize()} failed: {standing.why}.")
        elif standing.word not in ("done", "waits"):
            why = f" ({standing.why})" if standing.why else ""
            report.say(UNFINISHED, f"{title.capitalize()} is {standing.word}{why}.")
        elif standing.word == "waits" and given.markers.get(f"stage{title[-1]}"):
            report.missing.append("What is said of its alignment is of the last run.")
        elif standing.word == "waits" and report.verdict == FINE:
            report.say(UNFINISHED, f"{title.capitalize()} has not run yet: it {standing.why}.")


def _statistics(report: RecordingReport, given: Given) -> dict[str, np.ndarray]:
    name = META_FILES[2]
    if not (given.folder / name).is_file():
        if find_video(given.folder):
            report.missing.append(f"Displacement and misfit over time are not shown: there is no {name}.")
        return {}
    try:
        return read_npz(given.folder / name)
    except UNREADABLE as error:
        report.missing.append(f"Displacement and misfit over time are not shown: {error}.")
        return {}


def _marked(report: RecordingReport, given: Given, statistics: dict[str, np.ndarray]) -> set[int]:
    """Return the frames that were not registered, and say why."""
    problems = given.markers.get("stage1", {}).get("problems")
    if problems is None and "problem" in statistics:
        problems = {int(t): PROBLEMS[int(statistics["problem"][t])] for t in np.flatnonzero(statistics["problem"])}
    if problems is None and "mean_disp" in statistics:
        problems = dict.fromkeys(np.flatnonzero(np.isnan(statistics["mean_disp"])).tolist(), "the cause is not stored")
    by_cause: dict[str, list[int]] = {}
    for frame, cause in (problems or {}).items():
        by_cause.setdefault(cause, []).append(int(frame))
    for cause, frames in by_cause.items():
        more = f" and {len(frames) - _LISTED} more" if len(frames) > _LISTED else ""
        report.marked.append((cause, ", ".join(map(str, frames[:_LISTED])) + more))
    return {int(frame) for frame in problems or ()}


def _comparison(report: RecordingReport, given: Given, marked: set[int]) -> Comparison | None:
    """Compare frames before and after; where the recording is gone, look at those after alone."""
    video = find_video(given.folder)
    if video is None:
        if given.markers.get("stage1"):
            report.missing.append("Its frames are not shown: the registered video is missing.")
        return None
    masks = given.folder / MASK_FILE
    try:
        with ExitStack() as stack:
            registered = stack.enter_context(open_compensated(video))
            recorded = None
            if given.source is None:
                report.missing.append("The recording as it was before is not shown: its file is not known.")
            elif given.changed:  # of one size they would be shown beside each other as if one came from the other
                path = _input_of(given.source)
                report.missing.append(
                    f"The recording as it was before is not shown: {path} changed since stage 1 read it."
                )
            else:
                path, reader, channels, bin_size = given.source
                try:
                    recorded = FrameSource(stack.enter_context(open_video(path, reader)), channels, bin_size)
                    return compare(recorded, registered, masks if masks.is_file() else None, marked)
                except UNREADABLE as error:
                    report.missing.append(f"The recording as it was before is not shown: {error}.")
            return compare(None, registered, masks if masks.is_file() else None, marked)
    except UNREADABLE as error:
        report.missing.append(f"Its frames are not shown: {error}.")
    return None


def _draw_means(
    report: RecordingReport, comparison: Comparison | None, average: np.ndarray | None, detail: Detail
) -> None:
    after = average if comparison is None else comparison.mean_after
    if after is None:
        return
    limits = grey_limits(after)
    report.after = figures.photograph(after, detail, f"mean image of {report.name}, registered", limits)
    if comparison is not None and comparison.mean_before is not None:
        report.before = figures.photograph(
            comparison.mean_before, detail, f"mean image of {report.name}, as recorded", limits
        )


def _draw_curves(
    report: RecordingReport, comparison: Comparison | None, statistics: dict[str, np.ndarray], marked: set[int]
) -> None:
    correlations = {}
    if comparison is not None:
        pairs = (("before", comparison.correlation_before), ("after", comparison.correlation_after))
        correlations = {name: values for name, values in pairs if values is not None}
    known = {name: statistics[name] for name in ("mean_disp", "max_disp", "misfit") if name in statistics}
    known = known if {"mean_disp", "max_disp", "misfit"} <= known.keys() else {}
    if not known and not correlations:
        return
    frames = np.zeros(0, int) if comparison is None else comparison.frames
    alt = f"displacement, correlation with the mean, and misfit of the frames of {report.name}"
    report.curves = figures.curves(known, frames, correlations, marked, alt)


def _judge_stage1(
    report: RecordingReport,
    given: Given,
    comparison: Comparison | None,
    statistics: dict[str, np.ndarray],
    marked: set[int],
) -> None:
    stage1 = given.markers.get("stage1", {})
    n_frames = stage1.get("frames") or (len(statistics["mean_disp"]) if "mean_disp" in statistics else None)
    numbers, row = report.numbers, report.row
    if n_frames:
        numbers.append(("frames", str(n_frames)))
    if "mean_disp" in statistics and not np.isnan(statistics["mean_disp"]).all():
        mean, most = (float(np.nanmean(statistics[name])) for name in ("mean_disp", "max_disp"))
        largest = float(np.nanmax(statistics["max_disp"]))
        numbers.append(("displacement, mean over pixels and frames", f"{mean:.2f} px"))
        numbers.append(("largest of a frame, mean over frames", f"{most:.2f} px"))
        numbers.append(("largest of all", f"{largest:.2f} px"))
        row["motion"] = f"{mean:.2f} px (to {largest:.1f})"
    if "misfit" in statistics and not np.isnan(statistics["misfit"]).all():
        misfit = statistics["misfit"]
        numbers.append(("misfit, median and largest", f"{np.nanmedian(misfit):.3g}, {np.nanmax(misfit):.3g}"))
    if comparison is not None:
        after = float(comparison.correlation_after.mean())
        text, sharp = f"{after:.3f}", _plain(comparison.crispness_after)
        if comparison.correlation_before is not None:
            before = float(comparison.correlation_before.mean())
            text = f"{before:.3f} → {after:.3f}"
            gain = comparison.crispness_after / max(comparison.crispness_before, 1e-12)
            sharp = f"{_plain(comparison.crispness_before)} → {_plain(comparison.crispness_after)} ({gain:.2f}-fold)"
            row["sharpness"] = f"{gain:.2f}-fold"
            if after < before - _WORSE:
                report.say(LOOK, f"Its frames resemble their mean less than before ({text}).")
        numbers.append((f"correlation of frames with their mean, {len(comparison.frames)} frames", text))
        numbers.append(("sharpness (norm of the smoothed mean's gradient)", sharp))
        row["correlation"] = text
    for name, key in (("alpha found or given (x, y)", "alpha"), ("noise of a frame's deformation", "noise_px")):
        value = stage1.get(key, statistics.get(key))
        if value is not None:
            values = np.atleast_1d(np.asarray(value, float))
            text = ", ".join(f"{x:.4g}" for x in values)
            if key == "noise_px":
                text = f"{text} px" if values.any() else "not known"
            numbers.append((name, text))
    if n_frames:
        row["marked"] = f"{len(marked)} of {n_frames}"
    if marked:
        who = "frame was" if len(marked) == 1 else "frames were"
        share = f" ({len(marked) / n_frames:.1%} of {n_frames})" if n_frames else ""
        many = n_frames is not None and len(marked) > _MANY_MARKED * n_frames
        sentence = f"{len(marked)} {who} not registered{share}: {'; '.join(cause for cause, _ in report.marked)}."
        report.say(LOOK if many else FINE, sentence)
    period = stage1.get("period", 1)
    if isinstance(period, int) and period > 1:
        report.say(
            LOOK,
            f"Only every {period}. frame shows the same: {period} channels or planes may have been taken for frames.",
        )


def _say_depth(report: RecordingReport, given: Given, detail: Detail | None) -> None:
    """Say how far the focus drifted, where somebody looked for that (`pyflow.session.zshift`)."""
    path = given.folder / f"{DEPTH_FILE}.npz"
    try:
        if not path.is_file():
            return
        found = DepthEstimate.load(path)
        known = found.smoothed[np.isfinite(found.smoothed)]
        if not known.size:
            report.sentences.append("Its depth is not known: no frame shows anything.")
            return
        low, high = float(known.min()), float(known.max())
        report.sentences.append(
            f"Its focus drifted by {high - low:.2f} planes of the stack: between {low:.2f} and {high:.2f}."
        )
        for doubt in doubts(found):
            report.say(LOOK, f"Its depth is doubtful: {doubt}.")
        if detail is not None:
            alt, n_planes = f"depth of the focus of {report.name} over time", found.correlation.shape[1]
            report.depth = figures.depth_picture(found.depth, found.smoothed, n_planes, alt)
    except UNREADABLE as error:
        report.missing.append(f"Its depth is not shown: {error}.")


def _draw_between(
    report: RecordingReport,
    given: Given,
    centre: Centre,
    average: np.ndarray | None,
    detail: Detail,
    final: Path | None,
) -> None:
    """Show where the recording lies in the centre's frame, and whether that can be believed."""
    if given.markers.get("stage2") and given.name != centre.name:
        try:
            data = read_npz(given.folder / FIELD_FILE)
            w = np.stack([data[name] for name in FLOW_DATASETS], axis=-1).astype(np.float32)
            residual = data.get("residual_px")
            valid = valid_mask(w)
            alt = f"displacement of {report.name} against the centre {centre.name}, and what is left in tiles"
            report.displacement = figures.field_picture(w, valid, residual, detail, alt)
            length = np.linalg.norm(w, axis=-1)[valid] if valid.any() else np.zeros(1)
            report.numbers.append(
                ("moved against the centre, mean and largest", f"{length.mean():.2f}, {length.max():.2f} px")
            )
            if average is not None and centre.average is not None:
                _draw_overlays(report, centre, average, w, detail)
        except UNREADABLE as error:
            report.say(LOOK, f"Its displacement against the centre cannot be shown: {error}.")
    if final is not None:
        path = final / f"{given.name}_valid_idx_aligned.png"
        if path.is_file():
            try:
                mask = read_mask(path)
                if not mask.any():
                    report.sentences.append("It is left out of the session's mask.")
                    return
                report.mask = figures.mask_picture(mask, f"pixels of {report.name} valid in the centre's frame")
                report.numbers.append(("valid in the centre's frame", share_of(mask)))
            except UNREADABLE as error:
                report.missing.append(f"Its mask is not shown: {error}.")


def _draw_overlays(report: RecordingReport, centre: Centre, average: np.ndarray, w: np.ndarray, detail: Detail) -> None:
    if average.shape != centre.average.shape or w.shape[:2] != average.shape:
        report.say(
            LOOK,
            f"Its average has shape {average.shape} and its displacement {w.shape[:2]}, the centre's average "
            f"{centre.average.shape}: they cannot be laid on top of each other.",
        )
        return
    alt = f"{centre.name} in green, {report.name} in red, "
    low, high = np.nanmin(average), np.nanmax(average)
    image = np.nan_to_num(average, nan=low, posinf=high, neginf=low).astype(np.float32)
    aligned = imregister(image, w, fill=np.full_like(image, low), n_threads=1)
    report.overlay_before = figures.overlay(centre.average, image, detail, f"{alt}before the alignment")
    report.overlay_after = figures.overlay(centre.average, aligned, detail, f"{alt}aligned")


def _say_alignment(report: RecordingReport, given: Given, centre: Centre) -> None:
    """Say stage 2's verdict, and what it rests on."""
    if given.name == centre.name:
        report.row["alignment"] = "the centre"
        report.sentences.append("The others are aligned to it.")
        return
    if not given.markers.get("stage2"):
        return
    found = given.markers["stage2"].get("alignment", {})
    verdict = found.get("verdict")
    if verdict is None:
        report.missing.append("Stage 2 stored no verdict on its alignment.")
    else:
        report.row["alignment"] = str(verdict)
        why = str(found.get("why", ""))
        why = f" {why[:1].upper()}{why[1:]}." if why else ""
        if verdict == WORDS[NOT_ALIGNABLE]:
            report.say(NOT_ALIGNABLE, f"It cannot be aligned to the centre.{why}")
        elif verdict == WORDS[DOUBTFUL]:
            report.say(DOUBTFUL, f"Its alignment to the centre is doubtful.{why} Look at it before you use it.")
    if found.get("through"):
        report.row["alignment"] = f"{verdict}, through {found['through']}"
        report.sentences.append(f"It is aligned through {found['through']}, as the direct way to the centre fails.")
    for key, (name, unit) in _ALIGNMENT.items():
        if isinstance(found.get(key), int | float):
            value = found[key]
            report.numbers.append((name, f"{value:.0%}" if unit == "%" else f"{value:.3g}{unit and ' ' + unit}"))
    if {"correlation_before", "correlation_after"} <= found.keys():
        text = f"{found['correlation_before']:.3f} → {found['correlation_after']:.3f}"
        report.numbers.append(("correlation with the centre", text))
        report.row["likeness"] = text
    if isinstance(found.get("start"), str):
        report.numbers.append(("the alignment starts from", found["start"]))


_ALIGNMENT = {
    "correlation_held_out": ("correlation in tiles left out", ""),
    "tiles_found": ("tiles that lie where they should", "%"),
    "residual_px": ("residual, median of the tiles", "px"),
    "overlap": ("overlap with the centre", "%"),
    "largest_displacement_px": ("largest displacement", "px"),
    "least_jacobian": ("least Jacobian (folds at 0)", ""),
    "disagreement_px": ("way there and back, median", "px"),
    "smoothing_px": ("smoothing between recordings", "px"),
    "alpha": ("alpha between recordings", ""),
    "rounds": ("rounds of the flow", ""),
}


def _tell_facts(report: RecordingReport, given: Given, stage1: Mapping[str, Any]) -> None:
    facts = report.facts
    if given.source is not None:
        facts.append(("input", _input_of(given.source)))
    elif stage1.get("input_file"):
        facts.append(("input", f"{stage1['input_file']} (seen from the folder with the results)"))
    parts = stage1.get("parts", {})
    described = parts.get("input")
    if isinstance(described, dict):
        size = described.get("size")
        facts += [("input's size", f"{size / 2**20:.1f} MiB")] if isinstance(size, int) else []
        ends = described.get("ends") or described.get("all")
        facts += [("input's fingerprint", str(ends))] if ends else []
    if "made_elsewhere" in parts:
        facts.append(("stage 1", f"made elsewhere: {', '.join(parts['made_elsewhere'])}"))
    facts.append(("results", str(given.folder)))
    for stage, marker in given.markers.items():
        if marker:
            facts.append((f"stage {stage[-1]}", finished(marker)))
            versions = ", ".join(f"{name} {version}" for name, version in marker.get("versions", {}).items())
            facts.append((f"versions in stage {stage[-1]}", versions))
    report.options = flat(parts.get("options", {}))


def _input_of(source: tuple[Any, ...]) -> str:
    path = source[0]
    return f"{path[0]} and {len(path) - 1} more" if isinstance(path, tuple | list) else str(path)


def _plain(value: float) -> str:
    """Return a number with four digits and no exponent."""
    return np.format_float_positional(value, precision=4, fractional=False, trim="-")


def finished(marker: Mapping[str, Any]) -> str:
    """Say when a stage was finished, and how long it took."""
    when = str(marker.get("finished", "")).replace("T", " ").replace("+00:00", " UTC")
    return f"finished {when}, took {seconds(marker.get('seconds'))}"


def seconds(value: Any) -> str:
    """Say how long something took."""
    if not isinstance(value, int | float):
        return "an unknown time"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def share_of(mask: np.ndarray) -> str:
    """Say how much of a mask is valid."""
    return f"{np.count_nonzero(mask)} of {mask.size} pixels ({mask.mean():.0%})"


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return options by their dotted names, as text."""
    found = {}
    for name, value in options.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = str(value)
    return found
