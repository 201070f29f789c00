"""The house as its imports draw it: wings stand on wings below them, and no two modules import each other."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pyflow

PACKAGE = Path(pyflow.__file__).parent
ROOT = Path(__file__).resolve().parents[1]

# Every wing (a folder, or a file at the top) and what it may import beside itself, from the ground up: a wing names
# only wings above it in this table. `session` and `units` stand side by side: what units need of a session, they
# read from its files.
WINGS = {
    "": {"_lazy"},
    "_help": set(),
    "_lazy": set(),
    "threads": set(),
    "_ext": set(),
    "flow": {"_ext", "threads"},
    "align": {"flow", "threads"},
    "io": {"_help", "threads"},
    "layout": {"", "io", "threads"},
    "motion": {"", "_help", "align", "flow", "io", "layout", "threads"},
    "plots": set(),
    "simulate": {"_help", "_lazy", "flow", "io"},
    "export": {"", "_lazy", "io", "layout", "motion"},
    "session": {"", "_help", "align", "export", "flow", "io", "layout", "motion", "plots", "simulate", "threads"},
    "compat": {"", "_help", "_lazy", "flow", "io", "layout", "motion", "session"},
    "units": {"", "_lazy", "flow", "io", "layout", "plots", "threads"},
}


def modules(package):
    """All modules of a package's folder: dotted name -> file."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source, known):
    """Modules among those known that a source imports, wherever the import stands in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & set(known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import, which this test does not follow"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found |= {whole if whole in known else node.module} & set(known)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            found |= {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)} & set(known)
    return found


def lazy_table(source):
    """Public name -> module, of a package whose names are imported when they are first used."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOME":
            return ast.literal_eval(node.value)
    return {}


def wing(module):
    """Wing a module belongs to; empty for the package itself."""
    return f"{module}.".split(".")[1]


def arrows_upward(graph):
    """Sentences about imports that the table of wings does not allow."""
    return [
        f"{module} imports {other}, but {wing(module) or 'the package'} may use {sorted(WINGS.get(wing(module), ()))}"
        for module, others in graph.items()
        for other in others
        if wing(module) != wing(other) and wing(other) not in WINGS.get(wing(module), ())
    ]


def circle(graph):
    """Modules that import each other in a circle, None without one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " <- ".join(error.args[1])
    return None


@pytest.fixture(scope="module")
def graph():
    """Module -> modules it imports."""
    known = modules(PACKAGE)
    return {module: imports(path.read_text(encoding="utf-8"), known) - {module} for module, path in known.items()}


def test_every_wing_stands_on_wings_above_it_in_the_table(graph):
    order = list(WINGS)
    for name, uses in WINGS.items():
        assert all(other == "_lazy" or order.index(other) < order.index(name) for other in uses), name
    assert {wing(module) for module in graph} <= set(WINGS), "a new wing: say in the table what it may use"


def test_no_import_goes_upward(graph):
    assert arrows_upward(graph) == []


def test_no_modules_import_each_other(graph):
    assert circle(graph) is None


def test_names_imported_at_first_use_come_from_the_packages_own_wing():
    known = modules(PACKAGE)
    tables = {name: lazy_table(path.read_text(encoding="utf-8")) for name, path in known.items()}
    assert tables["pyflow"]
    assert tables["pyflow.units"]
    for name, table in tables.items():
        assert set(table.values()) <= set(known)
        assert name == "pyflow" or {wing(home) for home in table.values()} <= {wing(name)}


@pytest.mark.parametrize(
    "text",
    [
        "from pyflow.session import config",
        "import pyflow.session.config",
        "def f():\n    from pyflow.session.config import SessionConfig",
        "if TYPE_CHECKING:\n    from pyflow.session.config import SessionConfig",
        'import_module("pyflow.session.config")',
    ],
)
def test_arrows_and_circles_are_seen_wherever_the_import_stands(text):
    known = {"pyflow.session.config": None, "pyflow.flow.warp": None}
    found = {"pyflow.flow.warp": imports(text, known)}
    assert found == {"pyflow.flow.warp": {"pyflow.session.config"}}
    assert len(arrows_upward(found)) == 1
    assert circle(found | {"pyflow.session.config": {"pyflow.flow.warp"}})
    assert circle(found) is None


def test_the_way_of_a_frame_names_what_is_there():
    text = (ROOT / "docs" / "developing.md").read_text(encoding="utf-8")
    steps = re.findall(r"^ *(\w+) {2,}(pyflow/\S+\.py)", text, re.MULTILINE)
    assert len(steps) > 20
    for name, file in steps:
        assert re.search(rf"^(def|class) {name}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), name
    named = set(re.findall(r"\b(?:csrc|pyflow|tests|bench|docs)/[\w/.]*\w(?:/|\.\w+)", text))
    assert not {file for file in named if not (ROOT / file).exists()}
