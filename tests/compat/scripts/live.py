"""Frames as they come from a microscope."""

import pyflow.compat.pyflowreg  # noqa: F401  isort: skip

import numpy as np
from pyflowreg.motion_correction import FlowRegLive, OFOptions

movie = np.load("movie.npy").astype(np.float32)
options = OFOptions(alpha=4, sigma=[[2.0, 2.0, 0.5], [2.0, 2.0, 0.5]], channel_normalization="separate")
live = FlowRegLive(options, reference_buffer_size=4, reference_update_interval=5, reference_update_weight=0.2)

waiting = [live(frame) for frame in movie[:6]]
kept = len(live.reference_buffer)
live.set_reference()
results = [live(frame) for frame in movie]
counted, current = live.frame_count, live.get_current_flow()

live.reset_reference(movie[3])
stack, fields = live.register_frames(movie[:4])
