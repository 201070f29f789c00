"""docs/migration.md: the defaults that it states are the code's, and so are the names."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path, PurePath

import pytest

import pyflow
from pyflow.session import SessionConfig

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")


def rows(section):
    """Cells of the tables of a part of the page, without the lines that make them tables."""
    part = TEXT[TEXT.index(section) :].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", part, re.MULTILINE)
    ]


def literal(cell):
    return ast.literal_eval(re.fullmatch(r"`(.*)`", cell)[1])


def plain(value):
    """A default as the page writes it."""
    value = getattr(value, "value", value)
    return str(value) if isinstance(value, PurePath) else value


def defaults(model):
    return {
        name: plain(field.get_default(call_default_factory=True))
        for name, field in model.model_fields.items()
        if not field.is_required()
    }


def stated():
    """What, option, what pyflow has, what pyflowreg has, as the tables side by side say."""
    part = TEXT[TEXT.index("### Defaults side by side") :].split("\n### ")[0]
    for table in re.split(r"^Of ", part, flags=re.MULTILINE)[1:]:
        what = re.match(r"`(\w+)`", table)[1]
        for line in re.findall(r"^\| `(\w+)` \| (`[^|]*`) \| (`[^|]*`) \|", table, re.MULTILINE):
            yield what, line[0], literal(line[1]), literal(line[2])


def test_defaults_side_by_side_are_those_of_the_code_and_no_other_differ():
    from pyflow.compat.pyflowreg.flow import get_displacement as their_flow
    from pyflow.compat.pyflowreg.options import OFOptions as TheirOptions
    from pyflow.compat.pyflowreg.session import SessionConfig as TheirSession

    ours = {"OFOptions": defaults(pyflow.OFOptions), "SessionConfig": defaults(SessionConfig)}
    theirs = {"OFOptions": defaults(TheirOptions), "SessionConfig": defaults(TheirSession)}
    for found, function in ((ours, pyflow.get_displacement), (theirs, their_flow)):
        parameters = inspect.signature(function).parameters.values()
        found["get_displacement"] = {p.name: p.default for p in parameters if p.default is not p.empty}
    told = {(what, name): (mine, other) for what, name, mine, other in stated()}
    assert len(told) == 14
    for (what, name), (mine, other) in told.items():
        assert (mine, other) == (ours[what][name], theirs[what][name]), name

    def same(mine, other):
        as_lists = [list(map(list, x)) if x and isinstance(x[0], tuple | list) else list(x) for x in (mine, other)]
        return as_lists[0] == as_lists[1]

    for what in ours:
        for name in set(ours[what]) & set(theirs[what]) - {name for of, name in told if of == what}:
            mine, other = ours[what][name], theirs[what][name]
            if name == "reference_frames":
                other = f"{other[0]}:{other[-1] + 1}"
            if name == "flow_options":  # nothing is called None there
                other = other or {}
            alike = same(mine, other) if isinstance(mine, tuple) else mine == other
            assert alike, f"{what} {name}: {mine!r} and {other!r}"


@pytest.mark.parametrize("section", ["## From suite2p", "## From NoRMCorre"])
def test_defaults_beside_those_of_other_programs_are_the_codes(section):
    found = defaults(pyflow.OFOptions)
    told = [(cells[2], cells[3]) for cells in rows(section) if len(cells) == 4 and cells[3].startswith("`")]
    assert len(told) >= 5
    for option, value in told:
        name = re.match(r"`(\w+)", option)[1]
        assert literal(value) == found[name], name


def resolved(name):
    """What a dotted name stands for."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


def test_names_on_the_page_are_there():
    names = set(re.findall(r"`(pyflow\.\w[\w.]*\w)", TEXT))
    assert len(names) > 15
    for name in names:
        assert resolved(name) is not None
