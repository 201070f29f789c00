"""What `import pyflow` does, what status codes mean, how many threads there are."""

import ast
import doctest
import inspect
import os
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import pyflow
from pyflow._ext._status import _ERRORS, check
from pyflow.io import ReaderOptions
from pyflow.session import SessionConfig
from pyflow.threads import _VARIABLES, available_threads, resolve_threads


def unannotated(source):
    """Public functions and methods, constructors included, of a module that leave a type out: what and where."""
    tree = ast.parse(source)
    owners = [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and not n.name.startswith("_"))]
    functions = (n for owner in owners for n in owner.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    for function in functions:
        if function.name.startswith("_") and not function.name.endswith("__"):
            continue
        given = function.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        without = [a.arg for a in named if a and not a.annotation and a.arg not in ("self", "cls")]
        without += ["return"] * (function.returns is None)
        if without:
            yield f"line {function.lineno}: {function.name} ({', '.join(without)})"


def test_all_public_functions_say_their_types():
    package = Path(pyflow.__file__).parent
    assert (package / "py.typed").is_file()
    paths = {path.relative_to(package): path for path in package.rglob("*.py")}
    found = {
        str(path): missing
        for path, file in paths.items()
        if path.parts[0] != "_ext" and (missing := list(unannotated(file.read_text(encoding="utf-8"))))
    }
    assert found == {}


def test_importing_loads_nothing_heavy():
    script = "import sys; import pyflow; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-P", "-c", script], text=True).split())
    heavy = {"numpy", "scipy", "h5py", "tifffile", "pydantic", "rich", "pandas", "matplotlib", "yaml"}
    assert not loaded & heavy


def test_every_public_name_is_there():
    for name in pyflow.__all__:
        assert getattr(pyflow, name).__doc__
        assert name in dir(pyflow)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pyflow.nothing  # noqa: B018


def test_completion_offers_what_is_public_once_and_nothing_else():
    script = "import pyflow; pyflow.OFOptions; print(*[name for name in dir(pyflow) if not name.startswith('__')])"
    shown = subprocess.check_output([sys.executable, "-P", "-c", script], text=True).split()
    modules = ["export", "flow", "io", "motion", "plots", "session", "simulate", "units"]
    assert shown == sorted([*pyflow.__all__, *modules])


def test_public_modules_are_found_without_being_imported_first():
    script = "import pyflow; print(pyflow.plots.__name__, pyflow.units.__name__)"
    assert subprocess.check_output([sys.executable, "-P", "-c", script], text=True).split() == [
        "pyflow.plots",
        "pyflow.units",
    ]


@pytest.mark.parametrize("name", ["get_displacement", "imregister", "imregister_binary", "valid_mask"])
def test_help_of_functions_names_types_as_they_are_written(name):
    head = pydoc.plain(pydoc.render_doc(getattr(pyflow, name))).splitlines()[2]
    assert "ArrayLike" in head
    assert "_Buffer" not in head


def test_every_status_code_is_an_error_that_names_the_values():
    check(0, "kernel")
    assert sorted(_ERRORS) == [1, 2, 3]
    for status, (kind, reason) in _ERRORS.items():
        with pytest.raises(kind, match=rf"kernel: {reason} \(shape=\(3, 4\)\)"):
            check(status, "kernel", shape=(3, 4))


def test_threads_come_from_the_environment_then_the_affinity(monkeypatch):
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    free = available_threads()
    assert free >= 1
    if hasattr(os, "sched_getaffinity"):
        assert free == len(os.sched_getaffinity(0))
    for number, name in reversed(list(enumerate(_VARIABLES, 2))):
        monkeypatch.setenv(name, str(number))
        assert available_threads() == number
    assert resolve_threads(0) == 2
    assert resolve_threads(7) == 7


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_of_threads_names_the_variable(monkeypatch, text):
    monkeypatch.setenv("PYFLOW_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"PYFLOW_NUM_THREADS='{text}'"):
        available_threads()


@pytest.mark.parametrize("model", [pyflow.OFOptions, SessionConfig, ReaderOptions])
def test_help_of_options_begins_with_what_they_are_and_an_example(model):
    """Not with pages of types; programs that complete names still find them."""
    lines = pydoc.plain(pydoc.render_doc(model)).splitlines()
    summary = model.__doc__.splitlines()[0]
    assert lines[3] == f" |  {model.__name__}(**options)"
    assert lines[5] == f" |  {summary}"
    assert lines[7].startswith(" |  >>> ")
    assert set(inspect.signature(model).parameters) == set(model.model_fields)
    test = doctest.DocTestParser().get_doctest(model.__doc__, {model.__name__: model}, model.__name__, None, None)
    failed, attempted = doctest.DocTestRunner().run(test)
    assert attempted
    assert not failed


@pytest.mark.parametrize(
    ("wrong", "place", "said"),
    [
        (lambda: pyflow.OFOptions(alpha=-1), ("alpha",), "greater than or equal to 0.000001"),
        (lambda: pyflow.OFOptions(reader={"n_channels": {"a": 0}}), ("reader", "n_channels"), "valid integer"),
        (lambda: pyflow.OFOptions(input_file=3), ("input_file",), "expected a path"),
        (lambda: pyflow.OFOptions().replace(alhpa=1), (), "unknown option 'alhpa', did you mean 'alpha'"),
        (lambda: setattr(pyflow.OFOptions(), "alpha", 2), ("alpha",), "frozen; give alpha="),
        (lambda: SessionConfig(root=".", flow_options={"alpha": [1, "{x}"]}), ("flow_options",), "alpha.1: expected"),
    ],
)
def test_errors_speak_of_fields_and_not_of_pydantic(wrong, place, said):
    with pytest.raises(ValidationError) as caught:
        wrong()
    assert caught.value.errors()[0]["loc"] == place
    assert said in str(caught.value)
    assert not re.search(r"pydantic|Value error|https?:|\.(number|list|text|map)\b|lax", str(caught.value))
