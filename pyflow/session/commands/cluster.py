"""Compute on many machines: ``submit`` and ``manifest`` for job arrays, ``dask`` for workers."""

import argparse
import shlex

from rich.console import Console

from pyflow.session.commands.arguments import add_session, checked_session, session_path
from pyflow.session.commands.explained import Commands, add_command
from pyflow.session.commands.run import tell_alignment, tell_results
from pyflow.session.commands.terminal import DONE, UsageError, before_it_begins, make_console, show_progress
from pyflow.session.dask import CLUSTERS, open_cluster, run_session_dask
from pyflow.session.manifest import write_manifest
from pyflow.session.submit import SCHEDULERS, parse_tasks, submit_session


def add_to(commands: Commands) -> None:
    """Add the commands."""
    submit = add_command(
        commands,
        "submit",
        _submit,
        help="hand the session to a cluster's scheduler: a job array for stage 1, and a job for the rest",
        more="Recordings that are done are left out, so that the same command submits what failed once more. "
        "Options that pyflow-session does not know are passed on to the scheduler, for both jobs.",
        examples=(
            "session.toml --scheduler slurm --time=4:00:00",
            "session.toml --scheduler pbs --tasks 1,4-6 -q long",
            "session.toml --scheduler sge --dry-run",
        ),
        allow_abbrev=False,  # what looks like the start of an option of ours is one of the scheduler's
    )
    add_session(submit)
    submit.add_argument("--scheduler", required=True, choices=SCHEDULERS, type=str.lower, help="the cluster's")
    submit.add_argument("--tasks", metavar="LIST", help="numbers such as 1,4-6, instead of all that are not done")
    submit.add_argument("--dry-run", action="store_true", help="write the scripts and print the commands, no more")

    dask = add_command(
        commands,
        "dask",
        _dask,
        help="run all stages on the workers of a Dask cluster: on this machine, or jobs of a scheduler",
        more="Each recording is a task, which goes on on another worker where one was lost. The command stays "
        "until all is done. Options that pyflow-session does not know are passed on to the scheduler.",
        examples=(
            "session.toml --jobs 4",
            "session.toml --scheduler slurm --jobs 20 --cores 8",
            "session.toml --scheduler slurm --partition=cpu",
        ),
        allow_abbrev=False,
    )
    add_session(dask)
    dask.add_argument("--scheduler", default="local", choices=CLUSTERS, type=str.lower, help="default: local")
    dask.add_argument("--jobs", type=int, metavar="N", help="workers at a time")
    dask.add_argument("--cores", type=int, metavar="N", help="processors for each, which its threads use")
    dask.add_argument("--memory", help="of a worker's job, for example 8GB")
    dask.add_argument("--walltime", help="of a worker's job, for example 04:00:00")

    manifest = add_command(
        commands,
        "manifest",
        _manifest,
        help="write which recording each task of a job array is about, and say how to submit the array",
        more="It is written once, into final_results/array.json. "
        "Run again, recordings that came since are added at the end; the others keep their numbers.",
        examples=("session.toml", "session.toml --first 0"),
    )
    add_session(manifest)
    manifest.add_argument(
        "--first", type=int, choices=(0, 1), help="number of the first task, on every scheduler (default: 1)"
    )


def _submit(options: argparse.Namespace, console: Console) -> int:
    with before_it_begins():  # until something was submitted
        done = submit_session(
            checked_session(options),
            session_path(options),
            options.scheduler,
            options=options.passed_on,
            tasks=None if options.tasks is None else parse_tasks(options.tasks),
            dry_run=options.dry_run,
        )
    out = make_console()
    n_recordings = len(done.manifest.recordings)
    out.print(f"Stage 1 of {len(done.tasks)} of {n_recordings} recordings ({done.manifest.path} numbers them).")
    for i, command in enumerate(done.commands):
        out.print(f"{f'job {done.jobs[i]}' if done.jobs else f'JOB{i + 1}'}: {shlex.join(command)}")
    if options.dry_run:
        out.print("Nothing was submitted. JOB1, JOB2 ... stand for the numbers that the scheduler gives.")
    else:
        out.print("When they have ended, the same command submits again what failed.")
    return DONE


def _dask(options: argparse.Namespace, console: Console) -> int:
    with before_it_begins():
        config = checked_session(options)
    if options.scheduler == "local" and options.passed_on:
        raise UsageError(f"unrecognized arguments: {' '.join(options.passed_on)}")
    if options.scheduler == "local":
        console.print("The workers are processes of this machine; --scheduler slurm makes them jobs of a cluster.")
    cluster = open_cluster(
        config,
        options.scheduler,
        jobs=options.jobs,
        cores=options.cores,
        memory=options.memory,
        walltime=options.walltime,
        options=options.passed_on,
    )
    with cluster as client, show_progress(console) as progress:
        valid = run_session_dask(config, client, progress=progress)
    out = make_console()
    tell_results(out, config, valid)
    return tell_alignment(out, config)


def _manifest(options: argparse.Namespace, console: Console) -> int:
    with before_it_begins():
        config = checked_session(options)
        manifest = write_manifest(config, options.first)
    out = make_console()
    out.print(f"{manifest.path}: {len(manifest.recordings)} tasks, {manifest.first} to {manifest.last}")
    for number, recording in enumerate(manifest.recordings, manifest.first):
        missing = "" if (config.root / recording).exists() else " (gone)"
        out.print(f"{number:6d}  {recording}{missing}")
    out.print("Submit with one of")
    for scheduler, line in manifest.submission(session_path(options), config.root).items():
        out.print(f"{scheduler:>6}  {line}")
    return DONE
