"""A recording from file to file, with callbacks and without."""

import pyflow.compat.pyflowreg  # noqa: F401  isort: skip

from pyflowreg.motion_correction import BatchMotionCorrector, OFOptions, OutputFormat, compensate_recording
from pyflowreg.motion_correction.compensate_recording import RegistrationConfig

kept = OFOptions(
    input_file="movie.h5",
    output_path="kept/",
    output_format="HDF5",
    quality_setting="fast",
    reference_frames=list(range(3, 9)),
    save_w=True,
    save_valid_idx=True,
)
reference = compensate_recording(kept, config=RegistrationConfig(parallelization="sequential"))

batch_named = OFOptions(
    input_file="movie.h5",
    output_path="matlab",
    quality_setting="fast",
    naming_convention="batch",
    cc_initialization=True,
)
compensate_recording(batch_named, reference)


in_memory = BatchMotionCorrector(
    OFOptions(input_file="movie.h5", output_format="ARRAY", quality_setting="fast", reference_frames=[0, 1, 2])
)
in_memory.run()
kept_frames = in_memory.video_writer.get_array()


class Watch:
    def __init__(self):
        self.spans, self.frames = [], 0

    def batch(self, frames, first, stop):
        self.spans.append((first, stop))
        self.frames += len(frames)


watch, largest, progress = Watch(), [], []
options = OFOptions(
    input_file="movie.h5",
    output_path="watched",
    output_format=OutputFormat.NULL,
    quality_setting="fast",
    buffer_size=4,
    reference_frames=[0, 1, 2],
)
corrector = BatchMotionCorrector(options)
corrector.register_registered_callback(watch.batch)
corrector.register_w_callback(lambda w, first, stop: largest.append(abs(w).max()))
corrector.register_progress_callback(lambda done, total: progress.append(done / total))
corrector.run()
