"""Compute on this machine: ``run``, all stages or one, or one recording of a job array."""

import argparse
from contextlib import suppress
from pathlib import Path

import numpy as np
from rich.console import Console

from pyflow.layout import REPORT_FILE
from pyflow.session.commands.arguments import add_session, check_session, parse_of_params, session_path
from pyflow.session.commands.explained import Commands, add_command
from pyflow.session.commands.terminal import DONE, NOT_ALIGNED, before_it_begins, make_console, show_progress
from pyflow.session.config import SessionConfig
from pyflow.session.manifest import task_recordings
from pyflow.session.pipeline import compensate_all, report_session, run_session
from pyflow.session.report.page import try_report
from pyflow.session.results import Progress, open_session
from pyflow.session.stage1_compensate import SessionError, run_stage1_array
from pyflow.session.stage2_between_avgs import alignment_lines, run_stage2
from pyflow.session.stage3_valid_mask import run_stage3


def add_to(commands: Commands) -> None:
    """Add the command."""
    run = add_command(
        commands,
        "run",
        _run,
        help="run all stages, or one",
        more="What is done is kept, and what was interrupted goes on. The word run may be left out.",
        examples=(
            "session.toml",
            "session.toml --stage 1 --index 4",
            "session.toml --array",
            "session.toml --of-params alpha=4 sigma=1,1,0.1",
        ),
        keys=True,
    )
    add_session(run)
    run.add_argument("--stage", "-s", type=int, choices=(1, 2, 3), help="only this stage")
    run.add_argument("--index", "-i", type=int, metavar="K", help="stage 1 of one recording, counted from 0")
    run.add_argument("--array", action="store_true", help="stage 1 of the recording this job array's task is about")
    run.add_argument(
        "--of-params",
        nargs="*",
        metavar="KEY=VALUE",
        default=[],
        help="flow options of stage 1: alpha=4 sigma=1,1,0.1",
    )


def _run(options: argparse.Namespace, console: Console) -> int:
    with before_it_begins():
        config = SessionConfig.from_file(session_path(options))
        if options.stage in (2, 3) and (options.array or options.index is not None):
            raise ValueError(f"--array and --index are about stage 1, found --stage {options.stage}")
        config = config.with_flow_options(parse_of_params(options.of_params))
        check_session(config)
        if _is_task(options, config):
            with suppress(FileNotFoundError):  # a recording that is gone is no mistake in the command
                task_recordings(config, options.index)
    with show_progress(console) as progress:
        return _run_stages(options, config, session_path(options), progress)


def _is_task(options: argparse.Namespace, config: SessionConfig) -> bool:
    """Tell whether a run is about one recording."""
    alone = options.array or options.index is not None
    return alone or (config.scheduler == "array" and options.stage in (None, 1))


def _run_stages(options: argparse.Namespace, config: SessionConfig, path: Path, progress: Progress) -> int:
    """Run what was asked for, and say where it is, what to look at and what comes next."""
    out = make_console()
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
        tell_results(out, config, valid)
    return DONE if _is_task(options, config) or options.stage == 1 else tell_alignment(out, config)


def tell_results(out: Console, config: SessionConfig, valid: np.ndarray) -> None:
    """Say what came of a session and where it is."""
    out.print(f"{np.count_nonzero(valid)} of {valid.size} pixels are valid in every recording")
    out.print(f"Results: {config.final_results}")
    if (report := config.final_results / REPORT_FILE).is_file():
        out.print(f"Report: {report}")


def tell_alignment(out: Console, config: SessionConfig) -> int:
    """Say which alignments are not as they should be, and return the exit status that says so too."""
    session = open_session(config)
    for line in alignment_lines(session):
        out.print(line)
    return NOT_ALIGNED if any(map(session.left_out, session.results)) else DONE
