"""Begin: ``demo`` shows what pyflow does."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pyflow.layout import REPORT_FILE
from pyflow.session.commands.explained import Commands, add_command
from pyflow.session.commands.terminal import DONE, make_console, show_progress
from pyflow.session.demo import DEMO_FOLDER, run_demo


def add_to(commands: Commands) -> None:
    """Add the commands."""
    demo = add_command(
        commands,
        "demo",
        _demo,
        help="simulate a small experiment, run it and compare with the truth",
        examples=("", "my_demo"),
    )
    demo.add_argument(
        "folder", nargs="?", type=Path, default=Path(DEMO_FOLDER), help=f"where to (default: {DEMO_FOLDER})"
    )


def _demo(options: argparse.Namespace, console: Console) -> int:
    with show_progress(console) as progress:
        report = run_demo(options.folder, progress=progress)
    titles = ("frames\nper s", "error\nbefore", "error\nafter", "valid\npixels", "shift\nfound", "shift\ntrue")
    table = Table("recording", title="errors and shifts to the centre in pixels")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for row in report.recordings:
        table.add_row(
            row.name,
            f"{row.frames_per_s:.0f}",
            f"{row.error_before_px:.2f}",
            f"{row.error_after_px:.2f}",
            str(row.valid_pixels),
            "{:.1f}, {:.1f}".format(*row.shift_found_px),
            "{:.1f}, {:.1f}".format(*row.shift_true_px),
        )
    out = make_console()
    out.print(table)
    out.print(f"final mask: {report.mask_pixels} pixels, overlap with the true one (IoU) {report.mask_iou:.3f}")
    out.print(f"session:    {report.config_file}")
    out.print(f"results:    {report.results}")
    if (page := report.results / REPORT_FILE).is_file():
        out.print(f"report:     {page}")
    if report.picture is not None:
        out.print(f"picture:    {report.picture}")
    return DONE
