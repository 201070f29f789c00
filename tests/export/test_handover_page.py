"""The code on docs/handover.md, as it stands there."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest

from pyflow.export import to_nwb

PAGE = Path(__file__).parents[2] / "docs" / "handover.md"
PYTHON = os.environ.get("PYFLOW_HANDOVER_PYTHON")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_code_on_the_page_runs(finished, tmp_path, monkeypatch):
    finished(60)
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks("python"):
        if not code.startswith("# in "):
            exec(compile(code, str(PAGE), "exec"), names)
    assert names["ops_file"].is_file()
    assert names["mmap_file"].is_file()
    assert [path.name for path in names["files"]] == ["day1.nwb", "day2.nwb"]
    np.testing.assert_array_equal(names["mask"], names["valid"])
    (table,) = blocks("toml")
    assert len(to_nwb("final_results", "again", tomllib.loads(table))) == 2
    if PYTHON is None:
        pytest.skip("PYFLOW_HANDOVER_PYTHON does not name a Python with suite2p and roiextractors; the rest ran")
    for code in blocks("python"):
        if code.startswith("# in roiextractors"):
            subprocess.run([PYTHON, "-c", code], check=True)
