"""Names that lead out of a folder: nothing there is removed or written."""

import json

import numpy as np
import pytest

from pyflow.io import get_video_file_writer
from pyflow.io.atomic import temporary_beside
from pyflow.session import artifacts
from pyflow.session.stage import Stage, execute


@pytest.fixture
def outside(tmp_path):
    """A file of somebody else's beside the folder ``folder``, which has a link to the folder above."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "up").symlink_to(tmp_path, target_is_directory=True)
    path = tmp_path / "precious"
    path.write_bytes(b"precious")
    return path


@pytest.mark.parametrize("remove", ["retire", "mark_done", "unmark"])
def test_nothing_outside_the_folder_is_removed(outside, remove):
    folder = outside.parent / "folder"
    (folder / "old.npy").write_bytes(b"")
    names = [
        "../precious",
        str(outside),
        "up/precious",
        "a/../../precious",
        "old.npy",
        3,
        None,
        ["x"],
        "a\0b",
        "",
        "..",
    ]
    (folder / "status.json").write_text(json.dumps({"stage1": "done", "written": {"stage1": names}}))
    if remove == "retire":
        artifacts.retire(folder, keep=lambda name: False)
    else:
        if remove == "unmark":
            artifacts.unmark(folder, "stage1", [])
        artifacts.mark_done(folder, "stage1", {}, [], 1.0)
    assert outside.read_bytes() == b"precious"
    assert not (folder / "old.npy").exists()


@pytest.mark.parametrize("names", [3, None, "old.npy", {"old.npy": 1}])
def test_a_list_of_written_files_that_is_none_says_nothing(tmp_path, names):
    (tmp_path / "status.json").write_text(json.dumps({"stage1": "done", "written": {"stage1": names}}))
    assert artifacts.files_written(tmp_path, "stage1") == []


@pytest.mark.parametrize("output_format", ["TIFF", "HDF5"])
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_video_is_not_written_through_a_link(outside, output_format, link):
    target = outside.parent / "folder" / "video"
    getattr(target.with_name(".partial-video"), link)(outside)
    with get_video_file_writer(target, output_format) as writer:
        writer.write_frames(np.zeros((2, 16, 16, 1), np.uint16))
    assert outside.read_bytes() == b"precious"
    assert not target.is_symlink()


def test_an_interrupted_video_is_not_gone_on_with_through_a_link(outside):
    folder = outside.parent / "folder"
    frames = np.ones((3, 16, 16, 1), np.uint16)
    with pytest.raises(KeyboardInterrupt), get_video_file_writer(folder / "video", "HDF5", resume_at=0) as writer:
        writer.write_frames(frames)
        raise KeyboardInterrupt
    (folder / ".partial-video").replace(outside)
    before = outside.read_bytes()
    (folder / ".partial-video").symlink_to(outside)
    with pytest.raises(OSError, match=r"could not write .*video"):
        get_video_file_writer(folder / "video", "HDF5", resume_at=2)
    assert outside.read_bytes() == before


@pytest.mark.parametrize("create", [artifacts.save_json, artifacts.create_json, artifacts.save_npy])
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_small_files_are_not_written_through_a_link(outside, create, link):
    path = outside.parent / "folder" / "small"
    getattr(temporary_beside(path), link)(outside)
    create(path, [1])
    assert outside.read_bytes() == b"precious"
    assert path.is_file()
    assert not path.is_symlink()


def test_a_stage_whose_folder_was_taken_over_is_not_marked(tmp_path):
    def run():
        (tmp_path / "x.npy").write_bytes(b"x")
        (tmp_path / ".claim").write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "another"}))
        return {}

    stage = Stage("stage1", tmp_path, "rec1", dict, run, (tmp_path / "x.npy",))
    with pytest.raises(RuntimeError, match="taken over by process 1 on elsewhere"):
        execute(stage)
    assert artifacts.read_marker(tmp_path, "stage1") is None
