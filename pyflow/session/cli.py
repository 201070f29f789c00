"""The command ``pyflow-session``.

Exit codes: 0 done; 1 something failed, or is not as it was written, and is named; 2 the command or the configuration is
wrong; 3 done, but recordings could not be aligned and are named; 75 interrupted, run again to go on.
"""

import argparse
import json
import logging
import shlex
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pyflow.export import to_caiman, to_nwb, to_suite2p
from pyflow.io.readers.options import reader_options
from pyflow.layout import REPORT_FILE
from pyflow.motion.apply import apply_displacement
from pyflow.session.artifacts import known_stages, read_marker
from pyflow.session.config import SessionConfig
from pyflow.session.dask import CLUSTERS, open_cluster, run_session_dask
from pyflow.session.demo import DEMO_FOLDER, run_demo
from pyflow.session.info import describe, recordings_of
from pyflow.session.manifest import task_recordings, write_manifest
from pyflow.session.pipeline import (
    NOT_DONE,
    compensate_all,
    report_session,
    run_session,
    session_standings,
    session_status,
    verify_session,
)
from pyflow.session.recordings import find_compensated
from pyflow.session.report.page import given_of_folder, save_recording_report, try_report
from pyflow.session.results import Progress as ProgressCallback
from pyflow.session.results import open_session
from pyflow.session.stage1_compensate import RECORDING_ERRORS, SessionError, run_stage1_array
from pyflow.session.stage2_between_avgs import alignment_lines, run_stage2
from pyflow.session.stage3_valid_mask import run_stage3
from pyflow.session.submit import SCHEDULERS, parse_tasks, submit_session

DONE, FAILED, USAGE, NOT_ALIGNED, INTERRUPTED = 0, 1, 2, 3, 75

COMMANDS = ("run", "submit", "dask", "status", "report", "verify", "manifest", "info", "apply", "export", "demo")

_LOG_EVERY_S = 5.0
_ROWS = 200  # of recordings that status shows one by one; of more, those that have something to do


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] not in COMMANDS and not arguments[0].startswith("-"):
        arguments = ["run", *arguments]
    parser = _parser()
    if arguments[:1] in (["submit"], ["dask"]):
        options, options.passed_on = _parse_passing_on(parser, arguments)
    else:
        options = parser.parse_args(arguments)
    console = _console(stderr=True)
    _log_to(console)
    _end_on_sigterm()
    try:
        commands = {"demo": _demo, "info": _info, "report": _report, "apply": _apply}
        return commands.get(options.command, _on_session)(options, console)
    except KeyboardInterrupt:
        console.print("interrupted; what is finished is kept, run the same command again to go on")
        return INTERRUPTED
    except SessionError as error:
        for name, cause in error.failures.items():
            _print_error(console, f"{name}: {cause}", "failed")
        return FAILED
    except (*RECORDING_ERRORS, ImportError) as error:
        _print_error(console, error)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyflow-session",
        description="Many recordings of one field of view: motion-free, in one frame, with one valid mask.",
        epilog="'pyflow-session session.toml ...' is short for 'pyflow-session run session.toml ...'.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar=f"{{{','.join(COMMANDS)}}}")

    run = commands.add_parser("run", help="run all stages, or one")
    _add_config(run)
    run.add_argument("--stage", type=int, choices=(1, 2, 3), help="only this stage")
    run.add_argument("--index", type=int, metavar="K", help="stage 1 of one recording, counted from 0")
    run.add_argument("--array", action="store_true", help="stage 1 of the recording this job array's task is about")
    run.add_argument(
        "--of-params",
        nargs="+",
        metavar="KEY=VALUE",
        default=[],
        help="flow options of stage 1: alpha=4 sigma=1,1,0.1",
    )

    submit = commands.add_parser(
        "submit",
        help="hand the session to a cluster's scheduler: a job array for stage 1, and a job for the rest",
        description="Recordings that are done are left out, so that the same command submits what failed once more. "
        "Options that pyflow-session does not know are passed on to the scheduler, for both jobs.",
        epilog="Example: pyflow-session submit session.toml --scheduler slurm --time=4:00:00 --cpus-per-task=8",
        allow_abbrev=False,  # what looks like the start of an option of ours is one of the scheduler's
    )
    _add_config(submit)
    submit.add_argument("--scheduler", required=True, choices=SCHEDULERS, type=str.lower)
    submit.add_argument("--tasks", metavar="LIST", help="numbers such as 1,4-6, instead of all that are not done")
    submit.add_argument("--dry-run", action="store_true", help="write the scripts and print the commands, no more")

    dask = commands.add_parser(
        "dask",
        help="run all stages on the workers of a Dask cluster: on this machine, or jobs of a scheduler",
        description="Each recording is a task, which goes on on another worker where one was lost. The command stays "
        "until all is done. Options that pyflow-session does not know are passed on to the scheduler.",
        epilog="Example: pyflow-session dask session.toml --scheduler slurm --jobs 20 --cores 8 --partition=cpu",
        allow_abbrev=False,
    )
    _add_config(dask)
    dask.add_argument("--scheduler", default="local", choices=CLUSTERS, type=str.lower, help="default: local")
    dask.add_argument("--jobs", type=int, metavar="N", help="workers at a time")
    dask.add_argument("--cores", type=int, metavar="N", help="processors for each, which its threads use")
    dask.add_argument("--memory", help="of a worker's job, for example 8GB")
    dask.add_argument("--walltime", help="of a worker's job, for example 04:00:00")

    status = commands.add_parser("status", help="say what is done and what a run would do, and why")
    _add_config(status)
    status.add_argument("--json", action="store_true", help="the same for programs")

    report = commands.add_parser(
        "report",
        help="write report.html: what the session came to, in words and pictures",
        description="A session's report is final_results/report.html. That of a recording that is named, or of a "
        "folder that compensate_recording made, is report.html in its own folder.",
    )
    report.add_argument("session", nargs="?", type=Path, help="session.toml or .yaml, or the folder of one recording")
    report.add_argument("recordings", nargs="*", type=Path, metavar="RECORDING", help="only these, each by itself")
    report.add_argument("--config", type=Path, help="session.toml or .yaml")
    report.add_argument("--input", type=Path, metavar="FILE", help="of a folder: the recording as it was before")

    verify = commands.add_parser("verify", help="read all results and say which are not as they were written")
    _add_config(verify)

    manifest = commands.add_parser(
        "manifest",
        help="write which recording each task of a job array is about, and say how to submit the array",
        description="Which recording each task of a job array is about is written once, into final_results/array.json. "
        "Run again, recordings that came since are added at the end; the others keep their numbers.",
    )
    _add_config(manifest)
    manifest.add_argument(
        "--first", type=int, choices=(0, 1), help="number of the first task, on every scheduler (default: 1)"
    )

    export = commands.add_parser("export", help="write a finished session for suite2p, CaImAn or NWB")
    _add_config(export)
    export.add_argument("--to", choices=("suite2p", "caiman", "nwb"), required=True, help="the next program")
    export.add_argument("--output", type=Path, metavar="FOLDER", help="where to (default: in final_results)")
    export.add_argument("--channel", type=int, default=1, help="counted from 1 (default: 1)")
    export.add_argument(
        "--frame-rate", type=float, metavar="HZ", help="frames per second, where the recordings do not tell"
    )
    export.add_argument("--metadata", type=Path, metavar="FILE", help="TOML file with what NWB asks for")

    info = commands.add_parser(
        "info",
        help="say what recordings are when they are opened, where that was read from, and draw them",
        description="What was found in each file, and where; look at it before hours of work rest on it.",
        epilog="Example: pyflow-session info rec.tif --picture rec.png --reader n_channels=2",
    )
    info.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recordings, folders, or a session.toml")
    info.add_argument("--picture", type=Path, metavar="PNG", help="draw the mean and a frame; of several into a folder")
    info.add_argument(
        "--reader", nargs="+", metavar="KEY=VALUE", default=[], help="as in [reader]: n_channels=2 axes=HWT plane=0"
    )

    apply = commands.add_parser(
        "apply", help="warp another channel or file by the field that a recording was found to have"
    )
    apply.add_argument("file", type=Path, help="what to warp")
    apply.add_argument("--displacement", type=Path, required=True, metavar="PATH", help="w.hdf, or the folder with it")
    apply.add_argument("--output", type=Path, required=True, metavar="FILE", help="the result, .tif or .hdf5")
    apply.add_argument("--reader", nargs="+", metavar="KEY=VALUE", default=[], help="as in [reader]: n_channels=2")

    demo = commands.add_parser("demo", help="simulate a small experiment, run it and compare with the truth")
    demo.add_argument("folder", nargs="?", type=Path, default=Path(DEMO_FOLDER))
    return parser


def _parse_passing_on(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse, and return apart what is not ours: unknown options with their values, and all that comes after ``--``."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    command, *ours = arguments[:cut]
    for i, word in enumerate(ours):  # the session is named first, so that no unknown option's value is taken for it
        name, _, path = word.partition("=")
        if name == "--config":
            taken = 1 if path else 2
            ours = [path or "".join(ours[i + 1 : i + 2]), *ours[:i], *ours[i + taken :]]
            break
    options, unknown = parser.parse_known_args([command, *ours])
    return options, unknown + arguments[cut + 1 :]


def _add_config(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("session", nargs="?", type=Path, help="session.toml or .yaml")
    group.add_argument("--config", type=Path, help="the same")


def parse_of_params(items: list[str], option: str = "--of-params") -> dict[str, Any]:
    """Turn ``key=value`` words into options: JSON values, lists also as ``1,2,3``, anything else as text.

    Raises
    ------
    ValueError
        A word is not of that form.
    """
    options = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not (key and separator):
            raise ValueError(f"{option}: expected KEY=VALUE, found {item!r}")
        options[key] = _parse_value(text)
    return options


def _parse_value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    for candidate in (text, f"[{text}]") if text else ():
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    return text


def _on_session(options: argparse.Namespace, console: Console) -> int:
    path = options.session or options.config
    try:
        config = SessionConfig.from_file(path)
        if options.command == "run":
            if options.stage in (2, 3) and (options.array or options.index is not None):
                raise ValueError(f"--array and --index are about stage 1, found --stage {options.stage}")
            config = config.with_flow_options(parse_of_params(options.of_params))
        if options.command != "status":  # which finds the same, and for thousands of recordings once is enough
            _check(options, config)
    except (OSError, ValueError) as error:
        _print_error(console, error)
        return USAGE
    if options.command == "status":
        try:
            return _status(options, config)
        except (OSError, ValueError) as error:
            _print_error(console, error)
            return USAGE
    if options.command == "verify":
        return _verify(config)
    if options.command == "dask":
        if options.scheduler == "local" and options.passed_on:
            _print_error(console, f"unrecognized arguments: {' '.join(options.passed_on)}")
            return USAGE
        return _dask(options, config, console)
    if options.command == "submit":
        try:
            return _submit(options, config, path)
        except (OSError, ValueError) as error:  # before anything was submitted
            _print_error(console, error)
            return USAGE
    if options.command == "manifest":
        return _manifest(options, config, path)
    if options.command == "export":
        return _export(options, config, console)
    with _progress(console) as progress:
        return _run(options, config, path, progress)


def _is_task(options: argparse.Namespace, config: SessionConfig) -> bool:
    """Tell whether a run is about one recording."""
    alone = options.array or options.index is not None
    return alone or (config.scheduler == "array" and options.stage in (None, 1))


def _check(options: argparse.Namespace, config: SessionConfig) -> None:
    """Raise what is wrong with a command and a configuration beside the files that they are about."""
    recordings = find_compensated(config)
    config.resolve_center_file([recording.path or recording.folder for recording in recordings])
    if options.command == "manifest":
        write_manifest(config, options.first)
    elif options.command == "run" and _is_task(options, config):
        with suppress(FileNotFoundError):  # a recording that is gone is no mistake in the command
            task_recordings(config, options.index)


def _run(options: argparse.Namespace, config: SessionConfig, path: Path, progress: ProgressCallback) -> int:
    """Run what was asked for, and say where it is, what to look at and what comes next."""
    out = _console()
    if _is_task(options, config):
        out.print(f"Stage 1 is done: {run_stage1_array(config, options.index, progress=progress)}")
        out.print(f"When all recordings are done: pyflow-session {path} --stage 2, then --stage 3")
    elif options.stage == 1:
        folders = compensate_all(config, progress=progress)
        out.print(f"Stage 1 is done: {len(folders)} recordings in {config.output_root}")
    elif options.stage == 2:
        _, center, fields = run_stage2(config)
        out.print(f"Stage 2 is done: {len(fields)} recordings are aligned to {center}")
    else:
        try:
            valid = (run_stage3 if options.stage == 3 else run_session)(config, progress=progress)
        except SessionError:
            if config.report:
                try_report(lambda: next(iter(report_session(config)), None))
            raise
        _tell_results(out, config, valid)
    return DONE if _is_task(options, config) or options.stage == 1 else _tell_alignment(out, config)


def _tell_results(out: Console, config: SessionConfig, valid: np.ndarray) -> None:
    out.print(f"{np.count_nonzero(valid)} of {valid.size} pixels are valid in every recording")
    out.print(f"Results: {config.final_results}")
    if (report := config.final_results / REPORT_FILE).is_file():
        out.print(f"Report: {report}")


def _tell_alignment(out: Console, config: SessionConfig) -> int:
    """Say which alignments are not as they should be, and return the exit code that says so too."""
    session = open_session(config)
    for line in alignment_lines(session):
        out.print(line)
    return NOT_ALIGNED if any(map(session.left_out, session.results)) else DONE


def _status(options: argparse.Namespace, config: SessionConfig) -> int:
    recordings, session = session_standings(config)
    if options.json:
        report = config.final_results / REPORT_FILE
        told = {
            "recordings": [
                {"name": name, **{what: asdict(found) for what, found in standings.items()}}
                for name, standings in recordings.items()
            ],
            "stage 3": asdict(session),
            "report": str(report) if report.is_file() else None,
        }
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
        return DONE
    table = Table("recording", "stage 1", "stage 2", "alignment")
    reasons: dict[tuple[str, str], list[str]] = {}
    doubts, rows, n_done = [], 0, 0
    for name, standings in recordings.items():
        words = [found.word for found in standings.values()]
        done = words[:2] == ["done", "done"]
        n_done += done
        if len(recordings) <= _ROWS or (rows < _ROWS and not done and words[:2] != ["done", "waits"]):
            table.add_row(name, *words)
            rows += 1
        if standings["alignment"].why:
            doubts.append(standings["alignment"].why)
        for stage in ("stage 1", "stage 2"):
            if standings[stage].why:
                reasons.setdefault((stage, standings[stage].why), []).append(name)
    console = _console()
    if rows:
        console.print(table)
    if rows < len(recordings):
        console.print(f"stages 1 and 2 of {n_done} of {len(recordings)} recordings are done")
    for doubt in doubts:
        console.print(doubt)
    for (stage, why), names in reasons.items():
        others = f" and {len(names) - _ROWS} others" if len(names) > _ROWS else ""
        who = "all" if len(names) == len(recordings) else ", ".join(names[:_ROWS]) + others
        console.print(f"{stage} of {who}: {why}")
    console.print(f"stage 3: {session.why or session.word}")
    return DONE


def _report(options: argparse.Namespace, console: Console) -> int:
    path, *names = [*filter(None, (options.config, options.session)), *options.recordings]
    try:
        if path.is_dir():
            if names:
                raise ValueError(f"{path} is the folder of one recording; more can be named of a session.toml")
            reports = list(filter(None, [save_recording_report(given_of_folder(path, options.input))]))
        else:
            config = SessionConfig.from_file(path)
            _check(options, config)
            reports = report_session(config, [str(name) for name in names])
    except (OSError, ValueError) as error:
        _print_error(console, error)
        return USAGE
    for report in reports:
        _console().print(str(report))
    return DONE if reports else FAILED


def _verify(config: SessionConfig) -> int:
    problems = verify_session(config)
    out = _console()
    for problem in problems:
        out.print(problem)
    if not all(problem.endswith(NOT_DONE) for problem in problems):
        out.print("Remove what is damaged and run the session again: just that, and what rests on it, is made anew.")
    elif problems:
        out.print("Nothing is damaged; run the session to have the rest done.")
    if problems:
        return FAILED
    folders = [*(recording.folder for recording in find_compensated(config)), config.final_results]
    markers = [read_marker(folder, stage) for folder in folders for stage in known_stages(folder)]
    n_files = sum(len(marker["outputs"]) for marker in markers if marker)
    out.print(f"{n_files} files checked, all are as they were written")
    return DONE


def _manifest(options: argparse.Namespace, config: SessionConfig, path: Path) -> int:
    manifest = write_manifest(config, options.first)
    out = _console()
    out.print(f"{manifest.path}: {len(manifest.recordings)} tasks, {manifest.first} to {manifest.last}")
    for number, recording in enumerate(manifest.recordings, manifest.first):
        missing = "" if (config.root / recording).exists() else " (gone)"
        out.print(f"{number:6d}  {recording}{missing}")
    out.print("Submit with one of")
    for scheduler, line in manifest.submission(path, config.root).items():
        out.print(f"{scheduler:>6}  {line}")
    return DONE


def _dask(options: argparse.Namespace, config: SessionConfig, console: Console) -> int:
    cluster = open_cluster(
        config,
        options.scheduler,
        jobs=options.jobs,
        cores=options.cores,
        memory=options.memory,
        walltime=options.walltime,
        options=options.passed_on,
    )
    with cluster as client, _progress(console) as progress:
        valid = run_session_dask(config, client, progress=progress)
    out = _console()
    _tell_results(out, config, valid)
    return _tell_alignment(out, config)


def _submit(options: argparse.Namespace, config: SessionConfig, path: Path) -> int:
    done = submit_session(
        config,
        path,
        options.scheduler,
        options=options.passed_on,
        tasks=None if options.tasks is None else parse_tasks(options.tasks),
        dry_run=options.dry_run,
    )
    out = _console()
    n_recordings = len(done.manifest.recordings)
    out.print(f"Stage 1 of {len(done.tasks)} of {n_recordings} recordings ({done.manifest.path} numbers them).")
    for i, command in enumerate(done.commands):
        out.print(f"{f'job {done.jobs[i]}' if done.jobs else f'JOB{i + 1}'}: {shlex.join(command)}")
    if options.dry_run:
        out.print("Nothing was submitted. JOB1, JOB2 ... stand for the numbers that the scheduler gives.")
    else:
        out.print("When they have ended, the same command submits again what failed.")
    return DONE


def _export(options: argparse.Namespace, config: SessionConfig, console: Console) -> int:
    state = session_status(config)[1]
    if not state.done:
        raise ValueError(f"all stages of the session have to run first ({state.reason})")
    folder = options.output or (config.final_results if options.to == "suite2p" else config.final_results / options.to)
    try:
        metadata = {} if options.metadata is None else tomllib.loads(options.metadata.read_text(encoding="utf-8"))
        if rate := options.frame_rate or config.reader.frame_rate:
            metadata["frame_rate"] = rate
    except (OSError, ValueError) as error:
        _print_error(console, error)
        return USAGE
    with _progress(console) as progress:
        common = {"channel": options.channel, "progress": progress}
        if options.to == "suite2p":
            written = [to_suite2p(config.final_results, folder, frame_rate=metadata.get("frame_rate"), **common)]
        elif options.to == "caiman":
            written = [to_caiman(config.final_results, folder, **common)]
        else:
            written = to_nwb(config.final_results, folder, metadata, **common)
    for path in written:
        _console().print(str(path))
    return DONE


def _apply(options: argparse.Namespace, console: Console) -> int:
    try:
        reader = reader_options(parse_of_params(options.reader, "--reader"))
    except ValueError as error:
        _print_error(console, error)
        return USAGE
    path = options.displacement
    marker = read_marker(path if path.is_dir() else path.parent, "stage1") or {}
    with _progress(console) as progress:
        apply_displacement(
            options.file,
            path,
            options.output,
            reader=reader,
            bidiphase=int(marker.get("bidiphase", 0)),
            progress=lambda done, total: progress(options.file.name, done, total),
        )
    _console().print(f"Result: {options.output}")
    return DONE


def _info(options: argparse.Namespace, console: Console) -> int:
    try:
        reader = reader_options(parse_of_params(options.reader, "--reader"))
        recordings = recordings_of(options.files, reader)
    except (OSError, ValueError) as error:
        _print_error(console, error)
        return USAGE
    out, failed = _console(), False
    for name, source, chosen in recordings:
        picture = options.picture
        if picture is not None and (len(recordings) > 1 or picture.suffix.lower() != ".png"):
            picture = picture / f"{Path(name).name}.png"
        try:
            facts = describe(source, chosen, picture)
        except (*RECORDING_ERRORS, ImportError) as error:
            _print_error(console, error)
            failed = True
            continue
        out.print(name, style="bold")
        for fact, value, where in facts:
            out.print(f"  {fact:<11}{value}{f'  ({where})' if where else ''}")
    return FAILED if failed else DONE


def _demo(options: argparse.Namespace, console: Console) -> int:
    with _progress(console) as progress:
        report = run_demo(options.folder, progress=progress)
    titles = ("frames\nper s", "error\nbefore", "error\nafter", "valid\npixels", "shift\nfound", "shift\ntrue")
    table = Table("recording", title="errors and shifts to the centre in pixels")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for row in report.recordings:
        table.add_row(
            row.name,
            f"{row.frames_per_s:.0f}",
            f"{row.error_before_px:.2f}",
            f"{row.error_after_px:.2f}",
            str(row.valid_pixels),
            "{:.1f}, {:.1f}".format(*row.shift_found_px),
            "{:.1f}, {:.1f}".format(*row.shift_true_px),
        )
    out = _console()
    out.print(table)
    out.print(f"final mask: {report.mask_pixels} pixels, overlap with the true one (IoU) {report.mask_iou:.3f}")
    out.print(f"session:    {report.config_file}")
    out.print(f"results:    {report.results}")
    if (page := report.results / REPORT_FILE).is_file():
        out.print(f"report:     {page}")
    if report.picture is not None:
        out.print(f"picture:    {report.picture}")
    return DONE


def _console(*, stderr: bool = False) -> Console:
    """Make a console that prints names and paths as they are: brackets are no markup, colons no emoji."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _print_error(console: Console, error: object, word: str = "error") -> None:
    console.print(word, style="bold red", end=" ")
    console.print(str(error))


def _log_to(console: Console) -> None:
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, log_time_format="%X")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("pyflow")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)


def _end_on_sigterm() -> None:
    """Make a scheduler's SIGTERM end the run as Ctrl-C does: files closed, claims released.

    Schedulers that cancel a job send it to each of its processes, and a shell that hands it on sends it again.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@contextmanager
def _progress(console: Console) -> Iterator[ProgressCallback]:
    """Show a bar per recording on a terminal, and a line every few seconds elsewhere."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        tasks: dict[str, Any] = {}
        with Progress(*columns, console=console) as bars:

            def show(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=total)
                bars.update(tasks[name], completed=done, total=total)

            yield show
        return

    last = time.monotonic()
    logger = logging.getLogger(__name__)

    def report(name: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY_S:
            last = time.monotonic()
            logger.info("%s: frame %d of %d", name, done, total)

    yield report


if __name__ == "__main__":
    sys.exit(main())
