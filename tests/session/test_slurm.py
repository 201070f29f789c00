"""A real SLURM of one machine, in a folder of its own: what `submit` hands to it runs, fails, and runs again."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyflow.layout import RESULT_FILE
from pyflow.session.cli import main
from pyflow.session.dask import open_cluster, run_session_dask

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
_MISSING = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]

pytestmark = [
    pytest.mark.skipif(bool(_MISSING), reason=f"SLURM is not installed: no {', '.join(_MISSING)}"),
    pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="slurmd is started as root"),
]

_CONF = """\
ClusterName=pyflow
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """A SLURM of one node with four processors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        host = socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        conf = folder / "slurm.conf"
        conf.write_text(_CONF.format(host=host, ports=free_ports(2), folder=folder))
        self.environment = {
            "SLURM_CONF": str(conf),
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        munge = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        munge[0] = f"--socket={folder}/munge.sock"
        self.processes = [
            self.start("munged", "--foreground", "--force", f"--key-file={folder}/munge.key", *munge),
            self.start("slurmctld", "-D", "-f", str(conf)),
            self.start("slurmd", "-D", "-f", str(conf), "-N", host),
        ]
        self.wait(lambda: "idle" in self.run("sinfo", "-h", "-o", "%t"), 20)

    def start(self, *words: str) -> subprocess.Popen:
        with open(self.folder / f"{words[0]}.out", "wb") as out:
            environment = {**os.environ, **self.environment}
            return subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env=environment)

    def run(self, *words: str) -> str:
        environment = {**os.environ, **self.environment}
        return subprocess.run(words, capture_output=True, text=True, env=environment, check=False).stdout

    def wait(self, condition, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.out"))
                raise AssertionError(f"not within {seconds} s; {self.run('squeue')}\n{logs}")
            time.sleep(0.1)

    def wait_until_empty(self, seconds: float) -> None:
        self.wait(lambda: not self.run("squeue", "-h"), seconds)

    def states(self) -> dict[str, tuple[str, int]]:
        """Return of all jobs, by number and task, how they ended and how often they were started again."""
        found = {}
        for line in self.run("scontrol", "-o", "show", "jobs").splitlines():
            fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
            name = fields["JobName"] + ("_" + fields["ArrayTaskId"] if "ArrayTaskId" in fields else "")
            found[name] = fields["JobState"], int(fields["Restarts"])
        return found

    def stop(self) -> None:
        self.run("scancel", "--state=RUNNING,PENDING", "--full", "-u", "root")
        self.run("scontrol", "shutdown")
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=20)


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    started = Cluster(tmp_path_factory.mktemp("slurm"))
    yield started
    started.stop()


@pytest.fixture
def slurm(cluster, monkeypatch):
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster


# The first run of a job takes its time, as if there were much to do; a run that goes on says from where.
_SLOW = """\
import os
if "SLURM_JOB_ID" in os.environ:
    import time
    import pyflow.session.stage1_compensate as stage1
    real, again = stage1.compensate_recording, int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    def compensate_recording(options, progress=None, **more):
        def watch(done, total):
            print("frame", done, "of run", again, flush=True)
            time.sleep(0 if again or done < 6 else 1)
        return real(options, progress=watch, **more)
    stage1.compensate_recording = compensate_recording
"""


def test_an_array_with_a_failure_and_a_job_out_of_time(
    slurm, config, session, write_recordings, equals_a_local_run, tmp_path, monkeypatch, capsys
):
    """Two sessions at once, since the time that SLURM takes to see that a job's time is over is spent waiting."""
    write_recordings(tmp_path / "a long", n_frames=70, shifts={"rec1": (0.0, 0.0)})
    slow = shutil.copy(session, tmp_path / "a long" / "session.toml")
    long = config.from_file(slow)
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(_SLOW)
    with monkeypatch.context() as first:
        first.setenv("PYTHONPATH", f"{tmp_path / 'slow'}{os.pathsep}{slurm.environment['PYTHONPATH']}")
        options = ["--time=1", "--cpus-per-task=2", "--job-name=slow"]
        assert main(["submit", str(slow), "--scheduler", "slurm", *options]) == 0

    whole = (config.root / "rec2.tif").read_bytes()
    (config.root / "rec2.tif").write_bytes(whole[:1000])
    assert main(["submit", str(session), "--scheduler", "slurm"]) == 0
    states = slurm.states
    slurm.wait(lambda: states().get("pyflow-rest", ("", 0))[0] == "CANCELLED", 90)
    ended = states()
    assert [ended[f"pyflow-stage1_{n}"][0] for n in (1, 2, 3)] == ["COMPLETED", "FAILED", "COMPLETED"]
    logs = config.final_results / "jobs"
    assert "failed rec2: " in (logs / "pyflow-stage1_2.log").read_text()
    assert not (config.final_results / f"{RESULT_FILE}.npz").exists()

    (config.root / "rec2.tif").write_bytes(whole)
    shutil.copy(config.root / "rec1.tif", config.root / "rec0.tif")  # comes first, and must not shift the numbers
    capsys.readouterr()
    assert main(["submit", str(session), "--scheduler", "slurm"]) == 0
    assert "--array=2,4 " in capsys.readouterr().out
    slurm.wait(lambda: (config.final_results / f"{RESULT_FILE}.mat").exists(), 90)
    slurm.wait(lambda: states()["pyflow-rest"][0] == "COMPLETED", 30)

    def queued():
        lines = slurm.run("squeue", "-h", "-r", "-t", "PENDING", "-n", "slow", "-o", "%A %r").splitlines()
        return dict(map(str.split, lines))

    # The job itself is in the queue again only once the last process of its first run has ended.
    slurm.wait(lambda: set(queued().values()) - {"Dependency"}, 90)
    for number, reason in queued().items():
        now = [] if reason == "Dependency" else ["StartTime=now"]  # spares the half minute that SLURM waits
        slurm.run("scontrol", "update", f"JobId={number}", "TimeLimit=30", *now)
    slurm.wait_until_empty(90)
    said = (long.final_results / "jobs" / "pyflow-stage1_1.log").read_text()
    assert {state for name, state in states().items() if name == "slow_1"} == {("COMPLETED", 1)}, said
    assert "interrupted; what is finished is kept" in said
    reached = [int(line.split()[1]) for line in said.splitlines() if line.endswith(" of run 0")]
    went_on = [int(line.split()[1]) for line in said.splitlines() if line.endswith(" of run 1")]
    assert 6 < max(reached) < 70
    assert 4 < min(went_on) <= max(reached) + 1
    assert max(went_on) == 70

    monkeypatch.undo()
    equals_a_local_run(config.from_file(session))
    equals_a_local_run(long)


def test_a_queue_that_refuses_is_quoted(slurm, session, capsys):
    assert main(["submit", str(session), "--scheduler", "slurm", "--partition=gone"]) == 1
    assert "invalid partition specified: gone" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("dask_garbage")
def test_a_lost_job_of_dask_is_replaced(slurm, config, frames, write_recordings, equals_a_local_run, tmp_path):
    """The one worker is cancelled in the middle of a recording; another job goes on from the last batch."""
    pytest.importorskip("dask_jobqueue", reason="the extra cluster is not installed")
    write_recordings(config.root, n_frames=30, shifts={"rec1": (0.0, 0.0)})
    for name in ("rec2", "rec10"):
        (config.root / f"{name}.tif").unlink()
    cancelled = []

    def cancel_once(name, done, total):
        if done >= 10 and not cancelled:
            cancelled.append(frames()[-1])
            (tmp_path / "SLOW").unlink()
            slurm.run("scancel", "--name=dask-worker", "--user=root")

    with open_cluster(config, "slurm", jobs=1, cores=2, memory="500MB", options=["--nice=1"]) as client:
        client.wait_for_workers(1)
        assert set(client.run(lambda: os.environ["SLURM_CPUS_PER_TASK"]).values()) == {"2"}
        assert set(client.nthreads().values()) == {1}
        run_session_dask(config, client, progress=cancel_once)
    slurm.wait_until_empty(20)
    pid, reached = cancelled[0]
    went_on = [done for other, done in frames() if other != pid]
    assert 4 < went_on[0] <= reached + 1
    assert went_on[-1] == 30
    equals_a_local_run(config)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("dask_garbage")
def test_a_queue_that_refuses_daskes_jobs_is_quoted(slurm, session, capsys):
    pytest.importorskip("dask_jobqueue", reason="the extra cluster is not installed")
    assert main(["dask", str(session), "--scheduler", "slurm", "--jobs", "2", "--partition=gone"]) == 1
    assert "slurm refused a job: " in capsys.readouterr().err
