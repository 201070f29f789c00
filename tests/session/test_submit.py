"""What submit asks of each scheduler, held against programs that take the schedulers' place.

They read the options as the real ones do, run each task with the scheduler's variables, and say what it says.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyflow.session import run_stage1_array
from pyflow.session.claims import claim
from pyflow.session.cli import main
from pyflow.session.submit import SCHEDULERS, parse_tasks
from pyflow.threads import available_threads

pytestmark = pytest.mark.skipif(os.name != "posix", reason="schedulers are POSIX")

# Takes the place of sbatch, qsub and bsub: runs every task of the script at once, and notes what it was asked.
_FAKE = r"""
import json, os, re, subprocess, sys
from pathlib import Path
here = Path(__file__).parent
if (here / "refuse").exists() and (here / "refuse").read_text() in " ".join(sys.argv):
    sys.exit("Invalid account or account/partition combination specified")
flavour, words = os.environ["FAKE"], sys.argv[1:]
number = str(len(list(here.glob("asked*"))) + 41)
(here / f"asked{number}").write_text(json.dumps([Path(sys.argv[0]).name, *words]))
def after(*names):
    for i, word in enumerate(words):
        for name in names:
            if word == name: return words[i + 1]
            if name.startswith("--") and word.startswith(name + "="): return word.split("=", 1)[1]
tasks = {"slurm": after("--array"), "sge": after("-t"), "pbs": after("-J"), "lsf": after("-J")}[flavour]
if flavour == "lsf": tasks = tasks.partition("[")[2].rstrip("]")
if flavour == "pbs" and tasks and "-" not in tasks: sys.exit("qsub: illegal -J value")
if flavour in ("pbs", "sge") and tasks and "," in tasks: sys.exit("qsub: illegal range")
variable = dict(slurm="SLURM_ARRAY_TASK_ID", sge="SGE_TASK_ID", pbs="PBS_ARRAY_INDEX", lsf="LSB_JOBINDEX")[flavour]
runs = []
for part in (tasks or "").split(","):
    low, _, high = part.partition("-")
    runs += [str(n) for n in range(int(low), int(high or low) + 1)] if low else [None]
outside = {"sge": "undefined", "lsf": "0"}.get(flavour)
for run in runs:
    value = run or outside
    environment = {**os.environ, **({variable: value} if value else {})}
    subprocess.run(["bash", words[-1]], env=environment)
said = dict(slurm=number, sge=number + (f".{tasks}:1" if tasks else ""), pbs=number + ("[]" if tasks else "") + ".head",
            lsf=f"Job <{number}> is submitted to default queue <normal>.")
print(said[flavour])
"""


@pytest.fixture
def session(config):
    path = config.root / "a session.toml"
    path.write_text('root = "."\n[flow_options]\nquality_setting = "fast"\niterations = 5\nreference_frames = "0:4"\n')
    return path


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Return a function that starts a cluster of a flavour, whose jobs note how they call Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "fake.py").write_text(_FAKE)
    for name in ("sbatch", "qsub", "bsub"):
        (folder / name).write_text(f'#!/bin/bash\nexec {sys.executable} -P "{folder}/fake.py" "$@"\n')
        (folder / name).chmod(0o755)
    python = folder / "python"
    python.write_text(
        '#!/bin/bash\nshift 3; echo "$* #${SLURM_ARRAY_TASK_ID}${SGE_TASK_ID}${PBS_ARRAY_INDEX}${LSB_JOBINDEX}"'
        f" >> '{folder}/ran'\n"
    )
    python.chmod(0o755)

    def start(flavour):
        monkeypatch.setenv("FAKE", flavour)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setattr(sys, "executable", str(python))
        return folder

    return start


def asked(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("asked*"))]


def ran(folder):
    lines = (folder / "ran").read_text().splitlines()
    (folder / "ran").unlink()
    return lines


@pytest.mark.parametrize("flavour", ["slurm", "sge", "pbs", "lsf"])
def test_all_then_some_then_the_rest(config, session, cluster, capsys, monkeypatch, flavour):
    folder = cluster(flavour)
    run = f"run {session} --stage"
    none = {"sge": "undefined", "lsf": "0"}.get(flavour, "")
    rest = [f"{run} {stage} #{none}" for stage in (2, 3)]
    assert main(["submit", str(session), "--scheduler", flavour, "--time", "10", "-q", "short"]) == 0
    assert ran(folder) == [f"{run} 1 --array #{n}" for n in (1, 2, 3)] + rest
    first, second = asked(folder)
    for words in (first, second):
        assert words[words.index("--time") :][:4] == ["--time", "10", "-q", "short"]
    waits = {
        "slurm": "--dependency=afterok:41",
        "sge": "-hold_jid 41",
        "pbs": "-W depend=afterok:41[].head",
        "lsf": "-w done(41)",
    }
    assert waits[flavour] in " ".join(second)
    assert "job 42" in capsys.readouterr().out.replace(".head", "")

    variable = {"slurm": "SLURM_ARRAY_TASK_ID", "sge": "SGE_TASK_ID", "pbs": "PBS_ARRAY_INDEX", "lsf": "LSB_JOBINDEX"}
    with monkeypatch.context() as task:
        task.setenv(variable[flavour], "2")
        assert run_stage1_array(config.from_file(session)).name == "rec2"
    shutil.copy(config.root / "rec1.tif", config.root / "rec0.tif")  # comes before all others, and has the last number
    assert main(["submit", str(session), "--scheduler", flavour]) == 0
    said = ran(folder)
    assert said[-2:] == rest
    if flavour == "pbs":  # an array of one task is none there
        assert said[:-2] == [f"{run} 1 --index 0 #", *(f"{run} 1 --array #{n}" for n in (3, 4))]
    else:
        assert said[:-2] == [f"{run} 1 --array #{n}" for n in (1, 3, 4)]
    numbers = {"slurm": "43", "sge": "43,44", "pbs": "43.head:44[].head", "lsf": "43"}[flavour]
    assert numbers in " ".join(asked(folder)[-1])

    assert main(["submit", str(session), "--scheduler", flavour, "--tasks", "2"]) == 0
    assert ran(folder) == [f"{run} 1 --{'index 1 #' if flavour == 'pbs' else 'array #2'}", *rest]


def test_where_all_is_done_only_the_rest_is_submitted(config, session, cluster):
    folder = cluster("slurm")
    for index in range(3):
        run_stage1_array(config.from_file(session), index)
    assert main(["submit", str(session), "--scheduler", "slurm"]) == 0
    [words] = asked(folder)
    assert not any("--array" in word or "--dependency" in word for word in words)
    assert [line.split("--")[1] for line in ran(folder)] == ["stage 2 #", "stage 3 #"]


def test_what_is_to_be_computed_anew_is_submitted_though_it_is_done(config, session, capsys):
    run_stage1_array(config.from_file(session), 1)
    assert main(["submit", str(session), "--scheduler", "slurm", "--dry-run"]) == 0
    assert "--array=1,3 " in capsys.readouterr().out
    session.write_text("resume = false\n" + session.read_text())
    assert main(["submit", str(session), "--scheduler", "slurm", "--dry-run"]) == 0
    assert "--array=1-3 " in capsys.readouterr().out


def test_tasks_in_any_order_are_submitted_once(session, capsys):
    assert main(["submit", str(session), "--scheduler", "slurm", "--dry-run", "--tasks", "3,1,3"]) == 0
    assert "--array=1,3 " in capsys.readouterr().out


def test_a_dry_run_writes_and_submits_nothing(config, session, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    words = ["--config", str(session), "--scheduler", "slurm", "--time", "5", "--dry-run", "--", "--config", "x"]
    assert main(["submit", *words]) == 0
    out = capsys.readouterr().out
    assert "JOB1: sbatch" in out
    assert "--array=1-3 --time 5 --config x" in out
    assert "--dependency=afterok:JOB1" in out
    assert sorted(path.name for path in (config.final_results / "jobs").iterdir()) == [
        "pyflow-rest.sh",
        "pyflow-stage1.sh",
    ]
    assert (config.final_results / "array.json").exists()
    assert not config.output_root.exists()


@pytest.mark.parametrize(("flavour", "command"), [("slurm", "sbatch"), ("pbs", "qsub"), ("lsf", "bsub")])
def test_a_missing_command_is_named_before_anything_is_written(config, session, monkeypatch, capsys, flavour, command):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["submit", str(session), "--scheduler", flavour]) == 2
    assert f"{flavour}: there is no command '{command}' on this machine" in capsys.readouterr().err
    assert not config.final_results.exists()


@pytest.mark.parametrize(("job", "queued"), [("stage1", ""), ("rest", "Already queued: 41.")])
def test_a_queue_that_refuses_is_quoted(session, cluster, capsys, job, queued):
    (cluster("slurm") / "refuse").write_text(f"pyflow-{job}.sh")
    assert main(["submit", str(session), "--scheduler", "slurm", "--partition=gone"]) == 1
    said = capsys.readouterr().err
    assert "sbatch --parsable" in said
    assert "said: Invalid account or account/partition combination specified." in said
    assert said.rstrip().endswith(queued)


def test_what_a_queue_says_in_another_encoding_is_quoted(session, cluster, capsys):
    (cluster("slurm") / "sbatch").write_text("#!/bin/bash\nprintf 'refus\\351' >&2\nexit 1\n")
    assert main(["submit", str(session), "--scheduler", "slurm"]) == 1
    assert "and said: refus\\xe9." in capsys.readouterr().err


def test_what_is_worked_on_already_is_said(config, session, cluster, caplog):
    cluster("slurm")
    with claim(config.output_root / "rec2"):
        assert main(["submit", str(session), "--scheduler", "slurm"]) == 0
    assert f"task 2: process {os.getpid()} on " in caplog.text
    assert "works on rec2.tif now; the new task waits for it" in caplog.text
    assert caplog.text.count("works on") == 1


def test_options_that_only_begin_like_reserved_ones_are_passed_on(session, cluster):
    for flavour, words in (("slurm", ["--account=x", "-p", "gpu"]), ("sge", ["-tc", "4"]), ("lsf", ["-wt", "5"])):
        folder = cluster(flavour)
        assert main(["submit", str(session), "--scheduler", flavour, "--dry-run", *words]) == 0
        assert asked(folder) == []


def test_what_is_reserved_may_be_cut_short_and_nothing_else_is():
    """`--` ends SLURM's options and says nothing itself."""
    slurm = SCHEDULERS["slurm"]
    asked = ("--", "--a", "--arr=3", "--array", "-a", "-a3", "--account=x", "--arraysize", "-", "a")
    assert [slurm.is_reserved(option) for option in asked] == [False] + [True] * 5 + [False] * 4


def test_a_manifest_of_another_session_is_refused(config, session, cluster, capsys):
    folder = cluster("slurm")
    config.final_results.mkdir()
    other = {"session": {"root": "../../other", "pattern": "*.tif"}, "first": 1, "recordings": ["rec1.tif"]}
    (config.final_results / "array.json").write_text(json.dumps(other))
    assert main(["submit", str(session), "--scheduler", "slurm"]) == 2
    assert "array.json: made for {'root': '../../other'" in capsys.readouterr().err
    assert asked(folder) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "4"], "task 4: .*array.json has tasks 1 to 3"),
        (["--tasks", "0"], "task 0: .*array.json has tasks 1 to 3"),
        (["--tasks", "3-1"], "--tasks: expected numbers and ranges such as 1,4-6, found '3-1'"),
        (["--tasks", "1,,2"], "--tasks: .*, found ''"),
        (["--array=2"], "--array=2: set by submit itself"),
        (["-d", "afterok:3"], "-d: set by submit itself"),
        (["-dafterok:3"], "-dafterok:3: set by submit itself"),
        (["--depend=afterok:3"], "--depend=afterok:3: set by submit itself"),
    ],
)
def test_what_cannot_be_submitted_is_said(session, cluster, capsys, words, message):
    folder = cluster("slurm")
    assert main(["submit", str(session), "--scheduler", "slurm", *words]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert asked(folder) == []


def test_schedulers_without_task_0_are_not_given_it(config, session, cluster, capsys):
    folder = cluster("lsf")
    assert main(["manifest", str(session), "--first", "0"]) == 0
    assert main(["submit", str(session), "--scheduler", "lsf"]) == 2
    assert "array.json: its tasks count from 0, and lsf has no task 0" in capsys.readouterr().err
    assert asked(folder) == []
    cluster("slurm")
    assert main(["submit", str(session), "--scheduler", "slurm"]) == 0
    assert "--array=0-2" in asked(folder)[0]


def test_lists_of_tasks():
    assert parse_tasks("1,4-6, 9") == [1, 4, 5, 6, 9]


@pytest.mark.parametrize(
    ("environment", "n_threads"),
    [
        ({"SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "8"}, 3),
        ({"SLURM_CPUS_ON_NODE": "5"}, 5),
        ({"NSLOTS": "6"}, 6),
        ({"NCPUS": "7"}, 7),
        ({"LSB_DJOB_NUMPROC": "9"}, 9),
        ({"PYFLOW_NUM_THREADS": "2", "SLURM_CPUS_PER_TASK": "3"}, 2),
    ],
)
def test_threads_are_what_the_job_was_given(monkeypatch, environment, n_threads):
    for name in ("PYFLOW_NUM_THREADS", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "NSLOTS", "PBS_NP", "NCPUS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert available_threads() == n_threads


@pytest.mark.parametrize(
    ("flavour", "number", "status", "queued_again"),
    [
        ("slurm", signal.SIGUSR1, 75, True),
        ("slurm", signal.SIGTERM, 75, False),
        ("sge", signal.SIGUSR1, 99, False),
        ("sge", signal.SIGTERM, 75, False),
        ("lsf", signal.SIGUSR2, 75, False),
        ("pbs", signal.SIGTERM, 75, False),
    ],
)
def test_a_job_ends_at_a_signal_and_is_queued_again_at_a_warning(
    config, session, tmp_path, monkeypatch, flavour, number, status, queued_again
):
    """The command gets SIGTERM, and time to end; its status decides what becomes of the job."""
    python, said = tmp_path / "python", tmp_path / "said"
    python.write_text(
        "#!/bin/bash\ntrap 'echo saved >> said; exit 75' TERM\necho \"$@\" >> said\n"
        "for i in {1..100}; do sleep 0.1; done\n"
    )
    python.chmod(0o755)
    (tmp_path / "scontrol").write_text('#!/bin/bash\necho "scontrol $*" >> said\n')
    (tmp_path / "scontrol").chmod(0o755)
    (tmp_path / "sleep").write_text(
        '#!/bin/bash\n[ "$1" != 60 ] && exec /bin/sleep "$1"\necho "waits to be ended" >> said\n'
    )
    (tmp_path / "sleep").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert main(["submit", str(session), "--scheduler", flavour, "--dry-run"]) == 0
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "12"}
    script = config.final_results / "jobs" / "pyflow-rest.sh"
    job = subprocess.Popen(["bash", script], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    while not said.exists():
        time.sleep(0.02)
    job.send_signal(number)
    assert job.wait(timeout=30) == status
    lines = said.read_text().splitlines()
    assert lines[0].endswith("--stage 2")
    assert lines[1:] == ["saved"] + ["scontrol requeue 12", "waits to be ended"] * queued_again


def test_a_repeated_sigterm_does_not_disturb_the_end(tmp_path):
    """Schedulers send it to every process of a job, and the job's shell sends it on: the first one counts."""
    code = (
        "import signal, time\nfrom pyflow.session.cli import _end_on_sigterm\n_end_on_sigterm()\n"
        "try:\n    print('ready', flush=True); time.sleep(10)\n"
        "except KeyboardInterrupt:\n    print('ending', flush=True); time.sleep(0.5); print('ended', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    for line in ("ready\n", "ending\n"):
        assert process.stdout.readline() == line
        process.terminate()
    assert process.communicate(timeout=5)[0] == "ended\n"
    assert process.returncode == 0


def test_slurm_is_not_given_folders_that_it_takes_for_patterns(config, session, capsys):
    """The first run of a job would find a doubled % at its place, and one that is queued again would not."""
    root = config.root.rename(config.root.with_name("20% sucrose"))
    assert main(["submit", str(root / session.name), "--scheduler", "slurm", "--dry-run"]) == 2
    assert f"SLURM takes the % in {root / 'final_results'} for the beginning of a pattern" in capsys.readouterr().err
    assert main(["submit", str(root / session.name), "--scheduler", "sge", "--dry-run"]) == 0


def test_paths_of_jobs_stay_as_they_are_on_disk(config, session, capsys):
    root = config.root.rename(config.root.with_name(os.fsdecode(b"caf\xe9")))
    assert main(["submit", str(root / session.name), "--scheduler", "slurm", "--dry-run"]) == 0
    script = (root / "final_results" / "jobs" / "pyflow-stage1.sh").read_bytes()
    assert os.fsencode(root / session.name) in script


def test_paths_of_jobs_survive_spaces_and_other_folders(config, session, monkeypatch, tmp_path):
    monkeypatch.chdir(session.parent)
    assert main(["submit", session.name, "--scheduler", "slurm", "--dry-run"]) == 0
    script = (config.final_results / "jobs" / "pyflow-stage1.sh").read_text()
    assert f"run '{Path(session)}' $arguments" in script
