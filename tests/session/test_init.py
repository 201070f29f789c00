"""pyflow-session init: a session's file from what is in a folder, which stage 1 takes as it is."""

import re
import shlex
import tomllib

import numpy as np
import pytest
import tifffile

from pyflow.session import SessionConfig, find_recordings, survey
from pyflow.session.cli import main
from pyflow.session.commands.terminal import DONE, USAGE


@pytest.fixture
def folder(tmp_path, write_recordings):
    write_recordings(tmp_path / "data", n_frames=5)
    return tmp_path / "data"


def movie(shape, seed=0):
    return np.random.default_rng(seed).integers(100, 4000, shape, dtype=np.uint16)


def write(path, frames, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, frames, photometric="minisblack", **options)


def init(folder, *words):
    """Run the command; return the configuration that it wrote, and its text."""
    assert main(["init", str(folder), *words]) == DONE
    path = folder / "session.toml"
    return SessionConfig.from_file(path), path.read_text(encoding="utf-8")


def names(config):
    return [recording.name for recording in find_recordings(config)]


def test_recordings_are_told_from_results_and_other_data_and_run(folder, capsys):
    write(folder / "aligned_rec1.tif", movie((5, 48, 56)))
    write(folder / "map.tif", movie((48, 56)))
    (folder / "broken.tif").write_bytes(b"II*\0 and no more")
    (folder / "rec3.sbx").write_bytes(b"1234")
    (folder / "notes.txt").write_text("mouse 7")
    (folder / "old" / "suite2p" / "plane0").mkdir(parents=True)
    for name in ("data.bin", "ops.npy"):
        (folder / "old" / "suite2p" / "plane0" / name).write_bytes(b"1234")
    write(folder / "compensated_outputs" / "rec9" / "compensated.tif", movie((5, 48, 56)))
    config, text = init(folder)
    assert config.pattern == "rec*.tif"
    assert names(config) == ["rec1", "rec2", "rec10"]
    assert "# 3 recordings were found:" in text
    assert re.search(r"#   rec10.tif +5 +48 x 56 +1 +1 +not said\n", text)
    said = capsys.readouterr().out
    for what in (
        "aligned_rec1.tif: named like results",
        "map.tif: a single image",
        "rec3.sbx: of Scanbox: the package sbxreader",
        "compensated_outputs/ and old/suite2p/plane0/: a folder of results",
    ):
        assert what in said
        assert f"# Left out: {what}" in text
    assert "broken.tif: " in said
    assert "notes" not in said + text
    assert 'files = "time"' not in text  # nothing is in pieces
    assert '# center = "rec2.tif"' in text
    assert main([str(folder / "session.toml"), "--stage", "1"]) == DONE
    assert {path.name for path in config.output_root.iterdir()} == {"rec1", "rec2", "rec9", "rec10"}


def test_every_key_that_is_commented_out_may_be_set(folder):
    _, text = init(folder)
    lines = text.splitlines()
    commented = [i for i, line in enumerate(lines) if re.match(r"# \w+ = ", line)]
    said = {lines[i].split()[1] for i in commented} | set(tomllib.loads(text))
    assert set(SessionConfig.model_fields) <= said
    for i in commented:
        changed = "\n".join([*lines[:i], lines[i].removeprefix("# "), *lines[i + 1 :]])
        (folder / "changed.toml").write_text(changed)
        found = SessionConfig.from_file(folder / "changed.toml").model_dump()
        key = lines[i].split()[1]
        assert key in found or key in found["flow_options"] or found["reader"][key] is not None


def test_a_folder_with_nothing_in_it_is_an_error(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("")
    assert main(["init", str(tmp_path)]) == USAGE
    assert f"{tmp_path}: no recording found, there is no file of a known format" in capsys.readouterr().err
    write(tmp_path / "one.tif", movie((48, 56)))
    (tmp_path / "a.czi").write_bytes(b"1")
    assert main(["init", str(tmp_path)]) == USAGE
    said = capsys.readouterr().err
    assert "a.czi: of Zeiss" in said
    assert "one.tif: a single image" in said
    assert main(["init", str(tmp_path / "gone")]) == USAGE
    assert "gone: there is no such folder" in capsys.readouterr().err
    assert main(["init", str(tmp_path / "notes.txt")]) == USAGE
    assert "notes.txt: is a file, expected the folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.czi", "notes.txt", "one.tif"]


def test_nothing_is_replaced(folder, capsys):
    (folder / "session.toml").write_text("mine")
    assert main(["init", str(folder)]) == USAGE
    assert "session.toml: is there already, and is not replaced" in capsys.readouterr().err
    assert (folder / "session.toml").read_text() == "mine"
    assert main(["init", str(folder), "--output", str(folder.parent / "notes.txt")]) == USAGE
    other = folder.parent / "sessions" / "mine.toml"
    assert main(["init", str(folder), "--output", str(other)]) == DONE
    config = SessionConfig.from_file(other)
    assert (config.root, config.output_root) == (folder, folder.parent / "sessions" / "compensated_outputs")
    beside = folder.parent / "beside.toml"
    assert main(["init", str(folder), "--output", str(beside)]) == DONE
    assert 'root = "data"\n' in beside.read_text()


def test_recordings_of_one_size_are_chosen_and_the_others_said(folder, capsys):
    write(folder / "zoom_a.tif", movie((9, 32, 40)))
    write(folder / "zoom_b.tif", movie((9, 32, 40)))
    config, text = init(folder)
    assert config.pattern == "rec*.tif"
    assert '# pattern = "zoom_*.tif"  # 2 files' in text
    assert "zoom_a.tif and zoom_b.tif: frames of another size, 32 x 40" in capsys.readouterr().out
    (folder / "zoom_a.tif").rename(folder / "rec1b.tif")
    (folder / "session.toml").unlink()
    config, text = init(folder)  # no pattern tells rec1b from rec1 and rec10
    assert config.pattern == "*.tif"
    assert "# ATTENTION: their frames are not of one size" in text
    assert "#   32 x 40: rec1b.tif and zoom_b.tif" in text


def test_the_pattern_matches_days_to_come(tmp_path):
    for name in ("day11", "day12"):
        write(tmp_path / f"{name}.tif", movie((5, 48, 56)))
    write(tmp_path / "map.tif", movie((48, 56)))
    assert init(tmp_path)[0].pattern == "day*.tif"


def test_several_kinds_of_files_and_folders(tmp_path, write_recordings, capsys):
    write_recordings(tmp_path / "mouse1" / "day1", n_frames=5)
    write_recordings(tmp_path / "mouse[2]", n_frames=5)
    (tmp_path / "mouse1" / "day1" / "rec1.tif").rename(tmp_path / "mouse1" / "rec3.tif")
    np.save(tmp_path / "few.npy", movie((3, 20, 20)))
    config, text = init(tmp_path)
    assert config.pattern == "**/*.tif"
    assert len(names(config)) == 6
    assert '# pattern = "*.npy"  # 1 file' in text
    config, text = init(tmp_path / "mouse[2]")
    assert config.pattern == "*.tif"
    (tmp_path / "session.toml").unlink()
    for path in (tmp_path / "mouse1").rglob("*.tif"):
        path.unlink()
    config, text = init(tmp_path)
    assert config.pattern == "mouse[[]2]/*.tif"
    assert len(names(config)) == 3
    assert '# center = "mouse[2]/rec2.tif"' in text


@pytest.mark.parametrize("where", ["folders", "numbers"])
def test_single_frames_are_put_together(tmp_path, where):
    for day in "ab":
        for t in range(5):
            place = tmp_path / f"day_{day}" / f"{t:04}.tif" if where == "folders" else tmp_path / f"{day}_{t:04}.tif"
            write(place, movie((48, 56), t))
    config, text = init(tmp_path)
    assert (config.pattern, config.reader.files) == {"folders": ("*/", None), "numbers": ("*.tif", "time")}[where]
    assert names(config) == {"folders": ["day_a", "day_b"], "numbers": ["a", "b"]}[where]
    assert "# 2 recordings were found:" in text
    assert main([str(tmp_path / "session.toml"), "--stage", "1"]) == DONE


def test_planes_channels_and_frame_rate_as_the_reader_says(tmp_path):
    axes = {"axes": "TZCYX", "finterval": 0.05}
    write(tmp_path / "vol1.tif", movie((4, 3, 2, 40, 48)), imagej=True, metadata=axes)
    write(tmp_path / "vol2.tif", movie((4, 3, 2, 40, 48), 1), imagej=True, metadata=axes)
    config, text = init(tmp_path)
    assert config.reader.plane == 0
    assert "# Of 3 planes this one, counted from 0" in text
    assert re.search(r"#   vol1.tif +4 +40 x 48 +2 +3 +20\n", text)
    assert "frame_rate" not in text
    assert main([str(tmp_path / "session.toml"), "--stage", "1"]) == DONE


def test_what_the_files_do_not_say_is_taken_and_written(tmp_path, capsys):
    movie((4, 40, 48)).tofile(tmp_path / "a.raw")
    assert main(["init", str(tmp_path)]) == USAGE
    assert "a.raw: " in capsys.readouterr().err
    config, _ = init(tmp_path, "--reader", "shape=40,48", "dtype=uint16")
    assert (config.reader.shape, config.reader.dtype) == ((40, 48), "uint16")
    assert main(["init", str(tmp_path), "--output", str(tmp_path / "b.toml"), "--reader", "size=3"]) == USAGE
    assert "unknown reader option 'size'" in capsys.readouterr().err


def test_odd_frames_and_pieces_are_pointed_at(tmp_path):
    noise = np.random.default_rng(0)
    scenes = [noise.normal(size=(48, 64)).cumsum(0).cumsum(1) for _ in range(2)]
    scenes = [(1000 * (scene - scene.min()) / np.ptp(scene)).astype(np.uint16) for scene in scenes]
    for name in ("rec_00001_00001.tif", "rec_00001_00002.tif"):
        write(tmp_path / name, np.stack([scenes[t % 2] for t in range(24)]))
    _, text = init(tmp_path)
    assert "only every 2 frames show the same: are they 2 channels" in text.replace("\n# ", " ")
    assert '# files = "time"' in text


def test_a_recording_that_opens_and_cannot_be_read_is_pointed_at(folder, monkeypatch):
    def fail(source, options):
        raise OSError(f"{source}: damaged from frame 3 on")

    monkeypatch.setattr(survey, "describe", fail)
    _, text = init(folder)
    assert "damaged from frame 3 on" in text.replace("\n# ", " ")


def test_names_with_anything_in_them(folder):
    (folder / "rec2.tif").rename(folder / 'rec5"\n\x7f [a] µ#.tif')
    config, text = init(folder)
    assert len(names(config)) == 3
    center = next(line for line in text.splitlines() if line.startswith("# center = "))
    (folder / "session.toml").write_text(text.replace(center, center[2:]), encoding="utf-8")
    config = SessionConfig.from_file(folder / "session.toml")
    assert config.center == 'rec5"\n\x7f [a] µ#.tif'
    assert main([str(folder / "session.toml"), "--stage", "1", "--index", "1"]) == DONE


def test_of_very_many_some_are_opened(folder, monkeypatch):
    monkeypatch.setattr(survey, "MOST_OPENED", 2)
    (folder / "rec10.tif").write_bytes(b"never looked at")
    _, text = init(folder)
    assert "# 3 recordings were found:" in text
    assert "were opened" in text


def test_real_recordings(shared, tmp_path):
    path = tmp_path / "session.toml"
    assert main(["init", str(shared / "data" / "formats"), "--output", str(path)]) == DONE
    assert main([str(path), "--stage", "1"]) == DONE
    assert [folder.name for folder in (tmp_path / "compensated_outputs").iterdir()] == ["sima_example"]


def test_the_next_command_can_be_copied(tmp_path, write_recordings, capsys):
    write_recordings(tmp_path / "day 1's", n_frames=5)
    init(tmp_path / "day 1's")
    command = " ".join(capsys.readouterr().out.split()).partition("and then: ")[2]
    assert shlex.split(command) == ["pyflow-session", str(tmp_path / "day 1's" / "session.toml")]
