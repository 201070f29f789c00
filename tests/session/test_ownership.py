"""Results keep their names to themselves: two recordings, or two sessions, never write one file."""

import json
import os

import imagecodecs
import numpy as np
import pytest

from pyflow.session import (
    SessionConfig,
    SessionError,
    discover_input_files,
    find_recordings,
    run_session,
    run_stage1,
    run_stage1_array,
    run_stage3,
    session_status,
)


def test_a_recording_named_final_does_not_replace_the_final_mask(config):
    (config.root / "rec1.tif").rename(config.root / "final.tif")
    mask = run_session(config)
    assert [r.name for r in find_recordings(config)] == ["final.tif", "rec2", "rec10"]
    np.testing.assert_array_equal(imagecodecs.imread(config.final_results / "final_valid_idx.png") > 0, mask)


def test_names_like_final_are_refused_where_nothing_tells_them_apart(config):
    (config.root / "final").write_bytes(b"")
    with pytest.raises(ValueError, match=r"final_valid_idx\.png and .*final would both"):
        find_recordings(config, [config.root / "final"])


def test_a_broken_link_is_a_recording_that_fails(config):
    (config.root / "rec2.tif").unlink()
    (config.root / "rec2.tif").symlink_to(config.root / "gone" / "rec2.tif")
    with pytest.raises(SessionError) as caught:
        run_stage1(config)
    assert list(caught.value.failures) == ["rec2"]
    assert (config.output_root / "rec10" / "compensated.hdf5").exists()


def test_a_link_to_itself_is_a_recording_that_fails(config):
    (config.root / "rec0.tif").symlink_to("rec0.tif")
    with pytest.raises(SessionError, match="rec0"):
        run_stage1(config)


def test_links_to_files_elsewhere_are_inputs(config):
    (config.root.parent / "elsewhere").mkdir()
    (config.root / "rec2.tif").rename(config.root.parent / "elsewhere" / "rec2.tif")
    (config.root / "rec2.tif").symlink_to("../elsewhere/rec2.tif")
    assert [file.name for file in discover_input_files(config)] == ["rec1.tif", "rec2.tif", "rec10.tif"]


def in_one_place(config, write_recordings, **changes):
    """Two sessions that write to the same folders, the first of which is done."""
    first = config.replace(output_root=config.root.parent / "out", final_results=config.root.parent / "all")
    run_session(first)
    write_recordings(config.root.parent / "other", shifts={"rec1": (0, 0), "rec2": (0, 0)})
    return first, first.replace(root=config.root.parent / "other", **changes)


def files_of(*folders):
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def test_another_session_with_the_same_outputs_is_refused(config, write_recordings):
    first, second = in_one_place(config, write_recordings)
    before = files_of(first.output_root, first.final_results)
    for run in (run_stage1, run_session, run_stage3, session_status, lambda c: run_stage1_array(c, 0)):
        with pytest.raises(ValueError, match=rf"final_results: .* is of the session .* in {first.root}, this one"):
            run(second)
    assert files_of(first.output_root, first.final_results) == before


def test_another_session_with_the_same_recordings_folders_is_refused(config, write_recordings, tmp_path):
    first, second = in_one_place(config, write_recordings, final_results=tmp_path / "own")
    before = files_of(first.output_root, first.final_results)
    with pytest.raises(ValueError, match=rf"output_root: .*rec1 holds the results of {first.root}/rec1\.tif"):
        run_stage1(second)
    assert files_of(first.output_root, first.final_results) == before


def test_a_session_that_only_began_holds_its_results(config, write_recordings):
    first = config.replace(final_results=config.root.parent / "all")
    run_stage1_array(first, 0)
    write_recordings(config.root.parent / "other", shifts={"rec1": (0, 0)})
    with pytest.raises(ValueError, match="final_results"):
        run_stage1(first.replace(root=config.root.parent / "other"))


def test_another_pattern_in_the_same_root_is_another_session(config):
    run_stage1(config.replace(pattern="rec1.tif"))
    with pytest.raises(ValueError, match=r"pattern 'rec1\.tif' in .*, this one has pattern 'rec2\.tif'"):
        run_stage1(config.replace(pattern="rec2.tif"))


def test_sessions_with_other_recordings_share_an_output_root(config, write_recordings, tmp_path):
    first = config.replace(output_root=tmp_path / "out", final_results=tmp_path / "first")
    write_recordings(tmp_path / "other", shifts={"day1": (0, 0), "day2": (0, 0)})
    second = first.replace(root=tmp_path / "other", final_results=tmp_path / "second")
    run_session(first)
    run_session(second)
    assert run_session(first).shape == (48, 56)
    assert session_status(first)[1].done
    assert session_status(second)[1].done


@pytest.mark.parametrize("what", ["everything", "the root"])
def test_a_moved_session_is_still_itself(config, tmp_path, what):
    """Also where the results stay behind: what they were made from is no longer where it was."""
    place = tmp_path / "place" if what == "everything" else tmp_path
    (tmp_path / "place").mkdir()
    config.root.rename(place / "data")
    config = config.replace(root=place / "data", output_root=place / "out", final_results=place / "all")
    mask = run_session(config)
    if what == "everything":
        place = place.rename(tmp_path / "moved")
        config = config.replace(output_root=place / "out", final_results=place / "all", root=place / "data")
    else:
        config = config.replace(root=config.root.rename(tmp_path / "moved"))
    before = (config.output_root / "rec1" / "compensated.hdf5").stat().st_mtime_ns
    np.testing.assert_array_equal(run_session(config), mask)
    assert (config.output_root / "rec1" / "compensated.hdf5").stat().st_mtime_ns == before
    owner = json.loads((config.final_results / "session.json").read_text())
    assert owner["root"] == os.path.relpath(config.root, config.final_results)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"root": 3, "pattern": "*.tif"}', '{"root": "."}', "[" * 100_000]
)
def test_a_note_that_says_nothing_is_named(config, text):
    config.final_results.mkdir()
    (config.final_results / "session.json").write_text(text)
    with pytest.raises(ValueError, match=r"session\.json: not a note of whose results"):
        run_stage1(config)


def test_patterns_stay_below_root(tmp_path):
    with pytest.raises(ValueError, match="below it"):
        SessionConfig(root=tmp_path, pattern="../other/*.tif")
