"""A session in full, by a configuration that changes on its way."""

import pyflow.compat.pyflowreg  # noqa: F401  isort: skip

import os
from pathlib import Path

import numpy as np
from pyflowreg.session import SessionConfig
from pyflowreg.session.config import get_array_task_id
from pyflowreg.session.stage1_compensate import (
    atomic_save_npy,
    atomic_save_npz,
    discover_input_files,
    run_stage1,
    run_stage1_array,
)
from pyflowreg.session.stage2_between_avgs import compute_between_displacement, run_stage2
from pyflowreg.session.stage3_valid_mask import load_idx_and_compute_mask, run_stage3
from pyflowreg.util.io.factory import get_video_file_reader

config = SessionConfig.from_file("session.toml")
assert config.root == Path("experiment")
assert SessionConfig.from_yaml("session.yml") == config

files = discover_input_files(config)
middle = config.resolve_center_file(files)
config.center = "day_2.tif"
chosen = config.resolve_center_file(files)
config.center = None

config.n_workers = 2
config.stage1_quality_setting = "fast"
config.flow_options = {"save_valid_idx": True, "save_w": True, "buffer_size": 500, "compression": "gzip"}

outside = get_array_task_id()
os.environ["SLURM_ARRAY_TASK_ID"] = "2"
inside = get_array_task_id()
array_folder = run_stage1_array(config)
del os.environ["SLURM_ARRAY_TASK_ID"]
third = run_stage1(config, task_index=2)

folders = run_stage1(config)
for folder in folders:
    assert np.load(folder / "temporal_average.npy").ndim == 2
middle_idx, center_file, fields = run_stage2(config)
largest = [np.hypot(w[..., 0], w[..., 1]).max() for w in fields]
field_again = compute_between_displacement(
    np.load(folders[1] / "temporal_average.npy"), np.load(folders[2] / "temporal_average.npy"), config
)
mask = run_stage3(config, middle_idx, fields)

output_root, final_results = config.resolve_output_paths()
bundle = dict(np.load(final_results / "final_valid_idx.npz"))
shapes = []
for path in [*bundle["compensated_h5_paths"], *bundle["aligned_video_paths"]]:
    reader = get_video_file_reader(str(path))
    shapes.append(reader.shape)
    reader.close()
own_mask = load_idx_and_compute_mask(output_root / "day_1" / "idx.hdf")
reader = get_video_file_reader(str(output_root / "day_1" / "compensated.hdf5"))
inside_mask = reader[:][:, bundle["final_valid"]]
reader.close()

atomic_save_npy(Path("mask.npy"), mask)
atomic_save_npz(Path("both.npz"), mask=mask, own=own_mask)
