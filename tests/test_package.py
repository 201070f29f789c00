"""What `import pyflow` does, what status codes mean, how many threads there are."""

import os
import subprocess
import sys

import pytest

import pyflow
from pyflow._ext._status import _ERRORS, check
from pyflow.threads import _VARIABLES, available_threads, resolve_threads


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
