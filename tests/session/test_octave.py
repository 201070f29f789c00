"""What pyflow writes, read in GNU Octave; and the other way round."""

import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from pyflow import layout
from pyflow.io import get_video_file_writer, open_video
from pyflow.layout import AVERAGE_FILE, MASK_DATASET, MASK_FILE, RESULT_FILE, VIDEO_FILE
from pyflow.session import SessionConfig, run_session, run_stage1, run_stage2, run_stage3

OCTAVE = shutil.which("octave-cli") or shutil.which("octave")
FUNCTIONS = Path(__file__).parents[2] / "matlab_compat"
NAMES = (
    "MASK_FILE",
    "MASK_DATASET",
    "RESULT_FILE",
    "FIELD_MATLAB_FILE",
)  # of `layout`, variables of the statements that Octave runs

pytestmark = pytest.mark.skipif(OCTAVE is None, reason="GNU OCTAVE IS MISSING: apt-get install octave")


def octave(folder, script):
    """Run statements in a folder, with `NAMES` as variables, and return the variables they save in out.mat."""
    names = "".join(f"{name} = '{getattr(layout, name)}'; " for name in NAMES)
    code = f"addpath('{FUNCTIONS}'); {names}{script}"
    done = subprocess.run(
        [OCTAVE, "--no-gui", "--norc", "--quiet", "--eval", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    out = Path(folder) / "out.mat"
    return scipy.io.loadmat(out) if out.exists() else {}


def test_session_reads_the_same_in_octave(config):
    run_session(config.replace(flow_options={**config.flow_options, "compression": "gzip"}))
    out = octave(
        config.final_results,
        """
        plain = load([RESULT_FILE '.mat']);
        s = pyflow_load_session('.');
        assert(islogical(plain.final_valid) && islogical(s.aligned_valid_masks{3}));
        assert(iscellstr(plain.recordings) && isequal(size(plain.recordings), [3 1]));
        assert(isequal(plain.recordings, {'rec1'; 'rec2'; 'rec10'}));
        assert(isa(plain.middle_idx, 'double') && plain.middle_idx == 2);
        assert(strcmp(plain.middle_name, s.recordings{s.middle_idx}));
        assert(isequal(plain.displacement_fields{3}(:, :, 2), plain.displacement_fields_v(:, :, 3)));
        video = pyflow_read_video(s.video_files{3});
        idx = pyflow_read_video(['../compensated_outputs/rec10/' MASK_FILE], MASK_DATASET);
        frame = video(:, :, 2);
        pixels = frame(s.final_valid);
        u = s.displacement_fields_u; average = s.temporal_averages{1};
        masks = cat(3, s.aligned_valid_masks{:});
        final_valid = s.final_valid; n = s.n; type = class(video);
        save('-v7', 'out.mat', 'video', 'idx', 'pixels', 'u', 'average', 'masks', 'final_valid', 'n', 'type');
        """,
    )
    data = np.load(config.final_results / f"{RESULT_FILE}.npz")
    with h5py.File(config.output_root / "rec10" / VIDEO_FILE) as file:
        video = file["ch1"][:]
    with h5py.File(config.output_root / "rec10" / MASK_FILE) as file:
        idx = file[MASK_DATASET][:]
    assert out["type"].item() == video.dtype.name
    np.testing.assert_array_equal(out["video"].transpose(2, 0, 1), video)
    np.testing.assert_array_equal(out["idx"].transpose(2, 0, 1), idx)
    np.testing.assert_array_equal(out["u"].transpose(2, 0, 1), data["displacement_fields_u"])
    np.testing.assert_array_equal(out["average"], data["temporal_averages"][0])
    np.testing.assert_array_equal(out["masks"].transpose(2, 0, 1), data["aligned_valid_masks"])
    np.testing.assert_array_equal(out["final_valid"], data["final_valid"])
    np.testing.assert_array_equal(np.sort(out["pixels"].ravel()), np.sort(video[1][data["final_valid"]]))
    assert out["n"].item() == 3


def test_videos_are_found_from_anywhere(config, tmp_path):
    run_session(config)
    out = octave(
        config.root,
        """
        s = pyflow_load_session('final_results');
        cd('/');
        found = cellfun(@(file) exist(file, 'file') == 2, [s.video_files; s.aligned_files]);
        video = pyflow_read_video(s.video_files{1});
        cd(fileparts(s.video_files{1})); cd('../..');
        save('-v7', 'out.mat', 'found');
        """,
    )
    assert out["found"].ravel().tolist() == [1] * 6


def test_names_that_are_not_ascii_load_in_octave(config, caplog):
    (config.root / "rec1.tif").rename(config.root / "zürich 1.tif")
    run_session(config)
    assert "is not ASCII" in caplog.text
    out = octave(
        config.final_results,
        "s = pyflow_load_session('.'); name = s.recordings{3}; save('-v7', 'out.mat', 'name');",
    )
    assert out["name"].item() == r"z\xfcrich 1"
    assert np.load(config.final_results / f"{RESULT_FILE}.npz")["recordings"][2] == "zürich 1"


def test_a_session_of_pyflowreg_loads(tmp_path, shared):
    shutil.copyfile(shared / "reference" / "toolbox" / "mat_io" / "peer.mat", tmp_path / f"{RESULT_FILE}.mat")
    octave(
        tmp_path,
        """
        s = pyflow_load_session('.');
        assert(islogical(s.final_valid) && isequal(size(s.aligned_valid_masks), [3 1]));
        assert(isequal(size(s.aligned_valid_masks{2}), size(s.final_valid)));
        assert(isequal(size(s.temporal_averages{1}), size(s.final_valid)));
        assert(iscellstr(s.compensated_h5_paths) && s.n == 3);
        """,
    )


def stage1_in_octave(tmp_path, n_channels, script):
    """Run statements on `video` (a cell, an array per channel) and `masks`, and stages 2 and 3 on what they wrote."""
    rng = np.random.default_rng(0)
    video = rng.integers(0, 4000, (5, 24, 30, n_channels), dtype=np.uint16)
    masks = rng.random(video.shape[:3]) > 0.1
    cells = np.empty((1, n_channels), object)
    cells[0] = [video[..., channel].transpose(1, 2, 0) for channel in range(n_channels)]
    scipy.io.savemat(tmp_path / "in.mat", {"video": cells, "masks": masks.transpose(1, 2, 0)})
    octave(tmp_path, f"load('in.mat'); mkdir('outputs'); {script}")
    config = SessionConfig(root=tmp_path, output_root="outputs", sigma_smooth=1, align_output_format="HDF5")
    run_stage2(config)
    mask = run_stage3(config)
    average = np.load(tmp_path / "outputs" / "rec1" / AVERAGE_FILE)
    np.testing.assert_allclose(average, video.mean(axis=0).squeeze())
    with open_video(config.final_results / "aligned_rec1.hdf5") as reader:
        np.testing.assert_array_equal(reader[:], video)
    return mask, masks


@pytest.mark.parametrize("n_channels", [1, 2])
def test_stages_2_and_3_go_on_from_octave(tmp_path, n_channels):
    mask, masks = stage1_in_octave(tmp_path, n_channels, "pyflow_write_recording('outputs/rec1', video, masks);")
    np.testing.assert_array_equal(mask, masks.all(axis=0))


@pytest.mark.parametrize("version", ["-v7", "-v6"])
def test_stages_2_and_3_go_on_from_mat_files_of_octave(tmp_path, version):
    """As the toolbox leaves them: a movie per file, and displacements that tell which pixels are valid."""
    script = f"""
        mkdir('outputs/rec1');
        ch1 = video{{1}}; ch2 = video{{2}};
        save('{version}', 'outputs/rec1/compensated.MAT', 'ch1', 'ch2');
        idx = permute(255 * uint8(masks), [2 1 3]);
        save('-hdf5', 'outputs/rec1/idx.hdf', 'idx');
    """
    mask, masks = stage1_in_octave(tmp_path, 2, script)
    np.testing.assert_array_equal(mask, masks.all(axis=0))


def test_stages_2_and_3_go_on_from_tiff_files_of_octave(tmp_path):
    script = """
        mkdir('outputs/rec1');
        imwrite(permute(video{1}, [1 2 4 3]), 'outputs/rec1/compensated.TIFF');
        idx = permute(255 * uint8(masks), [2 1 3]);
        save('-hdf5', 'outputs/rec1/idx.hdf', 'idx');
    """
    mask, masks = stage1_in_octave(tmp_path, 1, script)
    np.testing.assert_array_equal(mask, masks.all(axis=0))


@pytest.mark.parametrize("output_format", ["HDF5", "MAT7", "TIFF"])
def test_octave_goes_on_from_stage_1(config, tmp_path, output_format):
    """A person who has no more than Octave reads the frames, the masks and, after stage 2, the displacements."""
    run_stage1(config)
    run_stage2(config)
    valid = run_stage3(config.replace(align_output_format="none"))
    folder = config.output_root / "rec10"
    with open_video(folder / VIDEO_FILE) as reader:
        frames = reader[:]
    if output_format != "HDF5":
        name = {"MAT7": "movie.mat", "TIFF": "movie.tif"}[output_format]
        with get_video_file_writer(config.output_root / name, output_format) as writer:
            writer.write_frames(frames)
    read = {
        "HDF5": "video = pyflow_read_video('rec10/compensated.hdf5');",
        "MAT7": "video = load('movie.mat').ch1;",
        "TIFF": "n = numel(imfinfo('movie.tif')); video = cat(3, arrayfun(@(t) imread('movie.tif', t), 1:n, "
        "'UniformOutput', false){:});",
    }[output_format]
    out = octave(
        config.output_root,
        read
        + """
        valid = true;
        for name = {'rec1', 'rec2', 'rec10'}
            idx = pyflow_read_video([name{1} filesep MASK_FILE], MASK_DATASET);
            w = load([name{1} filesep FIELD_MATLAB_FILE]);
            mask = all(idx > 0, 3);
            [x, y] = meshgrid(1:size(mask, 2), 1:size(mask, 1));
            x = double(single(x) + w.u); y = double(single(y) + w.v);
            inside = x >= 1 & x <= size(mask, 2) & y >= 1 & y <= size(mask, 1);
            column = min(max(floor(x + 0.5), 1), size(mask, 2)); row = min(max(floor(y + 0.5), 1), size(mask, 1));
            valid = valid & inside & mask(sub2ind(size(mask), row, column));
        end
        save('-v7', 'out.mat', 'video', 'valid');
        """,
    )
    np.testing.assert_array_equal(out["video"].transpose(2, 0, 1), frames[..., 0])
    np.testing.assert_array_equal(out["valid"], valid)


def test_errors_in_octave_name_the_file(tmp_path):
    for call, word in (
        ("pyflow_load_session('.')", f"{RESULT_FILE}.mat is missing"),
        ("pyflow_read_video('gone.hdf5')", "there is no file gone.hdf5"),
        (
            "pyflow_write_recording('x', ones(2, 3, 4), ones(2, 3, 5))",
            "channel 1 is [2 3 4], but the masks are [2 3 5]",
        ),
    ):
        script = f"try, {call}; message = ''; catch e, message = e.message; end"
        script += "; save('-v7', 'out.mat', 'message');"
        assert word in octave(tmp_path, script)["message"].item()
