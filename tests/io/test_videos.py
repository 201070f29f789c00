"""Every reader and writer behaves as the array it stands for."""

import logging
import os

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflow.io import ArrayReader, VideoReader, get_video_file_reader, get_video_file_writer, open_video

T, H, W = 7, 10, 12


def movie(n_channels=1, dtype=np.uint16):
    values = np.random.default_rng(0).integers(0, 250, (T, H, W, n_channels))
    return values.astype(dtype)


def write(path, output_format, frames, **options):
    with get_video_file_writer(path, output_format, **options) as writer:
        writer.write_frames(frames[:3])
        writer.write_frames(frames[3:])
        assert writer.frames_written == len(frames)
    return path


def imagej(path, frames):
    tifffile.imwrite(path, np.moveaxis(frames, -1, 1), imagej=True, metadata={"axes": "TCYX"})
    return path


def separate_pages(path, frames):
    with tifffile.TiffWriter(path) as file:
        for frame in frames[..., 0]:
            file.write(frame, contiguous=False, metadata=None)
    return path


def plain_hdf5(path, frames, name="somewhere/movie"):
    with h5py.File(path, "w") as file:
        file[name] = frames
    return path


VIDEOS = {
    "array": lambda folder: (movie(2), ArrayReader(movie(2))),
    "array 3-D": lambda folder: (movie(), ArrayReader(movie()[..., 0])),
    "TIFF": lambda folder: (movie(), open_video(write(folder / "a.tif", "TIFF", movie()))),
    "TIFF channels": lambda folder: (movie(3), open_video(write(folder / "a.TIFF", "TIFF", movie(3)))),
    "TIFF big endian": lambda folder: (movie(), open_video(_big_endian(folder / "a.tif"))),
    "TIFF compressed": lambda folder: (movie(), open_video(_compressed(folder / "a.tif"))),
    "TIFF pages": lambda folder: (movie(), open_video(separate_pages(folder / "a.tif", movie()))),
    "TIFF ImageJ": lambda folder: (movie(2), open_video(imagej(folder / "a.tif", movie(2)))),
    "TIFF interleaved": lambda folder: (movie(2), open_video(_interleaved(folder / "a.tif"), n_channels=2)),
    "TIFF RGB": lambda folder: (movie(3, np.uint8), open_video(_rgb(folder / "a.tif"))),
    "HDF5": lambda folder: (movie(2), open_video(write(folder / "a.hdf5", "HDF5", movie(2)))),
    "HDF5 gzip": lambda folder: (movie(), open_video(write(folder / "a.h5", "HDF5", movie(), compression="gzip"))),
    "HDF5 4-D": lambda folder: (movie(2), open_video(plain_hdf5(folder / "a.h5", movie(2)))),
    "HDF5 channels first": lambda folder: (
        movie(2),
        open_video(plain_hdf5(folder / "a.h5", np.moveaxis(movie(2), -1, 1).repeat(2, axis=3)[..., ::2])),
    ),
    "file per channel": lambda folder: (
        movie(2),
        open_video([write(folder / f"{c}.tif", "TIFF", movie(2)[..., c]) for c in range(2)]),
    ),
}


def _big_endian(path):
    tifffile.imwrite(path, movie()[..., 0], byteorder=">")
    return path


def _compressed(path, frames=None):
    tifffile.imwrite(path, (movie() if frames is None else frames)[..., 0], compression="zlib")
    return path


def _interleaved(path):
    tifffile.imwrite(path, np.moveaxis(movie(2), -1, 1).reshape(2 * T, H, W))
    return path


def _rgb(path):
    tifffile.imwrite(path, movie(3, np.uint8), photometric="rgb")
    return path


@pytest.fixture(params=VIDEOS)
def video(request, tmp_path):
    expected, reader = VIDEOS[request.param](tmp_path)
    with reader:
        yield expected, reader


def test_describes_itself(video):
    expected, reader = video
    assert isinstance(reader, VideoReader)
    assert reader.shape == expected.shape
    assert (reader.frame_count, reader.height, reader.width, reader.n_channels) == expected.shape
    assert len(reader) == T
    assert reader.dtype == expected.dtype
    assert reader[:].dtype.isnative
    assert str(expected.shape) in repr(reader)


@pytest.mark.parametrize(
    "key",
    [
        0, -1, np.int64(3), slice(None), slice(2, 5), slice(None, None, -2), slice(5, 2), slice(20), ...,
        (2, 3), (2, ..., 0), (..., 0), (slice(1, 4), slice(None, None, 2), -1, 0), (slice(0, 2), 4),
        [3, 1, 1, -1], [], np.array([2, 0]), np.arange(T) % 2 == 0, ([5, 2], slice(1, 3)),
    ],
    ids=str,
)  # fmt: skip
def test_indexes_like_an_array(video, key):
    expected, reader = video
    wanted = expected[np.array(key, int) if isinstance(key, list) else key]
    found = reader[key]
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


@settings(max_examples=60, deadline=None)
@given(st.slices(T), st.slices(H), st.slices(W))
def test_any_slice(frames, rows, columns):
    key = frames, rows, columns
    np.testing.assert_array_equal(ArrayReader(movie(2))[key], movie(2)[key])


def test_batches_cover_the_video(video):
    expected, reader = video
    pieces = list(reader.batches(3, start=1))
    assert [first for first, _ in pieces] == [1, 4]
    np.testing.assert_array_equal(np.concatenate([frames for _, frames in pieces]), expected[1:])


def test_frames_are_the_callers_own(video):
    expected, reader = video
    reader[2][...] = 0
    np.testing.assert_array_equal(reader[2], expected[2])


@pytest.mark.parametrize("key", [T, -T - 1, [0, T], (0, 0, 0, 0, 0), (..., ...)], ids=str)
def test_outside_is_an_index_error(video, key):
    with pytest.raises(IndexError):
        video[1][key]


@pytest.mark.parametrize("key", ["frames", 1.5, [0.5], (0, [1, 2])], ids=str)
def test_other_indices_are_a_type_error(video, key):
    with pytest.raises(TypeError):
        video[1][key]


# ---- writers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_format", ["TIFF", "HDF5"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_round_trip(tmp_path, output_format, dtype, n_channels):
    frames = movie(n_channels, dtype)
    extension = {"TIFF": "tif", "HDF5": "h5"}[output_format]
    with open_video(write(tmp_path / f"ä b.{extension}", output_format, frames)) as reader:
        np.testing.assert_array_equal(reader[:], frames)
        assert reader.dtype == dtype
    assert [path.name for path in tmp_path.iterdir()] == [f"ä b.{extension}"]


def test_tiff_is_one_series_for_everyone(tmp_path):
    np.testing.assert_array_equal(tifffile.imread(write(tmp_path / "a.tif", "TIFF", movie())), movie()[..., 0])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej


def test_hdf5_holds_nothing_but_its_channels(tmp_path):
    write(tmp_path / "a.h5", "HDF5", movie(2))
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file) == ["ch1", "ch2"]
        assert file["ch1"].shape == (T, H, W)
        assert not file.attrs


@pytest.mark.parametrize("extension", ["tif", "h5"])
def test_an_error_leaves_the_target_as_it_was(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    path.write_text("earlier result")
    with pytest.raises(RuntimeError), get_video_file_writer(path) as writer:
        writer.write_frames(movie())
        raise RuntimeError
    assert path.read_text() == "earlier result"
    assert list(tmp_path.iterdir()) == [path]


def test_hdf5_goes_on_after_an_interruption(tmp_path):
    path, frames = tmp_path / "a.h5", movie(2)
    with pytest.raises(KeyboardInterrupt), get_video_file_writer(path, resume_at=0) as writer:
        writer.write_frames(frames[:5])
        writer.flush()
        raise KeyboardInterrupt
    assert not path.exists()
    with get_video_file_writer(path, resume_at=3) as writer:
        assert writer.frames_written == 3
        writer.write_frames(frames[3:])
    with open_video(path) as reader:
        np.testing.assert_array_equal(reader[:], frames)


def test_hdf5_refuses_to_go_on_without_the_frames(tmp_path):
    with pytest.raises(KeyboardInterrupt), get_video_file_writer(tmp_path / "a.h5", resume_at=0) as writer:
        writer.write_frames(movie()[:2])
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="2 frames in ch1, expected at least 3"):
        get_video_file_writer(tmp_path / "a.h5", resume_at=3)


@pytest.mark.parametrize("extension", ["tif", "h5"])
def test_frames_must_fit_together(tmp_path, extension):
    with pytest.raises(ValueError, match=r"found frames of shape \(7, 10, 5, 1\) uint16, expected \(n, 10, 12, 1\)"):
        with get_video_file_writer(tmp_path / f"a.{extension}") as writer:
            writer.write_frames(movie())
            writer.write_frames(movie()[:, :, :5])


# ---- finding the video in an HDF5 file --------------------------------------------------------------------


def test_channels_sort_naturally_in_any_case(tmp_path):
    with h5py.File(tmp_path / "a.HDF5", "w") as file:
        for channel in range(1, 12):
            file[f"CH{channel}"] = np.full((2, 3, 4), channel)
    with open_video(tmp_path / "a.HDF5") as reader:
        assert reader[0, 0, 0].tolist() == list(range(1, 12))


def test_a_data_set_can_be_named(tmp_path):
    with h5py.File(tmp_path / "planes.h5", "w") as file:
        file["a"], file["b"] = movie()[..., 0], movie()[..., 0] + 1
    with open_video(tmp_path / "planes.h5", dataset=["b", "a"]) as reader:
        np.testing.assert_array_equal(reader[..., 0], reader[..., 1] + 1)
    with pytest.raises(ValueError, match=r"which data set is the video.*a \(7, 10, 12\) uint16, b \(7"):
        open_video(tmp_path / "planes.h5")
    with pytest.raises(ValueError, match="no 3-D or 4-D data set 'x'; found: a"):
        open_video(tmp_path / "planes.h5", dataset="x")


# ---- damaged and foreign files ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [_compressed, lambda p: separate_pages(p, movie())])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_tiff_is_refused_by_name(tmp_path, make, kept, caplog):
    whole = make(tmp_path / "a.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: int(kept * len(whole))])
    with caplog.at_level(logging.CRITICAL, logger="tifffile"), pytest.raises(ValueError, match=r"cut\.tif: "):
        with open_video(tmp_path / "cut.tif") as reader:
            reader[:]


def test_an_imagej_stack_that_lost_its_tail_names_both_counts(tmp_path):
    whole = imagej(tmp_path / "a.tif", movie(2)).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.tif: truncated: the header says 14 pages, the file has 1"):
        open_video(tmp_path / "cut.tif")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tif", b"", "the file is empty"),
        ("a.tif", b"just some text", "not a readable TIFF file"),
        ("a.h5", b"just some text", "not a readable HDF5 file"),
        ("a.avi", b"RIFF", "a film: ffmpeg or Fiji turns it into TIFF"),
        ("a.sbx", b"1234", "of Scanbox: the package sbxreader"),
        ("a.xyz", b"1234", "unknown extension '.xyz', expected one of .*\\.tif.*; Fiji's Bio-Formats"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        get_video_file_reader(tmp_path / name)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.tif: no such file"):
        open_video(tmp_path / "gone.tif")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        open_video(tmp_path)
    with pytest.raises(ValueError, match="the list of recordings is empty"):
        open_video([])


def test_channels_of_different_sizes_are_refused(tmp_path):
    write(tmp_path / "a.tif", "TIFF", movie())
    write(tmp_path / "b.tif", "TIFF", movie()[:, :3])
    with pytest.raises(ValueError, match=r"a\.tif is \(7, 10, 12\) uint16, .*b\.tif is \(7, 3, 12\) uint16"):
        open_video([tmp_path / "a.tif", tmp_path / "b.tif"])


def test_pages_must_divide_into_channels(tmp_path):
    write(tmp_path / "a.tif", "TIFF", movie())
    with pytest.raises(ValueError, match="7 pages do not divide into 2 channels"):
        open_video(tmp_path / "a.tif", n_channels=2)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("data/two_photon_128x256_20f.tif", (20, 128, 256, 1), np.uint16),
        ("data/two_photon_256x256_200f.tif", (200, 256, 256, 1), np.uint16),
        ("data/two_photon_fly_241x372_40f.tif", (40, 241, 372, 1), np.uint8),
        ("data/two_photon_100x100_100f.h5", (100, 100, 100, 1), np.int16),
        ("reference/toolbox/stage1_matlab_like/rec1/compensated.HDF5", (9, 6, 8, 2), np.float64),
        ("reference/toolbox/stage1_matlab_like/rec1/idx.hdf", (9, 6, 8, 1), np.uint8),
    ],
)
def test_real_recordings_open(shared, name, shape, dtype):
    with open_video(shared / name) as reader:
        assert (reader.shape, reader.dtype) == (shape, dtype)
        assert reader[-1].any()


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.97])
@pytest.mark.parametrize("kind", ["tif", "pages", "compressed", "h5", "gzip"])
def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path, kind, kept):
    # Larger than what libraries read ahead.
    frames = np.random.default_rng(0).integers(0, 60000, (64, 100, 100, 1)).astype(np.uint16)
    path = {
        "tif": lambda: write(tmp_path / "a.tif", "TIFF", frames),
        "pages": lambda: separate_pages(tmp_path / "a.tif", frames),
        "compressed": lambda: _compressed(tmp_path / "a.tif", frames),
        "h5": lambda: write(tmp_path / "a.h5", "HDF5", frames),
        "gzip": lambda: write(tmp_path / "a.h5", "HDF5", frames, compression="gzip"),
    }[kind]()
    whole = path.stat().st_size
    with open_video(path) as reader:
        np.testing.assert_array_equal(reader[0], frames[0])
        os.truncate(path, int(kept * whole))
        with pytest.raises(ValueError, match=rf"{path.name}: .*(expected \d+ bytes|cannot be (read|decoded))"):
            reader[-20:]


def test_bytes_that_are_missing_in_a_tiff_are_counted(tmp_path):
    path = write(tmp_path / "a.tif", "TIFF", movie())
    first = path.read_bytes().index(movie()[0].tobytes())
    with open_video(path) as reader:
        os.truncate(path, first + 3 * H * W * 2 + 7)
        with pytest.raises(
            ValueError, match=rf"a\.tif: .* expected {4 * H * W * 2} bytes from .*, found {H * W * 2 + 7}"
        ):
            reader[2:6]


# ---- TIFF files that were appended to ---------------------------------------------------------------------


def frame_by_frame(path, frames, **options):
    with tifffile.TiffWriter(path) as file:
        for frame in frames:
            file.write(frame, **options)
    return path


def appended(path, frames):
    for frame in frames:
        tifffile.imwrite(path, frame, append=True)
    return path


def as_pyflowreg(path, frames):
    """As its TIFF writer leaves a movie that it gets in batches of 3."""
    for first in range(0, len(frames), 3):
        with tifffile.TiffWriter(path, append=first > 0, bigtiff=True, imagej=False) as file:
            for frame in frames[first : first + 3]:
                if frames.shape[-1] == 1:
                    file.write(frame[np.newaxis, ..., 0], compression=None, metadata={"Software": "pyflowreg"})
                else:
                    metadata = {"Software": "pyflowreg"}
                    file.write(frame, planarconfig="contig", contiguous=True, compression=None, metadata=metadata)
    return path


APPENDED = {
    "frame by frame": lambda path: (movie(), frame_by_frame(path, movie()[..., 0])),
    "compressed": lambda path: (movie(), frame_by_frame(path, movie()[..., 0], compression="zlib")),
    "RGB": lambda path: (movie(3, np.uint8), frame_by_frame(path, movie(3, np.uint8), photometric="rgb")),
    "two channels": lambda path: (
        movie(2),
        frame_by_frame(path, np.moveaxis(movie(2), -1, 1), metadata={"axes": "CYX"}),
    ),
    "append=True": lambda path: (movie(), appended(path, movie()[..., 0])),
    "batches": lambda path: (movie(), appended(path, np.split(movie()[..., 0], [2, 4, 6]))),
    "batches of two channels": lambda path: (
        movie(2),
        frame_by_frame(
            path, np.split(np.moveaxis(movie(2), -1, 1), [1, 5]), metadata={"axes": "TCYX"}, photometric="minisblack"
        ),
    ),
    "OME": lambda path: (movie(), frame_by_frame(path.with_suffix(".ome.tif"), movie()[..., 0])),
    "pyflowreg": lambda path: (movie(), as_pyflowreg(path, movie())),
    "pyflowreg, two channels": lambda path: (movie(2), as_pyflowreg(path, movie(2))),
}


@pytest.mark.parametrize("kind", APPENDED)
def test_appended_frames_are_one_recording(tmp_path, kind):
    expected, path = APPENDED[kind](tmp_path / "a.tif")
    with open_video(path) as reader:
        assert (reader.shape, reader.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(reader[:], expected)
        np.testing.assert_array_equal(reader[[4, 1, 1, 2, 5]], expected[[4, 1, 1, 2, 5]])


def test_appended_pages_can_interleave_channels(tmp_path):
    frame_by_frame(tmp_path / "a.tif", np.moveaxis(movie(2), -1, 1).reshape(2 * T, H, W))
    with open_video(tmp_path / "a.tif", n_channels=2) as reader:
        np.testing.assert_array_equal(reader[:], movie(2))


@pytest.mark.parametrize("other", [movie()[:, :5, :, 0], movie()[..., 0].astype(np.uint8)], ids=["size", "type"])
def test_series_that_differ_are_refused(tmp_path, other):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(movie()[..., 0])
        file.write(other)
    message = rf"a\.tif: 2 series .* differ, .*\(7, 10, 12\) uint16, .*\(7, {other.shape[1]}, 12\) {other.dtype}"
    with pytest.raises(ValueError, match=message):
        open_video(tmp_path / "a.tif")


def test_several_movies_of_an_ome_file_are_refused(tmp_path):
    frame_by_frame(tmp_path / "a.ome.tif", [movie()[..., 0], movie()[..., 0]])
    with pytest.raises(ValueError, match=r"a\.ome\.tif: 2 movies"):
        open_video(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("kept", np.linspace(0.1, 0.99, 15))
def test_a_truncated_file_of_appended_frames_is_refused(tmp_path, kept):
    path = frame_by_frame(tmp_path / "a.tif", movie()[..., 0])
    os.truncate(path, int(kept * path.stat().st_size))
    with pytest.raises(ValueError, match=r"a\.tif: (damaged|truncated|not a readable)"):
        open_video(path)


def test_tifffiles_logger_is_left_alone(tmp_path, monkeypatch):
    """Whatever other threads have to say while a file is opened must reach the handlers that the user set up."""
    path = _compressed(tmp_path / "a.tif")
    logger, open_file, seen = logging.getLogger("tifffile"), tifffile.TiffFile, []

    def opened(*arguments, **options):
        seen.append((list(logger.handlers), logger.propagate, logger.disabled, logger.level))
        return open_file(*arguments, **options)

    monkeypatch.setattr(tifffile, "TiffFile", opened)
    before = (list(logger.handlers), logger.propagate, logger.disabled, logger.level)
    with open_video(path) as reader:
        reader[0]
    assert seen == [before]


# ---- from reader to writer --------------------------------------------------------------------------------


def test_iterating_yields_batches(video):
    expected, reader = video
    batches = list(reader)
    assert all(batch.ndim == 4 for batch in batches)
    np.testing.assert_array_equal(np.concatenate(batches), expected)
    np.testing.assert_array_equal(np.concatenate(list(reader)), expected)


def test_batches_are_small():
    frames = np.broadcast_to(np.uint16(1), (100, 512, 1024))
    lengths = [len(batch) for batch in ArrayReader(frames)]
    assert lengths == [16] * 6 + [4]
    assert [len(batch) for batch in ArrayReader(np.broadcast_to(0.5, (2, 2000, 2000)))] == [1, 1]


def test_batches_of_a_given_size(video):
    expected, reader = video
    with open_video(reader, buffer_size=3) as batched:
        assert [len(batch) for batch in batched] == [min(3, T - first) for first in range(0, T, 3)]
        read = []
        while batched.has_batch():
            read.append(batched.read_batch())
        assert [len(batch) for batch in read] == [len(batch) for batch in batched]
        np.testing.assert_array_equal(np.concatenate(read), expected)
        with pytest.raises(EOFError, match=f"all {T} frames were read"):
            batched.read_batch()
        batched.reset()
        np.testing.assert_array_equal(batched.read_batch(), expected[:3])
    assert len(reader.read_batch()) == T  # as many as a few megabytes hold


@pytest.mark.parametrize("opening", [open_video, get_video_file_reader])
def test_bins_are_means_of_successive_frames(tmp_path, opening):
    frames = movie(2)
    file = write(tmp_path / "a.h5", "HDF5", frames)
    with opening(file, frames="1:", bin_size=3, buffer_size=2, frame_rate=30, channels=[1]) as reader:
        bins = [frames[first : first + 3, ..., 1:].astype(np.float64).mean(axis=0) for first in range(1, T, 3)]
        expected = np.stack(bins).astype(np.float32)
        assert (reader.shape, reader.dtype, reader.frame_rate_hz) == (expected.shape, np.float32, 10)
        np.testing.assert_array_equal(reader[:], expected)
        np.testing.assert_array_equal(reader[[-1, 0]], expected[[-1, 0]])
        assert [len(batch) for batch in reader] == [2] * (len(expected) // 2) + [1] * (len(expected) % 2)
        assert "3 frames" in reader.origin["bins"]


def test_bins_do_not_end_where_files_do(tmp_path):
    frames = movie()
    files = [write(tmp_path / f"{i}.tif", "TIFF", part) for i, part in enumerate((frames[:2], frames[2:]))]
    with open_video(files, files="time", bin_size=3) as reader:
        np.testing.assert_array_equal(reader[0], frames[:3].mean(axis=0, dtype=np.float64).astype(np.float32))


@pytest.mark.parametrize("extension", ["tif", "h5"])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_a_reader_is_copied_by_iterating(tmp_path, extension, n_channels):
    path = tmp_path / f"a.{extension}"
    with ArrayReader(movie(n_channels)) as reader, get_video_file_writer(path) as writer:
        for batch in reader:
            writer.write_frames(batch)
    with open_video(path) as reader:
        np.testing.assert_array_equal(reader[:], movie(n_channels))


@pytest.mark.parametrize("extension", ["tif", "h5"])
def test_images_are_single_frames(tmp_path, extension):
    with get_video_file_writer(tmp_path / f"a.{extension}") as writer:
        for frame in movie()[:3, ..., 0]:
            writer.write_frames(frame)
        writer.write_frames(movie()[3:5, ..., 0])
        writer.write_frames(movie()[5:])
    with open_video(tmp_path / f"a.{extension}") as reader:
        np.testing.assert_array_equal(reader[:], movie())


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (None, (10, 12, 2), r"frames of shape \(10, 12, 2\) are n frames .* or one frame .*, expected \(n, H, W, C\)"),
        (None, (7, 12, 1), "or one frame"),
        (None, (12,), r"frames of shape \(12,\), expected"),
        (None, (1, 1, 7, 10, 12), "expected"),
        (None, (7, 0, 12), r"frames of shape \(7, 0, 12\), expected"),
        (None, (0, 12), "expected"),
        ((7, 10, 12, 2), (10, 12, 2), r"found frames of shape \(10, 12, 2\) .*expected \(n, 10, 12, 2\)"),
        ((7, 10, 12, 2), (10, 12), r"found frames of shape \(10, 12\) .*expected \(n, 10, 12, 2\)"),
        ((7, 10, 12, 1), (10, 12, 1), r"found frames of shape \(10, 12, 1\) .*expected \(n, 10, 12, 1\)"),
        ((7, 10, 12, 1), (12, 10), r"found frames of shape \(12, 10\) .*expected \(n, 10, 12, 1\)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("extension", ["tif", "h5"])
def test_what_cannot_be_told_is_refused(tmp_path, extension, first, then, message):
    with pytest.raises(ValueError, match=message), get_video_file_writer(tmp_path / f"a.{extension}") as writer:
        if first is not None:
            writer.write_frames(np.zeros(first, np.uint16))
        writer.write_frames(np.zeros(then, np.uint16))
