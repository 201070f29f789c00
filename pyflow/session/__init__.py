"""Many recordings of one field of view: free of motion, in one frame, with one mask of valid pixels."""

from pyflow.session.config import SessionConfig
from pyflow.session.elsewhere import compute_and_save_temporal_average
from pyflow.session.final.masks import load_idx_and_compute_mask
from pyflow.session.final.videos import align_sequence_video
from pyflow.session.pipeline import run_session, session_status
from pyflow.session.recordings import Recording, discover_input_files, find_recordings
from pyflow.session.stage1_compensate import SessionError, run_stage1, run_stage1_array
from pyflow.session.stage2_between_avgs import compute_between_displacement, run_stage2
from pyflow.session.stage3_valid_mask import run_stage3

__all__ = [
    "Recording",
    "SessionConfig",
    "SessionError",
    "align_sequence_video",
    "compute_and_save_temporal_average",
    "compute_between_displacement",
    "discover_input_files",
    "find_recordings",
    "load_idx_and_compute_mask",
    "run_session",
    "run_stage1",
    "run_stage1_array",
    "run_stage2",
    "run_stage3",
    "session_status",
]
