"""Every page of docs/ and the README: what it tells to type runs, in order, and where it links to there is something.

A page is run in a folder with three small recordings and their finished session (`lab`). Its blocks are, by language:

``python``, ``bash``
    run, other than what sets pyflow up, which .ci/run does. A python block whose first line says where it runs
    (``# in suite2p's environment``) is only read, and what it imports from pyflow has to be there.
``text``, straight after one of these
    what it printed, or a part of it.
``console``
    commands behind ``$``, which do not run here: a cluster's, an installation's. Their options are looked up.
``toml``
    a session's configuration, or a part of it, which is checked. One that begins with ``# FILE`` is that file while the
    page runs.
"""

import ast
import importlib
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import openpyxl
import pytest
import tifffile

from pyflow.session import SessionConfig, cli, demo, run_session
from pyflow.simulate import simulate_session
from pyflow.units import UnitStore
from pyflow.units import cli as units_cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.relative_to(ROOT) for path in (*ROOT.glob("docs/**/*.md"), ROOT / "README.md"))
SET_UP = ".venv/bin/"  # in the README, run by .ci/run, from a clean clone
ELSEWHERE = re.compile(r"# (in|on) ")
OCTAVE = shutil.which("octave-cli")

SESSION = """\
root = "."
pattern = "day*.tif"
report = false

[flow_options]
quality_setting = "fast"
reference_frames = "0:8"

[reader]
frame_rate = 30.0
"""


def blocks(page):
    """Language and text of each block of a page, and whether nothing stands between it and the block before."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found, end = [], -1
    for match in re.finditer(r"^```(\S*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        found.append((match[1], match[2], not text[end : match.start()].strip()))
        end = match.end()
    return found


def headings(page):
    """Where links into a page can lead, as GitHub and the site make names of headings."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with three recordings of a field of view, and what a session made of them."""
    folder = tmp_path_factory.mktemp("lab")
    session = simulate_session(3, (64, 72), 16, offset_px=3, rigid_px=2, nonrigid_px=1, jerks=0, photons=60)
    for name, recording in zip(session.names, session.recordings, strict=True):
        tifffile.imwrite(folder / f"{name}.tif", recording.movie)
    (folder / "session.toml").write_text(SESSION)
    run_session(SessionConfig.from_file(folder / "session.toml"))
    return folder


@pytest.fixture
def desk(lab, tmp_path, monkeypatch):
    """The folder that a page is run in, and a process that is left as it was."""
    folder = tmp_path / "desk"
    shutil.copytree(lab, folder)
    monkeypatch.chdir(folder)
    # small, and without the report, whose own page draws it
    monkeypatch.setattr(demo, "simulate_session", lambda **given: simulate_session(3, (64, 64), 12))
    monkeypatch.setattr(demo, "_SESSION_TOML", f"report = false\n{demo._SESSION_TOML}")
    logger, handler = logging.getLogger("pyflow"), signal.getsignal(signal.SIGTERM)
    before = logger.level, logger.handlers
    yield folder
    signal.signal(signal.SIGTERM, handler)
    logger.setLevel(before[0])
    logger.handlers = before[1]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_what_a_page_tells_to_type_runs(page, desk, capsys):
    written = blocks(page)
    for language, text, _ in written:
        if language == "toml" and (named := re.match(r"# (\S+\.toml)\n", text)):
            (desk / named[1]).write_text(text)
    names, said, printed = {"__name__": "page"}, "", None
    for language, text, straight_after in written:
        if language == "bash":
            for command in lines(text):
                check_command(command) if SET_UP in command else run(command)
        elif language == "python" and ELSEWHERE.match(text):
            check_imports(text)
        elif language == "python":
            exec(compile(text, f"{page}: {text.splitlines()[0]}", "exec"), names)
        elif language == "console":
            for line in lines(text):
                if line.startswith("$ "):
                    check_command(line.removeprefix("$ "))
        elif language == "toml":
            check_table(text)
        elif language == "text" and straight_after and printed is not None:
            assert text in printed
        else:
            assert language in {"text", "matlab"} or language.startswith("{"), f"a block of what? {text}"
        if language in ("bash", "python"):
            said += (printed := capsys.readouterr().out)
    if str(page) in AFTERWARDS:
        AFTERWARDS[str(page)](names, said)


def lines(text):
    """Commands of a block; one that ends in a backslash goes on in the next line."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def run(command):
    """Run a command as a terminal would, in this process."""
    program, *words = shlex.split(command, comments=True)
    mains = {"pyflow-session": cli.main, "pyflow-units": units_cli.main}
    assert program in mains, f"{command}: other programs stand in a block of console"
    try:
        status = mains[program](words)
    except SystemExit as done:  # --version
        status = done.code
    assert status == 0, command


def check_imports(text):
    """Look up what a program imports from here, without running it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "pyflow":
            for alias in node.names:
                assert hasattr(importlib.import_module(node.module), alias.name), f"{node.module}.{alias.name}"


class _ParsedError(Exception):
    """A command was understood; nothing of it is done."""


def stop():
    """Stand for the first step of `pyflow-session` after its arguments are parsed."""
    raise _ParsedError


def check_command(command):
    """Look up what a command names, without running it."""
    for step in re.split(r" && | \| ", command):
        program, *words = shlex.split(step, comments=True)
        program = Path(program).name if program.startswith(".venv") else program
        if program == "pyflow-session":
            with pytest.MonkeyPatch.context() as patched, pytest.raises(_ParsedError):
                patched.setattr(cli, "_end_on_sigterm", stop)
                cli.main(words)
        elif program == "pyflow-units":
            units_cli._parser().parse_args(words)
        elif program == "pip":
            check_extras(words)
        elif program in ("python", "python3", "bash", "pytest", "ruff", "cython-lint", "source", "sphinx-build"):
            check_paths(words)
        elif program.startswith((".", "/")):
            assert (ROOT / program).is_file(), command
        else:
            assert program in {"export", "git", "sbatch", "snakemake", "tmux"}, command


def check_extras(words):
    """Look up the extras of this package that pip is told to install."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for word in words:
        if asked := re.search(r"\[([\w,]+)\]$", word):
            assert set(asked[1].split(",")) <= set(extras), word


def check_paths(words):
    """Look up the files and modules of the repository that a program is given."""
    for before, word in zip(["", *words], words, strict=False):
        if before == "-m" and word.split(".")[0] in ("bench", "tests"):
            assert (ROOT / word.replace(".", "/")).with_suffix(".py").is_file(), word
        elif re.match(r"(bench|csrc|docs|pyflow|tests)\b", word) and before != "-m":
            assert (ROOT / word).exists(), word


def check_table(text):
    """Take a table for a session's configuration, where it is one; others are for the blocks that read them."""
    data = tomllib.loads(text)
    if set(data) <= set(SessionConfig.model_fields):
        SessionConfig(**{"root": "recordings", **data})
    else:
        assert re.match(r"# \S+\.toml\n", text), f"no session, and no file: {text}"


@pytest.mark.parametrize("page", [*PAGES, Path("CHANGELOG.md"), Path("matlab_compat/README.md")], ids=str)
def test_links_lead_somewhere(page):
    text = re.sub(
        r"^```.*?^```$|`[^`\n]*`", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = Path(os.path.normpath(page.parent / name)) if name else page
        assert (ROOT / target).exists(), f"{page}: {link}"
        assert not anchor or anchor in headings(target), f"{page}: {link}"


# What a page leaves behind, beside that it ran


def after_handover(names, said):
    assert names["ops_file"].is_file()
    assert names["mmap_file"].is_file()
    assert [path.name for path in names["files"]] == ["day1.nwb", "day2.nwb", "day3.nwb"]
    np.testing.assert_array_equal(names["mask"], names["valid"])
    python = os.environ.get("PYFLOW_HANDOVER_PYTHON")
    for language, code, _ in blocks("docs/handover.md"):
        if python and language == "python" and code.startswith("# in roiextractors"):
            subprocess.run([python, "-c", code], check=True)


def after_units(names, said):
    assert "['day 1', 'day 2', 'day 3']" in said
    with UnitStore.open("sorted.sqlite") as store:
        assert store.members(12)["session"].tolist() == ["day 1", "day 3"]
    with UnitStore.open("units.sqlite") as first, UnitStore.open("again.sqlite") as second:
        assert list(first.tables()["link_set"]["name"]) == ["cells"]
        columns = ["number", "global_id", "session", "group", "unit"]
        assert first.members()[columns].equals(second.members()[columns])
    with UnitStore.open("imaging.sqlite") as store:
        comparison = store.compare("CaImAn", "CaImAn, stricter")
        assert comparison.counts == {"shared": 1, "added": 1, "lost": 1, "conflicting": 0}
    assert openpyxl.load_workbook("followed.xlsx")["Units"].freeze_panes
    assert np.load("followed.npz")["member"].shape == (3, 2)


def after_matlab(names, said):
    if OCTAVE is None:
        pytest.skip("GNU Octave is missing; the rest ran")
    (code,) = (text for language, text, _ in blocks("docs/matlab.md") if language == "matlab")
    code = code.replace("addpath('matlab_compat')", f"addpath('{ROOT}/matlab_compat')")
    subprocess.run([OCTAVE, "--no-gui", "--norc", "--quiet", "--eval", code], check=True)


def after_migration(names, said):
    assert Path("rewritten/compensated.hdf5").is_file()


def after_scripting(names, said):
    assert said.count("frames 0 to 15: brightness") == 1
    np.testing.assert_allclose(names["motion"], names["result"].statistics["mean_disp"], rtol=1e-4)
    assert names["copy"].frames_written == 16
    np.testing.assert_array_equal(names["again"], names["registered"])
    np.testing.assert_array_equal(names["masks"][0] == 255, names["first"])


AFTERWARDS = {
    f"docs/{function.__name__.removeprefix('after_')}.md": function
    for function in (after_handover, after_matlab, after_migration, after_scripting, after_units)
}


def test_every_command_of_units_is_on_its_page():
    """A command that nobody is told of is not found."""
    (commands,) = (action.choices for action in units_cli._parser()._actions if isinstance(action.choices, dict))
    shown = {
        line.split()[1] for language, text, _ in blocks("docs/units.md") if language == "bash" for line in lines(text)
    }
    assert shown == {*commands, "--version"}


def test_the_sheet_on_the_page_is_the_one_that_is_read():
    """The sheet shown and the sheet that the example writes."""
    page = "docs/units.md"
    shown = [
        line[1:-1].split("|") for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line[:1] == "|"
    ]
    shown = [[cell.strip() for cell in row] for row in shown if "---" not in row]
    names = {}
    code = next(text for language, text, _ in blocks(page) if language == "python" and text.startswith("header ="))
    exec(code[: code.index("pd.DataFrame")], names)
    rows = [["" if cell is None else str(cell) for cell in row] for row in names["rows"]]
    assert shown == [names["header"], *rows]
