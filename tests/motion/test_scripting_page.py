"""The examples of docs/scripting.md run, one after the other, as they stand."""

import re
from pathlib import Path

import numpy as np
import tifffile

PAGE = Path(__file__).parents[2] / "docs" / "scripting.md"


def test_every_block_runs(tmp_path, monkeypatch, scene, rng, capsys):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("day1.tif", scene.movie(rng.uniform(-2, 2, (50, 2)))[..., 0])
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    assert capsys.readouterr().out.count("frames 0 to 19: brightness") == 1
    assert len(names["motion"]) == 50
    np.testing.assert_allclose(names["motion"], names["result"].statistics["mean_disp"], rtol=1e-4)
    assert names["copy"].frames_written == 50
    np.testing.assert_array_equal(names["again"], names["registered"])
    np.testing.assert_array_equal(names["masks"][0] == 255, names["first"])
