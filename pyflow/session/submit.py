"""Hand a session to a scheduler: stage 1 as a job array, and a job for the rest that waits for it.

The numbers of the array's tasks are those of the session's manifest (`pyflow.session.manifest`), so that an array of
some of them, submitted again after a failure, is about the same recordings. Everything that the scheduler is told
stands on its command line; options that a user passes on come last there and have the last word.

A job's script stays while the command runs. It turns the scheduler's warning that the walltime is almost over into the
SIGTERM at which pyflow saves what it has and ends with status 75, and then has the job queued again where the
scheduler lets a job do that. Someone who cancels a job sends no such warning, so that it stays cancelled.
"""

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pyflow.io.atomic import replacing
from pyflow.session.claims import holder
from pyflow.session.config import SessionConfig
from pyflow.session.manifest import Manifest, write_manifest
from pyflow.session.recordings import Recording, find_recordings, hold_results, relative_path
from pyflow.session.results import stage1_state

logger = logging.getLogger(__name__)

JOB_FOLDER = "jobs"  # scripts and logs, in the folder of the session's results

_SCRIPT = """\
#!/bin/bash
# {title} of {session}, written by pyflow-session submit.
child= stopped= out_of_time= again=
stop() {{
    stopped=1 again=1
    [ -z "$child" ] || kill -TERM "$child" 2> /dev/null
}}
trap stop TERM INT
trap 'out_of_time=1; stop' {warnings}
for arguments in {arguments}; do
    if [ -n "$stopped" ]; then
        status=75
        break
    fi
    {command} $arguments &
    child=$!
    [ -z "$stopped" ] || kill -TERM "$child" 2> /dev/null # a signal that came before its number was known
    while :; do # a signal ends the wait, but not the command
        again=
        wait "$child"
        status=$?
        [ -n "$again" ] || break
    done
    [ "$status" = 0 ] || break
done
case "$out_of_time $status" in
"1 75" | "1 143") # 143: it was just starting
    echo "The time is over: the job is queued again, where {scheduler} allows it, and goes on from here."
    {requeue}
    ;;
esac
exit "$status"
"""


@dataclass(frozen=True)
class Job:
    """What a scheduler is asked to run.

    Parameters
    ----------
    name
        Its name in the queue, and that of its log.
    script
        The script that it runs.
    tasks
        The numbers of a job array's tasks; empty for a job that is none.
    after
        Numbers of the jobs that it waits for.
    """

    name: str
    script: Path
    tasks: tuple[int, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def log(self) -> Path:
        """Where the output goes, without what tells tasks apart and without a suffix."""
        return self.script.parent / self.name


@dataclass(frozen=True)
class Scheduler:
    """How one kind of scheduler wants to be spoken to.

    Parameters
    ----------
    command
        The program that queues a job.
    words
        Returns how it is called, up to where the user's options go.
    launcher
        What stands between those and the script.
    number
        Finds a job's number in what the command prints.
    reserved
        Options that say which tasks there are and what waits for what: they cannot be passed on.
    getopt
        Short options may be followed by their value at once, and long ones be cut short.
    gaps
        An array may leave out numbers. Without, each range is an array of its own.
    single
        An array may have a single task. Without, such a task is a plain job that is told its recording.
    warnings
        Signals by which it says that the walltime is almost over.
    requeue
        What a job does to be queued again.
    """

    command: str
    words: Callable[[Job], list[str]]
    launcher: tuple[str, ...] = ()
    number: str = r"^(\d+)"
    reserved: tuple[str, ...] = ()
    getopt: bool = False
    gaps: bool = False
    single: bool = True
    warnings: str = "USR1 USR2"
    requeue: str = ":"

    def is_reserved(self, option: str) -> bool:
        """Tell whether an option says what `submit_session` says itself."""
        name = option.partition("=")[0]
        if name in self.reserved or not self.getopt:
            return name in self.reserved
        if name.startswith("--"):
            return len(name) > 2 and any(known.startswith(name) for known in self.reserved)
        return name.startswith("-") and name[:2] in self.reserved


def _slurm(job: Job) -> list[str]:
    words = ["--parsable", f"--job-name={job.name}", "--open-mode=append", "--requeue"]
    words += ["--signal=B:USR1@60", f"--output={job.log}{'_%a' if job.tasks else ''}.log"]
    words += [f"--array={_ranges(job.tasks)}"] if job.tasks else []
    return words + ([f"--dependency=afterok:{':'.join(job.after)}", "--kill-on-invalid-dep=yes"] if job.after else [])


def _sge(job: Job) -> list[str]:
    words = ["-terse", "-N", job.name, "-S", "/bin/bash", "-r", "y", "-notify", "-j", "y"]
    words += ["-o", f"{job.log}{'_$TASK_ID' if job.tasks else ''}.log"]
    words += ["-t", _ranges(job.tasks)] if job.tasks else []
    return words + (["-hold_jid", ",".join(job.after)] if job.after else [])


def _pbs(job: Job) -> list[str]:
    words = ["-N", job.name, "-S", "/bin/bash", "-r", "y", "-j", "oe"]
    words += ["-o", f"{job.log}{'_^array_index^' if job.tasks else ''}.log"]
    words += ["-J", _ranges(job.tasks)] if job.tasks else []
    return words + (["-W", f"depend=afterok:{':'.join(job.after)}"] if job.after else [])


def _lsf(job: Job) -> list[str]:
    words = ["-J", f"{job.name}[{_ranges(job.tasks)}]" if job.tasks else job.name, "-r", "-Q", "75"]
    words += ["-o", f"{job.log}{'_%I' if job.tasks else ''}.log"]
    return words + (["-w", " && ".join(f"done({number})" for number in job.after)] if job.after else [])


SCHEDULERS = {
    "slurm": Scheduler(
        "sbatch",
        _slurm,
        reserved=("-a", "--array", "-d", "--dependency", "--wrap", "--parsable"),
        getopt=True,
        gaps=True,
        warnings="USR1",
        # a script that ends by itself now may be taken for a failure of the run to come: SLURM is to end it
        requeue='scontrol requeue "$SLURM_JOB_ID" && sleep 60',
    ),
    "sge": Scheduler(
        "qsub",
        _sge,
        reserved=("-t", "-hold_jid", "-hold_jid_ad", "-terse"),
        warnings="USR1 XCPU",  # USR2 comes before every end of a job, also before that by qdel
        requeue="status=99",
    ),
    "pbs": Scheduler("qsub", _pbs, number=r"^(\d+\S*)", reserved=("-J", "-t"), getopt=True, single=False),
    "lsf": Scheduler(
        "bsub",
        _lsf,
        launcher=("/bin/bash",),
        number=r"Job <(\d+)>",
        reserved=("-J", "-w"),
        gaps=True,
        warnings="USR2",
    ),
}


@dataclass(frozen=True)
class Submission:
    """What was handed to a scheduler, or would be.

    Parameters
    ----------
    manifest
        Which recording each task is about.
    tasks
        The numbers of those submitted; empty where stage 1 of all recordings is done.
    commands
        One for each job, in order. Of a dry run, a job that is waited for stands in them as JOB1, JOB2 ...
    jobs
        The jobs' numbers as the scheduler gave them; empty for a dry run.
    """

    manifest: Manifest
    tasks: tuple[int, ...]
    commands: tuple[tuple[str, ...], ...]
    jobs: tuple[str, ...]


def submit_session(
    config: SessionConfig,
    session: Path,
    scheduler: str,
    *,
    options: Sequence[str] = (),
    tasks: Iterable[int] | None = None,
    dry_run: bool = False,
) -> Submission:
    """Submit stage 1 as a job array, and stages 2 and 3 as a job that waits for all of its tasks.

    Parameters
    ----------
    config
        The session.
    session
        The file that `config` was read from; the jobs read it when they start.
    scheduler
        ``"slurm"``, ``"sge"``, ``"pbs"`` or ``"lsf"``.
    options
        Passed on to the scheduler's command, for both jobs.
    tasks
        Numbers of the manifest's tasks. None: those whose recording is not done.
    dry_run
        Write the manifest and the scripts, and submit nothing.

    Raises
    ------
    FileNotFoundError
        The scheduler's command is not on this machine; or see `find_recordings`.
    ValueError
        A task is not in the manifest, or its recording is gone; an option is not to be passed on; the manifest is
        another session's, or counts from 0, which the scheduler cannot; the scheduler cannot write logs into a folder
        of that name; see also `find_recordings`.
    RuntimeError
        The scheduler refused a job; the message quotes it.
    OSError
        The scripts cannot be written.
    """
    kind = SCHEDULERS[scheduler]
    if not dry_run and shutil.which(kind.command) is None:
        raise FileNotFoundError(
            f"{scheduler}: there is no command {kind.command!r} on this machine; submit where jobs are submitted "
            "from, or see with --dry-run what would be"
        )
    for option in options:
        if kind.is_reserved(option):
            raise ValueError(f"{option}: set by submit itself and not to be passed on; --tasks chooses tasks")
    if scheduler == "slurm" and "%" in str(config.final_results):
        # Doubled, it would do once: a job that is queued again would find no place for its log.
        raise ValueError(
            f"final_results: SLURM takes the % in {config.final_results} for the beginning of a pattern, and cannot "
            "write logs there; name another folder"
        )
    recordings = {relative_path(r.path, config.root): r for r in find_recordings(config)}
    config.resolve_center_file([recording.path for recording in recordings.values()])
    hold_results(config)
    manifest = write_manifest(config)
    if manifest.first == 0 and scheduler in ("sge", "lsf"):
        raise ValueError(f"{manifest.path}: its tasks count from 0, and {scheduler} has no task 0; remove the file")
    numbered = dict(enumerate(manifest.recordings, manifest.first))
    if tasks is None:
        chosen = [n for n, name in numbered.items() if name in recordings and not _is_done(config, recordings[name])]
    else:
        chosen = sorted(set(tasks))
        for number in chosen:
            if number not in numbered:
                raise ValueError(f"task {number}: {manifest.path} has tasks {manifest.first} to {manifest.last}")
            if numbered[number] not in recordings:
                raise ValueError(f"task {number}: {numbered[number]!r} is not, or no longer, in {config.root}")
    for number in chosen:
        if who := holder(recordings[numbered[number]].folder):
            logger.warning("task %d: %s works on %s now; the new task waits for it", number, who, numbered[number])

    queue = _Queue(kind, scheduler, tuple(options), dry_run)
    folder = config.final_results / JOB_FOLDER
    for part in _arrays(kind, chosen):
        single = len(part) == 1 and not kind.single
        name = f"pyflow-stage1{f'_{part[0]}' if single else ''}"
        task = f"--index {part[0] - manifest.first}" if single else "--array"
        script = _write(folder / f"{name}.sh", scheduler, "Stage 1", session, [f"--stage 1 {task}"])
        queue.add(Job(name, script, () if single else part))
    script = _write(folder / "pyflow-rest.sh", scheduler, "Stages 2 and 3", session, ["--stage 2", "--stage 3"])
    queue.add(Job("pyflow-rest", script, after=tuple(queue.numbers)))
    return Submission(manifest, tuple(chosen), tuple(queue.commands), () if dry_run else tuple(queue.numbers))


def _is_done(config: SessionConfig, recording: Recording) -> bool:
    """Tell whether a task would have nothing to do; what cannot be read is left to its task, which then names it."""
    try:
        return config.resume and stage1_state(config, recording).done
    except (OSError, ValueError):
        return False


class _Queue:
    """Jobs on their way to a scheduler."""

    def __init__(self, kind: Scheduler, name: str, options: tuple[str, ...], dry_run: bool) -> None:
        self.kind, self.name, self.options, self.dry_run = kind, name, options, dry_run
        self.commands: list[tuple[str, ...]] = []
        self.numbers: list[str] = []

    def add(self, job: Job) -> None:
        command = (self.kind.command, *self.kind.words(job), *self.options, *self.kind.launcher, str(job.script))
        self.commands.append(command)
        self.numbers.append(f"JOB{len(self.commands)}" if self.dry_run else self._submit(command))

    def _submit(self, command: tuple[str, ...]) -> str:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="backslashreplace", check=False
        )
        number = re.search(self.kind.number, done.stdout, re.MULTILINE)
        if done.returncode == 0 and number:
            return number[1]
        said = " ".join((done.stderr + done.stdout).split()) or "nothing"
        queued = f" Already queued: {', '.join(self.numbers)}." if self.numbers else ""
        raise RuntimeError(
            f"{self.name}: {shlex.join(command)} ended with status {done.returncode} and said: {said}.{queued}"
        )


def _write(path: Path, scheduler: str, title: str, session: Path, runs: list[str]) -> Path:
    kind = SCHEDULERS[scheduler]
    command = [sys.executable, "-P", "-m", "pyflow.session.cli", "run", os.path.abspath(session)]
    text = _SCRIPT.format(
        title=title,
        session=" ".join(str(session).split()),  # a line break would end the comment
        warnings=kind.warnings,
        arguments=" ".join(f"'{run}'" for run in runs),
        command=shlex.join(command),
        requeue=kind.requeue,
        scheduler=scheduler.upper(),
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")  # paths as they are on disk
        temporary.chmod(0o755)
    return path


def parse_tasks(text: str) -> list[int]:
    """Read a list of tasks such as ``1,4-6``.

    Raises
    ------
    ValueError
        It is none; the message says which part is not.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part, re.ASCII)
        if match is None or int(match[1]) > int(match[2] or match[1]):
            raise ValueError(f"--tasks: expected numbers and ranges such as 1,4-6, found {part!r}")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return numbers


def _arrays(kind: Scheduler, tasks: list[int]) -> list[tuple[int, ...]]:
    """Divide tasks into those that one array can hold."""
    return [tuple(tasks)] if tasks and kind.gaps else _runs(tasks)


def _ranges(tasks: Iterable[int]) -> str:
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in _runs(tasks))


def _runs(tasks: Iterable[int]) -> list[tuple[int, ...]]:
    """Divide rising numbers where some are left out between them."""
    tasks = list(tasks)
    cuts = [0, *(i for i, (a, b) in enumerate(pairwise(tasks), 1) if b != a + 1), len(tasks)]
    return [tuple(tasks[first:last]) for first, last in pairwise(cuts) if first < last]
