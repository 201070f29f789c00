import errno
import json
import os

import numpy as np
import pytest

from pyflow.io.atomic import replacing
from pyflow.session import artifacts


def make_stage(folder):
    artifacts.save_npy(folder / "x.npy", np.arange(1000))
    artifacts.mark_done(folder, "stage1", {"schema": 1, "options": {"alpha": 2}}, [folder / "x.npy"], 1.0)


def test_done_only_with_the_same_parts_and_outputs(tmp_path):
    parts = {"options": {"alpha": 2}, "schema": 1}
    assert artifacts.check_done(tmp_path, "stage1", parts).reason == "not run yet"
    make_stage(tmp_path)
    assert artifacts.check_done(tmp_path, "stage1", parts).done
    changed = artifacts.check_done(tmp_path, "stage1", {"schema": 1, "options": {"alpha": 3}})
    assert changed == artifacts.State(False, "changed: options.alpha: 2 -> 3")


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_damaged_outputs_are_noticed(tmp_path, damage):
    make_stage(tmp_path)
    path = tmp_path / "x.npy"
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(data[:-1])
    elif damage == "flip":
        data[200] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    state = artifacts.check_done(tmp_path, "stage1", {"schema": 1, "options": {"alpha": 2}})
    assert not state.done
    assert "x.npy" in state.reason


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stage1": "done"}', '{"stage1": "done", "markers": 3}', "\0" * 40])
def test_an_unreadable_marker_counts_as_absent(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    assert not artifacts.check_done(tmp_path, "stage1", {}).done


def test_unmarked_is_not_done(tmp_path):
    make_stage(tmp_path)
    artifacts.unmark(tmp_path, "stage1", [])
    assert not artifacts.check_done(tmp_path, "stage1", {"schema": 1, "options": {"alpha": 2}}).done
    assert json.loads((tmp_path / "status.json").read_text())["stage1"] == "incomplete"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    artifacts.save_json(path, 1)
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert path.read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_masks_are_png_of_0_and_255(tmp_path):
    import imagecodecs

    mask = np.random.default_rng(0).random((7, 9)) > 0.5
    artifacts.save_mask(tmp_path / "m.png", mask)
    np.testing.assert_array_equal(imagecodecs.imread(tmp_path / "m.png"), mask * np.uint8(255))


def test_a_file_system_without_links_will_do(tmp_path, monkeypatch):
    """FAT, exFAT and some network shares have none."""

    def link(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert artifacts.create_json(tmp_path / "a.json", 1)
    assert not artifacts.create_json(tmp_path / "a.json", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "1"


def test_what_is_made_anew_voids_what_is_made_from_it_once(tmp_path):
    parts, status = {"schema": 1}, tmp_path / "status.json"
    artifacts.save_npy(tmp_path / "x.npy", np.arange(10))
    artifacts.mark_done(tmp_path, "stage3", parts, [tmp_path / "x.npy"], 1.0)
    artifacts.unmark(tmp_path, "aligned_a", [], also=("stage3",))
    assert artifacts.check_done(tmp_path, "stage3", parts).reason == "what it is made from was made anew"
    written = status.stat().st_ino
    artifacts.unmark(tmp_path, "aligned_b", [], also=("stage3",))
    assert status.stat().st_ino == written
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        *("status.json", "status_aligned_a.json", "status_aligned_b.json")
    ]
