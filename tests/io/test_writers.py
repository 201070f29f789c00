"""What is written, read by the libraries of those who will read it."""

import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyflow.io import get_video_file_writer, open_video
from pyflow.io.writers import mat

OCTAVE = shutil.which("octave-cli")

MATLAB_TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", ">u2", ">f4"]


def write(path, output_format, frames, **options):
    half = len(frames) // 2
    with get_video_file_writer(path, output_format, **options) as writer:
        for piece in (frames[:half], frames[half:]):
            if len(piece):
                writer.write_frames(piece)
        assert writer.frames_written == len(frames)
    return path


def movies(types=MATLAB_TYPES):
    """Arrays (T, H, W, C) of any type and small size."""
    shapes = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))
    numbers = {"elements": {"allow_nan": False}}
    return st.one_of([
        hnp.arrays(one, shapes, **(numbers if "f" in one else {})) for one in types
    ])  # fmt: skip


def read_mat73(path):
    with open(path, "rb") as file:
        header = file.read(128)
    assert header.startswith(b"MATLAB 7.3 MAT-file")
    assert header[124:] == b"\x00\x02IM"
    with h5py.File(path) as file:
        names = {np.dtype(kind).name: kind for kind in MATLAB_TYPES}
        for dataset in file.values():
            kind = dataset.attrs["MATLAB_class"].decode()
            assert dataset.dtype.name == {"double": "float64", "single": "float32"}.get(kind, kind)
            assert dataset.dtype.name in names
        # MATLAB's order of axes is the other way round
        return {name: dataset[:].transpose(2, 1, 0) for name, dataset in file.items()}


def read_mat7(path):
    found = scipy.io.loadmat(path)
    return {name: value for name, value in found.items() if not name.startswith("__")}


def read_hdf5(path):
    with h5py.File(path) as file:
        return {name: dataset[:].transpose(1, 2, 0) for name, dataset in file.items()}


def read_zarr(path):
    group = zarr.open_group(str(path), mode="r")
    assert all(list(array.attrs["_ARRAY_DIMENSIONS"]) == ["time", "y", "x"] for _, array in group.arrays())
    return {name: array[:].transpose(1, 2, 0) for name, array in sorted(group.arrays())}


READERS = {"MAT": read_mat73, "MAT7": read_mat7, "HDF5": read_hdf5, "ZARR": read_zarr}


@pytest.mark.parametrize("output_format", READERS)
def test_any_movie_comes_back(tmp_path_factory, output_format):
    @settings(max_examples=15 if output_format == "ZARR" else 40, deadline=None)
    @given(movies())
    def check(frames):
        path = tmp_path_factory.mktemp("movie") / "movie.x"
        found = READERS[output_format](write(path, output_format, frames))
        assert list(found) == [f"ch{channel + 1}" for channel in range(frames.shape[3])]
        for channel, values in enumerate(found.values()):
            values = values.reshape(*frames.shape[1:3], len(frames))  # MATLAB drops a last axis of length 1
            np.testing.assert_array_equal(values.transpose(2, 0, 1), frames[..., channel])
            assert values.dtype.newbyteorder("=") == frames.dtype.newbyteorder("=")

    check()


def test_any_tiff_comes_back(tmp_path_factory):
    @settings(max_examples=60, deadline=None)
    @given(movies([*MATLAB_TYPES, "f2"]))
    def check(frames):
        path = write(tmp_path_factory.mktemp("movie") / "movie.tif", "TIFF", frames)
        found = tifffile.imread(path).reshape(frames.shape[0], frames.shape[3], *frames.shape[1:3])
        np.testing.assert_array_equal(found, np.moveaxis(frames, -1, 1))
        assert found.dtype.newbyteorder("=") == frames.dtype.newbyteorder("=")

    check()


def test_the_frame_rate_goes_into_a_tiff_as_seconds_per_frame(tmp_path):
    with get_video_file_writer(tmp_path / "a.tif", frame_rate_hz=4.0) as writer:
        writer.write_frames(np.zeros((3, 5, 6, 1), np.uint16))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.imagej_metadata["finterval"] == 0.25
    with open_video(tmp_path / "a.tif") as reader:
        assert reader.frame_rate_hz == 4


def test_single_bits_are_refused_in_tiff(tmp_path):
    """They were written, and could not be read."""
    with pytest.raises(ValueError, match=r"a.tif: frames of type bool, expected numbers, for example uint8"):
        write(tmp_path / "a.tif", "TIFF", np.zeros((2, 3, 20), bool))


@pytest.mark.skipif(OCTAVE is None, reason="GNU OCTAVE IS MISSING: apt-get install octave")
def test_octave_loads_version_7(tmp_path):
    frames = np.random.default_rng(0).integers(-500, 500, (4, 5, 7, 2)).astype(np.int16)
    write(tmp_path / "movie.mat", "MAT7", frames)
    code = (
        "s = load('movie.mat'); assert(isa(s.ch1, 'int16') && isequal(size(s.ch2), [5 7 4])); "
        "one = s.ch1; two = s.ch2; save('-v7', 'out.mat', 'one', 'two');"
    )
    subprocess.run([OCTAVE, "--norc", "--quiet", "--eval", code], cwd=tmp_path, check=True)
    out = scipy.io.loadmat(tmp_path / "out.mat")
    found = np.stack([out["one"], out["two"]], axis=-1).transpose(2, 0, 1, 3)
    np.testing.assert_array_equal(found, frames)


def test_version_7_says_what_it_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(mat, "_LARGEST", 4000)
    with pytest.raises(ValueError, match=r"movie.mat: 4000 bytes in a channel.*version 7.3, output_format MAT"):
        write(tmp_path / "movie.mat", "MAT7", np.zeros((4, 20, 50, 1), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output_format", ["MAT", "MAT7"])
def test_types_that_matlab_lacks_are_refused(tmp_path, output_format):
    with pytest.raises(ValueError, match=r"movie.mat: MATLAB has no type float16, expected one of double, single"):
        write(tmp_path / "movie.mat", output_format, np.zeros((2, 3, 20), np.float16))


def test_a_file_for_each_channel(tmp_path):
    frames = np.random.default_rng(0).integers(0, 500, (6, 5, 7, 3)).astype(np.uint16)
    for output_format, suffix in (("MULTIFILE_TIFF", "tif"), ("MULTIFILE_HDF5", "hdf5"), ("MULTIFILE_MAT7", "mat")):
        write(tmp_path / f"compensated.{suffix}", output_format, frames)
        names = sorted(path.name for path in tmp_path.glob(f"*.{suffix}"))
        assert names == [f"compensated_ch{channel}.{suffix}" for channel in (1, 2, 3)]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "compensated_ch2.tif"), frames[..., 1])
    np.testing.assert_array_equal(
        read_hdf5(tmp_path / "compensated_ch3.hdf5")["ch1"].transpose(2, 0, 1), frames[..., 2]
    )
    np.testing.assert_array_equal(read_mat7(tmp_path / "compensated_ch3.mat")["ch1"].transpose(2, 0, 1), frames[..., 2])
    assert not list(tmp_path.glob(".*"))


def test_files_of_channels_are_complete_or_as_before(tmp_path):
    frames = np.zeros((2, 5, 7, 2), np.uint16)
    (tmp_path / "a_ch1.tif").write_text("earlier")
    with pytest.raises(RuntimeError), get_video_file_writer(tmp_path / "a.tif", "MULTIFILE_TIFF") as writer:
        writer.write_frames(frames)
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a_ch1.tif"]
    assert (tmp_path / "a_ch1.tif").read_text() == "earlier"


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", ">u2"])
def test_suite2p_finds_its_binary(tmp_path, dtype, n_channels):
    frames = np.random.default_rng(0).integers(0, 120, (6, 5, 17, n_channels)).astype(dtype)
    frames[0, 0, 0] = np.iinfo(dtype).max
    np.save(tmp_path / "ops.npy", np.array({"Ly": 1}, dtype=object))
    (tmp_path / "data_chan2.bin").write_bytes(b"of another movie")
    with pytest.raises(RuntimeError), get_video_file_writer(tmp_path / "data.bin") as writer:
        writer.write_frames(frames[:4])
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data_chan2.bin", "ops.npy"]
    with get_video_file_writer(tmp_path / "data.bin", frame_rate_hz=15.0) as writer:
        writer.write_frames(frames[:4])
        writer.write_frames(frames[4:])
    scale = 2 if "u2" in dtype else 1
    for channel, name in enumerate(("data.bin", "data_chan2.bin")[:n_channels]):
        found = np.fromfile(tmp_path / name, "<i2").reshape(6, 5, 17)
        np.testing.assert_array_equal(found, frames[..., channel] // scale)
    ops = np.load(tmp_path / "ops.npy", allow_pickle=True).item()
    assert (ops["Ly"], ops["Lx"], ops["nframes"], ops["nchannels"], ops["fs"]) == (5, 17, 6, n_channels, 15.0)
    assert ops["pyflow"]["scale"] == 1 / scale
    with open_video(tmp_path) as reader:
        np.testing.assert_array_equal(reader[:], frames // scale)
        assert reader.frame_rate_hz == 15


def test_suite2p_is_refused_what_it_cannot_hold(tmp_path):
    for frames, words in ((np.zeros((2, 5, 17, 3), np.int16), "3 channels"), (np.zeros((2, 5, 17)), "type float64")):
        with pytest.raises(ValueError, match=words), get_video_file_writer(tmp_path / "data.bin") as writer:
            writer.write_frames(frames)
    assert list(tmp_path.iterdir()) == []


def test_caiman_finds_its_movie(tmp_path):
    frames = np.random.default_rng(0).integers(0, 500, (6, 5, 7, 2)).astype(np.uint16)
    with h5py.File(write(tmp_path / "a.hdf5", "CAIMAN_HDF5", frames)) as file:
        assert list(file) == ["mov", "mov_ch2"]
        np.testing.assert_array_equal(file["mov"][:], frames[..., 0])


def test_nothing_is_written_where_nothing_is_wanted(tmp_path):
    write(tmp_path / "a", "NULL", np.zeros((2, 5, 7, 2), np.uint16))
    assert list(tmp_path.iterdir()) == []


def test_a_movie_in_memory(tmp_path):
    frames = np.random.default_rng(0).integers(0, 500, (6, 5, 7, 2)).astype(np.uint16)
    with get_video_file_writer("", "ARRAY") as writer:
        for batch in (frames[:2].copy(), frames[2:].copy()):
            writer.write_frames(batch)
            np.testing.assert_array_equal(writer.get_array(), frames[: writer.frames_written])
            batch[:] = 0  # the caller's own again
    assert writer.get_array().dtype == np.uint16
    np.testing.assert_array_equal(writer.get_array(), frames)
    with pytest.raises(ValueError, match="no frames"):
        get_video_file_writer("", "ARRAY").get_array()


@pytest.mark.parametrize("compression", [None, "gzip", "lz4", "zstd", "blosc"])
def test_zarr_in_chunks_of_a_few_frames(tmp_path, monkeypatch, caplog, compression):
    monkeypatch.setattr("pyflow.io.writers.zarr._CHUNK_BYTES", 3 * 20 * 30 * 2)
    frames = np.arange(20 * 20 * 30 * 2, dtype=np.uint16).reshape(20, 20, 30, 2) // 300
    frames[3:6] = 0  # a whole chunk, which Zarr would leave out
    with get_video_file_writer(tmp_path / "a.zarr", compression=compression) as writer:
        for first, stop in ((0, 1), (1, 2), (2, 10), (10, 11), (11, 20)):
            writer.write_frames(frames[first:stop])
    with open_video(tmp_path / "a.zarr") as reader:
        np.testing.assert_array_equal(reader[:], frames)
    assert not caplog.records
    assert len(list((tmp_path / "a.zarr" / "ch2").glob("[0-9]*"))) == 7


def test_a_zarr_store_is_whole_or_as_before(tmp_path):
    frames = np.random.default_rng(0).integers(0, 500, (6, 5, 7, 2)).astype(np.uint16)
    path = write(tmp_path / "a.zarr", "ZARR", frames)
    with pytest.raises(RuntimeError), get_video_file_writer(path) as writer:
        writer.write_frames(frames[:2])
        raise RuntimeError
    assert [one.name for one in tmp_path.iterdir()] == ["a.zarr"]
    np.testing.assert_array_equal(read_zarr(path)["ch2"].transpose(2, 0, 1), frames[..., 1])
    write(path, "ZARR", frames[:3, ..., :1])
    assert [one.name for one in tmp_path.iterdir()] == ["a.zarr"]
    assert list(read_zarr(path)) == ["ch1"]


def test_a_folder_of_something_else_is_not_replaced_by_zarr(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "thesis.txt").write_text("three years")
    with pytest.raises(FileExistsError, match="results: is a folder of other files"):
        get_video_file_writer(tmp_path / "results", "ZARR")
    assert (tmp_path / "results" / "thesis.txt").read_text() == "three years"
    with pytest.raises(ValueError, match=r"a\.zarr: compression 'lzf' is not one of Zarr's, expected gzip"):
        get_video_file_writer(tmp_path / "a.zarr", compression="lzf")


@pytest.mark.parametrize("compression", ["gzip", "lzf", "lz4", "zstd", "blosc"])
def test_compressed(tmp_path, compression):
    if compression not in ("gzip", "lzf"):
        pytest.importorskip("hdf5plugin")
    frames = np.arange(20 * 30 * 40, dtype=np.uint16).reshape(20, 30, 40, 1) // 300
    path = write(tmp_path / "a.hdf5", "HDF5", frames, compression=compression)
    assert path.stat().st_size < frames.nbytes / 2
    np.testing.assert_array_equal(read_hdf5(path)["ch1"].transpose(2, 0, 1), frames[..., 0])


def test_a_filter_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "hdf5plugin", None)
    with pytest.raises(ImportError, match="compression 'zstd' needs hdf5plugin: pip install hdf5plugin"):
        get_video_file_writer(tmp_path / "a.hdf5", compression="zstd")
    assert list(tmp_path.iterdir()) == []


_LONG = """
import sys
import numpy as np
from pyflow.io.writers.hdf5 import Hdf5Writer

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

frames = np.ones((500, 4, 4, 1), np.uint8)
with Hdf5Writer(sys.argv[1]) as writer:
    for n in range(60):
        writer.write_frames(frames)
        before = resident() if n == 1 else before if n else 0
    print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_long_hdf5_files_take_no_more_memory(tmp_path):
    path = tmp_path / "long.h5"
    grown = subprocess.run([sys.executable, "-P", "-c", _LONG, str(path)], capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 6 << 10  # KiB; without closing it in between, 12 MiB
    with h5py.File(path) as file:
        assert file["ch1"].shape == (30000, 4, 4)
        assert file["ch1"].id.get_num_chunks() == 30000
        assert (file["ch1"][::997] == 1).all()
