"""A movie in memory, with callbacks, as a notebook has it."""

import pyflow.compat.pyflowreg  # noqa: F401  isort: skip

import numpy as np
from pyflowreg.motion_correction import OFOptions, compensate_arr
from pyflowreg.motion_correction.compensate_arr import compensate_pair
from pyflowreg.motion_correction.compensate_recording import RegistrationConfig
from pyflowreg.motion_correction.OF_options import QualitySetting
from pyflowreg.util.io import get_video_file_reader

reader = get_video_file_reader("movie.tif")
movie = reader[:]
reader.close()
template = movie[2:6].mean(axis=0)

lengths, pieces, counts = [], [], []


def measure(w, first, stop):
    assert len(w) == stop - first
    lengths.extend(np.hypot(w[..., 0], w[..., 1]).mean(axis=(1, 2)))


options = OFOptions(alpha=4, quality_setting="balanced", buffer_size=5)
registered, flow = compensate_arr(
    movie,
    template,
    options,
    lambda done, total: counts.append((done, total)),
    w_callback=measure,
    registered_callback=lambda frames, first, stop: pieces.append((first, stop, frames)),
    registration_config=RegistrationConfig(n_jobs=2, parallelization="threading"),
)

fast = options.model_copy(update={"quality_setting": QualitySetting.FAST})
grey, grey_flow = compensate_arr(movie[..., 0], template[..., 0], fast)
one, one_flow = compensate_arr(movie[7], template, options)
pair = compensate_pair(movie[0], movie[7], options)
