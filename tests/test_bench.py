"""The measurements run: nobody would see otherwise that a changed signature broke them."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

METHODS = ("pyflow fast, alpha auto", "pyflow fast, alpha 1.5")


@pytest.fixture
def bench(monkeypatch):
    """Import a module of bench, which is not installed."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).resolve().parents[1])])
    return lambda name: importlib.import_module(f"bench.{name}")


def test_the_report_is_written(bench, tmp_path, monkeypatch):
    report = bench("report")

    def here(command, **_):
        """Do in this process, on small movies, what a Python of its own is asked for."""
        name, *arguments = command[2:]
        if name == "bench.methods":
            bench("methods").main(Path(arguments[0]), arguments[1])
        else:
            with monkeypatch.context() as patch:
                patch.setattr(sys, "argv", [name, *arguments, "--rounds", "1"])
                importlib.import_module(name).main()
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(report.subprocess, "run", here)
    monkeypatch.setattr(report, "METHODS", {name: report.METHODS[name] for name in METHODS})
    monkeypatch.setattr(report, "PHOTONS", (12,))
    monkeypatch.setattr(report, "REAL", tmp_path / "missing")
    monkeypatch.delenv("PYFLOW_SUITE2P_PYTHON", raising=False)
    small = ["--size", "64", "--frames", "6", "--seeds", "1", "--recording-frames", "24"]
    monkeypatch.setattr(sys, "argv", ["bench.report", *small, "--output", str(tmp_path)])
    report.main()
    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
    assert [rows.count(name) for name in (*METHODS, "quality", "balanced", "fast")] == [1, 1, 2, 2, 2]
    assert (tmp_path / "performance.png").stat().st_size > 10_000
