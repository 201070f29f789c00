"""Look for what registration cannot mend: ``zshift`` finds the depth of recordings in a stack."""

import argparse
from pathlib import Path

from rich.console import Console

from pyflow.io.readers.options import reader_options
from pyflow.session.commands.arguments import add_reader, parse_of_params, reader_of
from pyflow.session.commands.explained import Commands, add_command
from pyflow.session.commands.terminal import (
    DONE,
    FAILED,
    before_it_begins,
    make_console,
    print_error,
    show_progress,
)
from pyflow.session.stage import RECORDING_ERRORS
from pyflow.session.zshift import find_depth, open_stack, targets_of


def add_to(commands: Commands) -> None:
    """Add the command."""
    zshift = add_command(
        commands,
        "zshift",
        _zshift,
        help="find how deep the focus lay in each frame, in a stack of the same tissue",
        more="Registration mends no shift along z, which shows other cells. depth.csv has the depth of each frame, "
        "depth.png draws it. A recording is read as it was recorded; it need not have been registered.",
        examples=(
            "rec.tif --stack stack.tif --spacing 2",
            "session.toml --stack stack.tif",
            "rec.tif --stack stack.npy --stack-reader axes=ZTHW",
        ),
    )
    zshift.add_argument("recording", type=Path, metavar="RECORDING", help="or a session.toml, for all its recordings")
    zshift.add_argument(
        "--stack",
        type=Path,
        required=True,
        metavar="FILE",
        help="planes at equal distances, with the recording's pixel size and field of view",
    )
    zshift.add_argument("--spacing", type=_positive, metavar="UM", help="distance of the planes, in micrometres")
    zshift.add_argument(
        "--smoothing",
        type=_not_negative,
        default=15.0,
        metavar="FRAMES",
        help="standard deviation of the average over time (default: 15); 0: none",
    )
    zshift.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where to (default: RECORDING_depth; of a session, the folder of each recording's results)",
    )
    add_reader(zshift, "n_channels=2 channels=[0]")
    zshift.add_argument("--stack-reader", nargs="+", metavar="KEY=VALUE", default=[], help="the same, of the stack")


def _positive(text: str) -> float:
    if not 0 < (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def _not_negative(text: str) -> float:
    return 0.0 if float(text) == 0 else _positive(text)


def _zshift(options: argparse.Namespace, console: Console) -> int:
    with before_it_begins():
        targets = targets_of(options.recording, reader_of(options), options.output)
        stack = open_stack(options.stack, reader_options(parse_of_params(options.stack_reader, "--stack-reader")))
    out, failed = make_console(), False
    with show_progress(console) as progress:
        for target in targets:
            try:
                lines = list(
                    find_depth(
                        target,
                        stack,
                        options.stack,
                        spacing_um=options.spacing,
                        smoothing_frames=options.smoothing,
                        progress=lambda done, total, name=target.name: progress(name, done, total),
                    )
                )
            except RECORDING_ERRORS as error:
                print_error(console, error, f"failed {target.name}:")
                failed = True
                continue
            for line in lines:
                out.print(f"{target.name}: {line}")
    return FAILED if failed else DONE
