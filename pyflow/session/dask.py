"""Run a session on the workers of a Dask cluster, of this machine or of a scheduler's jobs.

Each recording is a task. A task that is run again, because its worker was lost or a file could not be read, goes on
from the recording's last batch, so that Dask may run any of them as often as it likes. A worker runs one task at a
time, with as many threads as its job was given; nothing is ever forked. What travels to the workers needs no pyflow to
be unpacked, so that one that is missing there, or another, can be named.
"""

import importlib
import logging
import math
import queue
import shlex
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyflow import __version__
from pyflow.layout import SCHEMA_VERSION
from pyflow.session.config import SessionConfig
from pyflow.session.recordings import Recording
from pyflow.session.results import Progress
from pyflow.session.stage1_compensate import RECORDING_ERRORS, SessionError, compensate, prepare
from pyflow.session.stage2_between_avgs import run_stage2
from pyflow.session.stage3_valid_mask import run_stage3
from pyflow.session.submit import JOB_FOLDER, SCHEDULERS
from pyflow.threads import available_threads

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)

CLUSTERS = ("local", *SCHEDULERS)

_TOPIC = "pyflow-progress"
_RETRIES = 2  # of a task that a file system failed
_POLL_S = 0.2
_PROGRESS_EVERY_S = 0.5

# Workers end when their jobs' time does, and a long recording may see many of them: Dask's own 3 would give it up.
_ALLOWED_FAILURES = 100

_REPLACE_EVERY_S = 5.0  # jobs that ended; a worker that was silent for _LOST counts as such
_LOST = "10s"

_DASHBOARD = "127.0.0.1:0"  # any free port: several sessions may run on one machine

_DEFAULT_WALLTIME = {"slurm": "04:00:00", "sge": "04:00:00", "pbs": "04:00:00", "lsf": "04:00"}


@contextmanager
def open_cluster(
    config: SessionConfig,
    scheduler: str = "local",
    *,
    jobs: int | None = None,
    cores: int | None = None,
    memory: str | None = None,
    walltime: str | None = None,
    options: Sequence[str] = (),
) -> Iterator["Client"]:
    """Start workers for a session, and end them with the block.

    Parameters
    ----------
    config
        The session; the logs of jobs go into its results' folder.
    scheduler
        ``"local"`` for processes on this machine, or ``"slurm"``, ``"pbs"``, ``"sge"``, ``"lsf"`` for jobs.
    jobs
        How many workers there are at a time. None: one for each thread that this process may use, or, as jobs, 10.
    cores
        Processors for each. None: this machine's are shared out; for jobs 1, or as Dask's own configuration says.
    memory, walltime
        What a job asks for, such as ``"8GB"`` and ``"04:00:00"``, the defaults; of the memory, Dask's own
        configuration goes before.
    options
        Passed on to the scheduler, as lines of the jobs' scripts.

    Yields
    ------
    distributed.Client
        Connected to the cluster.

    Raises
    ------
    ImportError
        The extra ``cluster`` is not installed.
    FileNotFoundError
        The scheduler's command is not on this machine.
    ValueError
        `jobs` or `cores` is less than 1.
    RuntimeError
        The scheduler refused the jobs; the message quotes it.
    """
    for name, number in (("jobs", jobs), ("cores", cores)):
        if number is not None and number < 1:
            raise ValueError(f"{name}: expected 1 or more, found {number}")
    dask, distributed = _import("dask"), _import("distributed")
    settings = {
        "distributed.scheduler.allowed-failures": _ALLOWED_FAILURES,
        "distributed.deploy.lost-worker-timeout": _LOST,
    }
    with dask.config.set(settings):
        if scheduler == "local":
            n_workers = jobs or available_threads()
            cluster = distributed.LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address=_DASHBOARD,
                env={"PYFLOW_NUM_THREADS": str(cores or max(1, available_threads() // n_workers))},
            )
        else:
            cluster = _job_cluster(config, scheduler, cores, memory, walltime, options)
        with cluster, distributed.Client(cluster) as client:
            if scheduler == "local":
                yield client
            else:
                with _jobs(cluster, scheduler, jobs or 10):
                    yield client


def run_stage1_dask(config: SessionConfig, client: "Client", *, progress: Progress | None = None) -> list[Path]:
    """Compensate all recordings, as `run_stage1` does, on a cluster's workers.

    Parameters
    ----------
    config
        The session. Its folders have the same paths on all workers.
    client
        Connected to the cluster.
    progress
        Called as ``progress(recording, done, total)`` with frames, in this process.

    Returns
    -------
    list of Path
        The recordings' result folders, in order.

    Raises
    ------
    FileNotFoundError, ValueError
        See `run_stage1`.
    SessionError
        Recordings failed; the others are done.
    RuntimeError
        A worker has no pyflow, or another version; what is done is kept.
    """
    recordings, failures = prepare(config)
    _check_workers(client)
    waiting = {_submit(client, config, r): r for r in recordings if r.name not in failures}
    try:
        for future in _as_they_end(client, list(waiting), progress):
            name = waiting[future].name
            failure = _failure(future)
            if failure is not None:
                logger.error("%s failed: %s", name, failure)
                failures[name] = failure
    finally:
        client.cancel(list(waiting))
    if failures:
        raise SessionError(failures, len(recordings))
    return [recording.folder for recording in recordings]


def run_session_dask(config: SessionConfig, client: "Client", *, progress: Progress | None = None) -> np.ndarray:
    """Run all stages on a cluster's workers: a task for each recording, and one for stages 2 and 3.

    Parameters
    ----------
    config, client, progress
        See `run_stage1_dask`.

    Returns
    -------
    ndarray
        (H, W) bool: the pixels that are valid in every recording.

    Raises
    ------
    FileNotFoundError, ValueError, SessionError, RuntimeError
        See `run_stage1_dask` and `run_session`.
    """
    run_stage1_dask(config, client, progress=progress)
    rest = _submit(client, config, None)
    try:
        for future in _as_they_end(client, [rest], progress):
            failure = _failure(future)
            if failure is not None:
                raise failure
        return rest.result()["result"]
    finally:
        client.cancel([rest])


def work(session: dict[str, Any], recording: dict[str, Any] | None) -> np.ndarray | Exception | None:
    """Do a task on a worker: stage 1 of a recording, or the stages after it.

    Parameters
    ----------
    session
        The configuration's fields.
    recording
        The recording's; None for stages 2 and 3.

    Returns
    -------
    ndarray or Exception or None
        What stage 3 found; what went wrong and would again.

    Raises
    ------
    OSError
        A file could not be read or written; another time it may.
    """
    config = SessionConfig(**session)
    try:
        if recording is None:
            run_stage2(config)
            return run_stage3(config, progress=_Reporter())
        files = tuple(map(Path, recording["files"]))
        where = Recording(recording["name"], Path(recording["path"]), Path(recording["folder"]), files)
        compensate(config, where, progress=_Reporter())
    except OSError:
        raise
    except RECORDING_ERRORS as error:
        # Its own class may come from a library that the other side lacks.
        return (ValueError if isinstance(error, ValueError) else RuntimeError)(str(error))
    return None


class _Reporter:
    """Tells the client how far a worker is, not more often than somebody looks."""

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _PROGRESS_EVERY_S or done == total:
            self._last = now
            _import("distributed").get_worker().log_event(_TOPIC, (name, done, total))


def _travelling() -> Callable[..., Any]:
    """Return a function that travels as it is, and not as a name in pyflow: it finds out whether that is there."""

    def task(expected: dict[str, Any], *arguments: Any) -> Any:
        import importlib
        import socket
        import sys

        where = f"the Dask worker on {socket.gethostname()} ({sys.executable})"
        try:
            found = {
                "pyflow": importlib.import_module("pyflow").__version__,
                "results": importlib.import_module("pyflow.layout").SCHEMA_VERSION,
            }
            module = importlib.import_module("pyflow.session.dask")
        except ImportError as error:
            return {"unfit": f"{where} cannot import pyflow: {error}"}
        if found != expected:
            return {"unfit": f"{where} has another pyflow: expected {expected}, found {found}"}
        return {"result": module.work(*arguments) if arguments else None}

    return task


def _expected() -> dict[str, Any]:
    return {"pyflow": __version__, "results": SCHEMA_VERSION}


def _check_workers(client: "Client") -> None:
    """Wait for the first worker, and ask all that are there whether they have the same pyflow.

    Raises
    ------
    RuntimeError
        One has not.
    """
    if not client.scheduler_info()["workers"]:
        logger.info("waiting for the first worker")
    client.wait_for_workers(1)
    for answer in client.run(_travelling(), _expected()).values():
        if "unfit" in answer:
            raise RuntimeError(answer["unfit"])


def _submit(client: "Client", config: SessionConfig, recording: Recording | None) -> "Future":
    """Queue a task; the configuration travels as text, for the sake of workers that do not know its class."""
    fields = None
    if recording is not None:
        fields = {"name": recording.name, "path": str(recording.path), "folder": str(recording.folder)}
        fields["files"] = [str(file) for file in recording.files]
    return client.submit(
        _travelling(),
        _expected(),
        config.model_dump(mode="json"),
        fields,
        pure=False,
        retries=_RETRIES,
        key=f"pyflow-{recording.name if recording else 'stages 2 and 3'}-{uuid.uuid4().hex}",
    )


def _as_they_end(client: "Client", futures: list["Future"], progress: Progress | None) -> Iterator["Future"]:
    """Yield futures as they end, and meanwhile hand on what workers say of their progress."""
    said: queue.SimpleQueue[tuple[str, int, int]] = queue.SimpleQueue()
    client.subscribe_topic(_TOPIC, lambda event: said.put(event[1]))
    pending = set(futures)
    try:
        while pending:
            time.sleep(_POLL_S)
            ended = [future for future in futures if future in pending and future.done()]
            while progress is not None and not said.empty():
                progress(*said.get())
            pending.difference_update(ended)
            yield from ended
    finally:
        client.unsubscribe_topic(_TOPIC)


def _failure(future: "Future") -> Exception | None:
    """Return what a task failed with; None if it did not.

    Raises
    ------
    RuntimeError
        Its worker has no pyflow, or another: then the next task on it would fail as well.
    """
    if future.status == "cancelled":
        return RuntimeError("the connection to the Dask cluster was lost; run again to go on")
    if future.status == "error":
        error = future.exception()
        if type(error).__name__ == "KilledWorker":
            return RuntimeError(f"its worker was lost {_ALLOWED_FAILURES} times: {error}")
        return error
    answer = future.result()
    if "unfit" in answer:
        raise RuntimeError(answer["unfit"])
    return answer["result"] if isinstance(answer["result"], Exception) else None


def _job_cluster(
    config: SessionConfig,
    scheduler: str,
    cores: int | None,
    memory: str | None,
    walltime: str | None,
    options: Sequence[str],
) -> Any:
    """Prepare a cluster whose workers are jobs; none is submitted yet."""
    command = SCHEDULERS[scheduler].command
    if shutil.which(command) is None:
        raise FileNotFoundError(f"{scheduler}: there is no command {command!r} on this machine")
    jobqueue, dask = _import("dask_jobqueue"), _import("dask")
    kinds = {"slurm": "SLURMCluster", "sge": "SGECluster", "pbs": "PBSCluster", "lsf": "LSFCluster"}
    known = dask.config.get(f"jobqueue.{scheduler}", {})
    logs = config.final_results / JOB_FOLDER
    logs.mkdir(parents=True, exist_ok=True)
    return _outspoken(getattr(jobqueue, kinds[scheduler]))(
        cores=cores or known.get("cores") or 1,
        memory=memory or known.get("memory") or "8GB",
        walltime=walltime or _DEFAULT_WALLTIME[scheduler],
        processes=1,
        python=f"{shlex.quote(sys.executable)} -P",
        log_directory=str(logs),
        job_extra_directives=_lines(options),
        # One recording at a time, with all of the job's threads; the scheduler watches over the memory.
        worker_extra_args=["--nthreads", "1", "--memory-limit", "0"],
        scheduler_options={"dashboard_address": _DASHBOARD},
    )


@contextmanager
def _jobs(cluster: Any, scheduler: str, jobs: int) -> Iterator[None]:
    """Submit the workers' jobs, and others for those that end: Dask itself forgets them.

    Raises
    ------
    RuntimeError
        The scheduler refused a job, before the block.
    """
    cluster.scale(jobs=jobs)
    cluster.sync(cluster._correct_state)
    refusal = _forget_refused(cluster)
    if refusal:
        raise RuntimeError(f"{scheduler} refused a job: {refusal}")
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(_REPLACE_EVERY_S):
            refusal = _forget_refused(cluster)
            if refusal:
                logger.warning("%s refused a job and is asked again: %s", scheduler, refusal)
            cluster.scale(jobs=jobs)

    keeper = threading.Thread(target=keep, name="pyflow-jobs", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()


def _forget_refused(cluster: Any) -> str:
    """Make Dask count jobs that were refused as such, and return what the scheduler said."""
    said = ""
    for name, job in list(cluster.workers.items()):
        if hasattr(job, "refusal"):
            said = " ".join(job.refusal.split())
            del cluster.workers[name]
    return said


def _outspoken(kind: type) -> type:
    """Return a kind of cluster whose jobs keep what the scheduler said against them, which Dask only logs."""

    class Job(kind.job_cls):
        async def _submit_job(self, script_filename: str) -> str:
            try:
                return await super()._submit_job(script_filename)
            except RuntimeError as error:
                self.refusal = str(error)
                self.status = _import("distributed").Status.failed
                raise

    return type(kind.__name__, (kind,), {"job_cls": Job})


def _lines(options: Sequence[str]) -> list[str]:
    """Put options and their values on lines of their own."""
    lines: list[str] = []
    for word in options:
        if word.startswith("-") or not lines:
            lines.append(word)
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return lines


def _import(name: str) -> Any:
    """Import a module of the extra ``cluster``.

    Raises
    ------
    ImportError
        It is not installed; the message says how to.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"Dask is needed for this: pip install 'pyflow-2p[cluster]' ({error})") from error
