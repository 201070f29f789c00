"""The examples of docs/units.md, as a reader would type them: in order, in an empty folder."""

import logging
import re
import shlex
from pathlib import Path

import numpy as np
import openpyxl

from pyflow.units import UnitStore
from pyflow.units.cli import _parser, main

PAGE = Path(__file__).parents[2] / "docs" / "units.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run(commands):
    """Run what the page tells to type into a terminal."""
    handlers = logging.getLogger("pyflow").handlers
    for command in commands.splitlines():
        program, *words = shlex.split(command, comments=True)
        assert program == "pyflow-units", command
        try:
            code = main(words)
        except SystemExit as done:  # --version
            code = done.code
        assert code == 0, command
    logging.getLogger("pyflow").handlers = handlers


def test_examples(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```(python|bash)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(examples) == 31
    names = {}
    for language, example in examples:
        if language == "bash":
            run(example)
        else:
            exec(compile(example, f"{PAGE.name}: {example.splitlines()[0]}", "exec"), names)
    printed = capsys.readouterr().out
    for shown in blocks("text"):
        assert shown in printed
    assert "['day 1', 'day 2', 'day 3']" in printed
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


def test_every_command_is_on_the_page():
    """A command that nobody is told of is not found."""
    (commands,) = (action.choices for action in _parser()._actions if isinstance(action.choices, dict))
    shown = {line.split()[1] for block in blocks("bash") for line in block.splitlines()}
    assert shown == {*commands, "--version"}


def test_the_table_on_the_page_is_the_one_that_is_read():
    """The sheet shown and the sheet that the example writes."""
    shown = [line[1:-1].split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    shown = [[cell.strip() for cell in row] for row in shown if "---" not in row]
    names = {}
    code = next(block for block in blocks("python") if block.startswith("header ="))
    exec(code[: code.index("pd.DataFrame")], names)
    rows = [["" if cell is None else str(cell) for cell in row] for row in names["rows"]]
    assert shown == [names["header"], *rows]
