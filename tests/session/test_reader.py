"""The [reader] table: recordings of several files, and what their files do not say."""

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

from pyflow.io import get_video_file_writer, open_video
from pyflow.motion.compensate import compensate_recording
from pyflow.motion.options import OFOptions
from pyflow.session import SessionConfig, find_recordings, run_session, run_stage1
from pyflow.session.keys import stage1_parts

FAST = {"alpha": 4, "quality_setting": "fast", "levels": 3, "save_meta_info": False, "buffer_size": 4}


def movie(n_frames=6, shape=(32, 40)):
    image = np.random.default_rng(0).normal(size=shape).cumsum(0).cumsum(1)
    image = (image - image.min()) / np.ptp(image) * 1000
    return np.stack([np.roll(image, shift % 2, axis=1) for shift in range(n_frames)]).astype(np.uint16)


def test_pieces_are_one_recording(tmp_path):
    for part in range(2):
        tifffile.imwrite(
            tmp_path / f"rec_0000{part + 1}.tif", movie()[3 * part : 3 * part + 3], photometric="minisblack"
        )
    (tmp_path / "session.toml").write_text('root = "."\n[reader]\nfiles = "time"\n[flow_options]\nalpha = 4\n')
    config = SessionConfig.from_file(tmp_path / "session.toml").with_flow_options(FAST)
    (recording,) = find_recordings(config)
    assert (recording.name, len(recording.files)) == ("rec", 2)
    (folder,) = run_stage1(config)
    with open_video(folder / "compensated.hdf5") as reader:
        assert len(reader) == 6
    before = stage1_parts(config, recording)
    tifffile.imwrite(tmp_path / "rec_00002.tif", movie()[:3], photometric="minisblack")
    assert stage1_parts(config, recording) != before
    assert stage1_parts(config.replace(reader={"files": "time", "frames": "1:4"}), recording) != before


@pytest.mark.parametrize("pattern", ["**/*.tif", "day*", "**/*Ch1*.tif"])
def test_frames_of_bruker_are_one_recording(tmp_path, pattern):
    for day in ("day1", "day2"):
        (tmp_path / day).mkdir()
        for channel in (1, 2):
            for t in range(6):
                name = f"{day}_Cycle00001_Ch{channel}_{t + 1:06}.ome.tif"
                tifffile.imwrite(tmp_path / day / name, movie()[t], metadata=None)
    config = SessionConfig(root=tmp_path, pattern=pattern, flow_options=FAST, center="day2")
    recordings = find_recordings(config)
    assert [recording.name for recording in recordings] == ["day1", "day2"]
    folders = run_stage1(config)
    with open_video(folders[0] / "compensated.hdf5") as reader:
        assert reader.shape == (6, 32, 40, 1 if "Ch1" in pattern else 2)


def test_the_table_reaches_the_reader(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", movie(12))
    config = SessionConfig(root=tmp_path, reader={"n_channels": 2, "channels": [1]}, flow_options=FAST)
    (folder,) = run_stage1(config)
    with open_video(folder / "compensated.hdf5") as reader:
        assert reader.shape == (6, 32, 40, 1)
    with pytest.raises(ValueError, match="unknown reader option 'n_chanels'"):
        SessionConfig(root=tmp_path, reader={"n_chanels": 2})


def test_arrays_and_open_readers_are_registered(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", movie())
    results = []
    with open_video(tmp_path / "a.tif") as reader:
        for number, source in enumerate((tmp_path / "a.tif", movie(), reader)):
            options = OFOptions(input_file=source, output_path=tmp_path / str(number), **FAST)
            results.append(compensate_recording(options).temporal_average)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    with pytest.raises(ValueError, match="video in memory, which no file of options can name"):
        OFOptions(input_file=movie()).to_json(tmp_path / "options.json")
    options = OFOptions(reader={"axes": "HWT"}, input_file=tmp_path / "a.tif")
    options.to_json(tmp_path / "options.json")
    assert OFOptions.from_json(tmp_path / "options.json") == options


@pytest.mark.parametrize("kind", ["one MAT 5", "one MAT 7.3", "MAT per channel", "TIFF per channel"])
def test_stage_1_of_the_toolbox_is_taken_over(tmp_path, kind):
    """By default it writes ``compensated.MAT``, and with MULTIFILE formats a file for each channel."""
    sources = movie(12).reshape(2, 6, 32, 40)
    tifffile.imwrite(tmp_path / "rec.tif", sources[0])
    folder = tmp_path / "compensated_outputs/rec"
    folder.mkdir(parents=True)
    in_matlab = {f"ch{c + 1}": np.moveaxis(sources[c], 0, -1) for c in range(2)}
    if kind == "one MAT 5":
        scipy.io.savemat(folder / "compensated.MAT", in_matlab)
    elif kind == "one MAT 7.3":
        with h5py.File(folder / "compensated.MAT", "w", userblock_size=512) as file:
            for name, data in in_matlab.items():
                file[name] = data.T
        with open(folder / "compensated.MAT", "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    elif kind == "MAT per channel":
        for name, data in in_matlab.items():
            scipy.io.savemat(folder / f"compensated_{name}.MAT", {"mov": data})
    else:
        for c in range(2):
            tifffile.imwrite(folder / f"compensated_ch{c + 1}.TIFF", sources[c])
    config = SessionConfig(root=tmp_path, align_output_format="HDF5")
    run_session(config)
    np.testing.assert_array_equal(np.load(folder / "temporal_average.npy"), np.moveaxis(sources.mean(axis=1), 0, -1))
    with open_video(config.final_results / "aligned_rec.hdf5") as reader:
        np.testing.assert_array_equal(reader[:], np.moveaxis(sources, 0, -1))


def test_a_map_of_weights_lies_beside_the_session_file(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([movie(), movie()], axis=1), metadata={"axes": "TCYX"})
    np.save(tmp_path / "weight.npy", np.array([1.0, 0.0]) * np.ones((*movie().shape[1:], 1)))
    text = 'root = "."\n[flow_options]\nweight = "weight.npy"\nalpha = 4\nreference_frames = "0:6"\n'
    (tmp_path / "session.toml").write_text(text)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = SessionConfig.from_file(tmp_path / "session.toml")
    (folder,) = run_stage1(config)
    before = stage1_parts(config, find_recordings(config)[0])
    with open_video(folder / "compensated.hdf5") as reader:
        assert reader.shape == (6, 32, 40, 2)
    np.save(tmp_path / "weight.npy", np.ones(movie().shape[1:]))
    assert stage1_parts(config, find_recordings(config)[0]) != before


def test_a_session_from_zarr_to_zarr(tmp_path):
    for name in ("a", "b"):
        with get_video_file_writer(tmp_path / f"{name}.zarr") as writer:
            writer.write_frames(movie())
    config = SessionConfig(root=tmp_path, pattern="*.zarr", flow_options=FAST, align_output_format="ZARR")
    run_session(config)
    videos = [config.final_results / f"aligned_{name}.zarr" for name in ("a", "b")]
    for video in videos:
        with open_video(video) as reader:
            assert reader.shape == (6, 32, 40, 1)
    written = videos[0].stat().st_ino
    run_session(config)
    assert videos[0].stat().st_ino == written
    next((videos[0] / "ch1").glob("[0-9]*")).unlink()
    run_session(config)
    assert videos[0].stat().st_ino != written
    before = stage1_parts(config, find_recordings(config)[0])
    with get_video_file_writer(tmp_path / "a.zarr") as writer:
        writer.write_frames(movie()[:5])
    assert stage1_parts(config, find_recordings(config)[0]) != before
    run_session(config.replace(align_output_format="none"))
    assert not any(video.exists() for video in videos)
