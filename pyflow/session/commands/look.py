"""Look at what there is: ``info`` at recordings, ``status``, ``report`` and ``verify`` at what came of them."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pyflow.layout import REPORT_FILE
from pyflow.session.artifacts import known_stages, read_marker
from pyflow.session.commands.arguments import (
    add_reader,
    add_session,
    check_session,
    checked_session,
    reader_of,
    session_path,
)
from pyflow.session.commands.explained import Commands, add_command
from pyflow.session.commands.terminal import DONE, FAILED, before_it_begins, make_console, print_error
from pyflow.session.config import SessionConfig
from pyflow.session.info import describe, recordings_of
from pyflow.session.pipeline import NOT_DONE, report_session, session_standings, verify_session
from pyflow.session.recordings import find_compensated
from pyflow.session.report.page import given_of_folder, save_recording_report
from pyflow.session.stage import RECORDING_ERRORS

_ROWS = 200  # of recordings that status shows one by one; of more, those that have something to do


def add_to(commands: Commands) -> None:
    """Add the commands."""
    info = add_command(
        commands,
        "info",
        _info,
        help="say what recordings are when they are opened, where that was read from, and draw them",
        more="Look at it before hours of work rest on it.",
        examples=(
            "rec.tif",
            "rec.tif --picture rec.png --reader n_channels=2",
            "session.toml --picture pictures",
        ),
    )
    info.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recordings, folders, or a session.toml")
    info.add_argument("--picture", type=Path, metavar="PNG", help="draw the mean and a frame; of several into a folder")
    add_reader(info, "n_channels=2 axes=HWT plane=0")

    status = add_command(
        commands,
        "status",
        _status,
        help="say what is done and what a run would do, and why",
        examples=("session.toml", "session.toml --json"),
    )
    add_session(status)
    status.add_argument("--json", action="store_true", help="the same for programs")

    report = add_command(
        commands,
        "report",
        _report,
        help="write report.html: what the session came to, in words and pictures",
        more="A session's report is final_results/report.html. That of a recording that is named, or of a "
        "folder that compensate_recording made, is report.html in its own folder.",
        examples=("session.toml", "session.toml day2.tif", "results_of_day2 --input day2.tif"),
    )
    report.add_argument("session", nargs="?", type=Path, help="session.toml or .yaml, or the folder of one recording")
    report.add_argument("recordings", nargs="*", type=Path, metavar="RECORDING", help="only these, each by itself")
    report.add_argument("--config", type=Path, help="session.toml or .yaml")
    report.add_argument("--input", type=Path, metavar="FILE", help="of a folder: the recording as it was before")

    verify = add_command(
        commands,
        "verify",
        _verify,
        help="read all results and say which are not as they were written",
        examples=("session.toml",),
    )
    add_session(verify)


def _info(options: argparse.Namespace, console: Console) -> int:
    with before_it_begins():
        reader = reader_of(options)
        recordings = recordings_of(options.files, reader)
    out, failed = make_console(), False
    for name, source, chosen in recordings:
        picture = options.picture
        if picture is not None and (len(recordings) > 1 or picture.suffix.lower() != ".png"):
            picture = picture / f"{Path(name).name}.png"
        try:
            facts = describe(source, chosen, picture)
        except (*RECORDING_ERRORS, ImportError) as error:
            print_error(console, error)
            failed = True
            continue
        out.print(name, style="bold")
        for fact, value, where in facts:
            out.print(f"  {fact:<11}{value}{f'  ({where})' if where else ''}")
    return FAILED if failed else DONE


def _status(options: argparse.Namespace, console: Console) -> int:
    with before_it_begins():
        config = SessionConfig.from_file(session_path(options))
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
    out = make_console()
    if rows:
        out.print(table)
    if rows < len(recordings):
        out.print(f"stages 1 and 2 of {n_done} of {len(recordings)} recordings are done")
    for doubt in doubts:
        out.print(doubt)
    for (stage, why), names in reasons.items():
        others = f" and {len(names) - _ROWS} others" if len(names) > _ROWS else ""
        who = "all" if len(names) == len(recordings) else ", ".join(names[:_ROWS]) + others
        out.print(f"{stage} of {who}: {why}")
    out.print(f"stage 3: {session.why or session.word}")
    return DONE


def _report(options: argparse.Namespace, console: Console) -> int:
    path, *names = [*filter(None, (options.config, options.session)), *options.recordings]
    with before_it_begins():
        if path.is_dir():
            if names:
                raise ValueError(f"{path} is the folder of one recording; more can be named of a session.toml")
            given = given_of_folder(path, options.input)
        else:
            config = SessionConfig.from_file(path)
            check_session(config)
    with before_it_begins((FileNotFoundError, ValueError)):  # what cannot be written is no mistake in the command
        if path.is_dir():
            reports = list(filter(None, [save_recording_report(given)]))
        else:
            reports = report_session(config, [str(name) for name in names])
    for report in reports:
        make_console().print(str(report))
    return DONE if reports else FAILED


def _verify(options: argparse.Namespace, console: Console) -> int:
    with before_it_begins():
        config = checked_session(options)
    problems = verify_session(config)
    out = make_console()
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
