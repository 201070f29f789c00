"""Begin: ``demo`` shows what pyflow does, ``init`` writes a session's file for a folder of recordings."""

import argparse
import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pyflow.io.atomic import replacing
from pyflow.layout import REPORT_FILE
from pyflow.session.commands.arguments import add_reader, reader_of
from pyflow.session.commands.draft import draft
from pyflow.session.commands.explained import Commands, add_command
from pyflow.session.commands.terminal import DONE, UsageError, before_it_begins, make_console, show_progress
from pyflow.session.demo import DEMO_FOLDER, run_demo
from pyflow.session.survey import look_around, several

SESSION_FILE = "session.toml"


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

    init = add_command(
        commands,
        "init",
        _init,
        help="look into a folder and write a session.toml for the recordings in it",
        more="It asks nothing and replaces nothing. Recordings are opened, so that their frames, sizes, channels and "
        "planes stand in the file, as comments, with every key that may be set.",
        examples=(
            "",
            "recordings",
            "recordings --output session.toml",
            "recordings --reader n_channels=2",
        ),
    )
    init.add_argument("folder", nargs="?", type=Path, default=Path(), help="with the recordings (default: this one)")
    init.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"what to write (default: {SESSION_FILE} in the folder of the recordings)",
    )
    add_reader(init, "n_channels=2 axes=HWT plane=0")


def _init(options: argparse.Namespace, console: Console) -> int:
    path = options.output or options.folder / SESSION_FILE
    with before_it_begins():
        if path.suffix.lower() != ".toml":
            raise ValueError(f"--output: expected a name that ends in .toml, found {path}")
        refusal = f"{path}: is there already, and is not replaced; name another file with --output"
        if path.exists():
            raise FileExistsError(refusal)
        found = look_around(options.folder, reader_of(options))
    try:
        with replacing(path, keep=True) as temporary:
            temporary.write_text(draft(found, path.absolute()), encoding="utf-8", errors="replace")
    except FileExistsError:
        raise UsageError(refusal) from None
    out = make_console()
    out.print(
        f"{path}: {found.n_recordings} {'recording' if found.n_recordings == 1 else 'recordings'}, {found.pattern}"
    )
    for reason, names in found.left_out.items():
        out.print(f"left out: {several(names)}: {reason}")
    for pattern, n_files in found.others.items():
        out.print(f"also there: {pattern}, {n_files} {'file' if n_files == 1 else 'files'}")
    out.print(f"Look at it, and then: pyflow-session {shlex.quote(str(path))}")
    return DONE


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
