"""A small experiment with known truth, run through the pipeline: what ``pyflow-session demo`` does."""

import logging
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

DEMO_FOLDER = "pyflow_demo"


@dataclass(frozen=True)
class RecordingReport:
    """How well one recording went."""

    name: str
    frames_per_s: float
    error_before_px: float
    error_after_px: float
    valid_pixels: int
    shift_found_px: tuple[float, float]
    shift_true_px: tuple[float, float]


@dataclass(frozen=True)
class DemoReport:
    """How well the demo went, and where it is; `picture` is None without matplotlib."""

    recordings: list[RecordingReport]
    mask_pixels: int
    mask_iou: float
    config_file: Path
    results: Path
    picture: Path | None


def run_demo(folder, progress=None): ...
