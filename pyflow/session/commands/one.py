"""One recording without a session: ``compensate``."""

import argparse
import logging
from pathlib import Path

import numpy as np
from rich.console import Console

from pyflow.io import open_video
from pyflow.motion.compensate import RecordingResult, compensate_recording
from pyflow.motion.options import OFOptions
from pyflow.session.commands.arguments import add_reader, parse_of_params, reader_of
from pyflow.session.commands.explained import Commands, add_command
from pyflow.session.commands.terminal import DONE, before_it_begins, make_console, show_progress
from pyflow.session.config import CONFIG_SUFFIXES
from pyflow.session.info import channels_in_doubt
from pyflow.session.report.content import Given
from pyflow.session.report.page import save_recording_report, try_report

logger = logging.getLogger(__name__)


def add_to(commands: Commands) -> None:
    """Add the command."""
    compensate = add_command(
        commands,
        "compensate",
        _compensate,
        help="free a single recording of its motion",
        more="The folder that is written holds the registered movie, which pixels are valid, how far each frame was "
        "off, and a report. What was interrupted goes on. Several recordings of one field of view are a session: init.",
        examples=(
            "rec.tif",
            "rec.tif --output rec --of-params alpha=40",
            "rec.tif --of-params output_format=TIFF save_w=true",
            "rec.tif --reader n_channels=2 channels=[0]",
        ),
    )
    compensate.add_argument("recording", type=Path, metavar="RECORDING", help="a file, or a folder of images")
    compensate.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where to (default: RECORDING_compensated, in this folder)"
    )
    compensate.add_argument(
        "--of-params",
        nargs="*",
        metavar="KEY=VALUE",
        default=[],
        help="any of pyflow.OFOptions: alpha=4 reference_frames=0:200",
    )
    add_reader(compensate, "n_channels=2 axes=HWT plane=0")


def _compensate(options: argparse.Namespace, console: Console) -> int:
    path = options.recording
    with before_it_begins():
        reader = reader_of(options)
        folder = options.output or Path(f"{path.stem}_compensated")
        asked = OFOptions(
            **{**parse_of_params(options.of_params), "input_file": path, "reader": reader, "output_path": folder}
        )
        if path.suffix.lower() in CONFIG_SUFFIXES:
            raise ValueError(
                f"{path}: is a session's configuration, expected a recording: 'pyflow-session {path}' runs it"
            )
        if folder.is_file():
            raise NotADirectoryError(f"--output: {folder} is a file, expected a folder")
        with open_video(path, reader) as video:
            if hint := channels_in_doubt(path, video):
                logger.warning("%s: %s", path, hint)
    with show_progress(console) as progress:
        result = compensate_recording(asked, progress=lambda done, total: progress(path.name, done, total))
    source = (path, reader, asked.channel_idx, asked.bin_size)
    report = try_report(lambda: save_recording_report(Given(path.stem, folder.absolute(), source=source)))
    out = make_console()
    for line in _told(result):
        out.print(line)
    if asked.output_format not in ("ARRAY", "NULL"):
        out.print(f"Movie: {result.video_file}")
    if report is not None:
        out.print(f"Report: {folder / report.name}")
    return DONE


def _told(result: RecordingResult) -> list[str]:
    """Say what came of a recording; which frames could not be registered is logged."""
    moved, alpha = result.statistics["mean_disp"], f"{result.alpha[0]:.3g}"
    n_registered = np.count_nonzero(np.isfinite(moved))
    if result.alpha[0] != result.alpha[1]:
        alpha += f" along x, {result.alpha[1]:.3g} along y"
    return [
        f"{n_registered} of {len(moved)} frames are registered; they were off by {np.nanmean(moved):.2f} pixels on "
        f"average, the worst by {np.nanmax(moved):.2f} (alpha {alpha})",
        f"{np.count_nonzero(result.valid)} of {result.valid.size} pixels are valid in every one of them",
    ]
