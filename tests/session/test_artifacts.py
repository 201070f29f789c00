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
    artifacts.unmark(tmp_path, "stage1")
    assert not artifacts.check_done(tmp_path, "stage1", {"schema": 1, "options": {"alpha": 2}}).done
    assert json.loads((tmp_path / "status.json").read_text())["stage1"] == "incomplete"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    artifacts.save_json(path, 1)
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert path.read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_has_one_claim(tmp_path):
    with artifacts.claim(tmp_path):
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()} on"), artifacts.claim(tmp_path):
            pass
        assert (tmp_path / ".claim").exists()
    assert not (tmp_path / ".claim").exists()


@pytest.mark.parametrize("pid", [2**22 + 1, os.getpid()])
def test_a_claim_of_a_dead_process_is_taken_over(tmp_path, pid):
    holder = {"host": artifacts.socket.gethostname(), "pid": pid, "token": "of an earlier process"}
    (tmp_path / ".claim").write_text(json.dumps(holder))
    with artifacts.claim(tmp_path):
        assert json.loads((tmp_path / ".claim").read_text())["token"] == artifacts._TOKEN


def test_a_claim_that_was_taken_over_is_left_alone(tmp_path):
    path = tmp_path / ".claim"
    with artifacts.claim(tmp_path):
        path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "another"}))
    assert path.exists()


def test_a_claim_from_elsewhere_holds_while_it_is_fresh(tmp_path):
    path = tmp_path / ".claim"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(BlockingIOError), artifacts.claim(tmp_path):
        pass
    os.utime(path, (0, 0))
    with artifacts.claim(tmp_path):
        pass


def test_masks_are_png_of_0_and_255(tmp_path):
    import imagecodecs

    mask = np.random.default_rng(0).random((7, 9)) > 0.5
    artifacts.save_mask(tmp_path / "m.png", mask)
    np.testing.assert_array_equal(imagecodecs.imread(tmp_path / "m.png"), mask * np.uint8(255))
