"""Take results on: ``export`` to the next program, ``apply`` to another channel or file."""

import argparse
import tomllib
from pathlib import Path

from rich.console import Console

from pyflow.export import to_caiman, to_nwb, to_suite2p
from pyflow.motion.apply import apply_displacement
from pyflow.session.artifacts import read_marker
from pyflow.session.commands.arguments import add_reader, add_session, checked_session, reader_of
from pyflow.session.commands.explained import Commands, add_command
from pyflow.session.commands.terminal import DONE, before_it_begins, make_console, show_progress
from pyflow.session.pipeline import session_status


def add_to(commands: Commands) -> None:
    """Add the commands."""
    export = add_command(
        commands,
        "export",
        _export,
        help="write a finished session for suite2p, CaImAn or NWB",
        examples=(
            "session.toml --to suite2p --frame-rate 30",
            "session.toml --to caiman",
            "session.toml --to nwb --metadata nwb.toml",
        ),
    )
    add_session(export)
    export.add_argument("--to", choices=("suite2p", "caiman", "nwb"), required=True, help="the next program")
    export.add_argument("--output", type=Path, metavar="FOLDER", help="where to (default: in final_results)")
    export.add_argument("--channel", type=int, default=1, help="counted from 1 (default: 1)")
    export.add_argument(
        "--frame-rate", type=float, metavar="HZ", help="frames per second, where the recordings do not tell"
    )
    export.add_argument("--metadata", type=Path, metavar="FILE", help="TOML file with what NWB asks for")

    apply = add_command(
        commands,
        "apply",
        _apply,
        help="warp another channel or file by the field that a recording was found to have",
        more="The field is kept where the flow option save_w is true.",
        examples=("red.tif --displacement results/day2 --output red2.tif",),
    )
    apply.add_argument("file", type=Path, help="what to warp")
    apply.add_argument("--displacement", type=Path, required=True, metavar="PATH", help="w.hdf, or the folder with it")
    apply.add_argument("--output", type=Path, required=True, metavar="FILE", help="the result, .tif or .hdf5")
    add_reader(apply, "n_channels=2")


def _export(options: argparse.Namespace, console: Console) -> int:
    with before_it_begins():
        config = checked_session(options)
    state = session_status(config)[1]
    if not state.done:
        raise ValueError(f"all stages of the session have to run first ({state.reason})")
    folder = options.output or (config.final_results if options.to == "suite2p" else config.final_results / options.to)
    with before_it_begins():
        metadata = {} if options.metadata is None else tomllib.loads(options.metadata.read_text(encoding="utf-8"))
        if rate := options.frame_rate or config.reader.frame_rate:
            metadata["frame_rate"] = rate
    with show_progress(console) as progress:
        common = {"channel": options.channel, "progress": progress}
        if options.to == "suite2p":
            written = [to_suite2p(config.final_results, folder, frame_rate=metadata.get("frame_rate"), **common)]
        elif options.to == "caiman":
            written = [to_caiman(config.final_results, folder, **common)]
        else:
            written = to_nwb(config.final_results, folder, metadata, **common)
    for path in written:
        make_console().print(str(path))
    return DONE


def _apply(options: argparse.Namespace, console: Console) -> int:
    with before_it_begins():
        reader = reader_of(options)
    path = options.displacement
    marker = read_marker(path if path.is_dir() else path.parent, "stage1") or {}
    with show_progress(console) as progress:
        apply_displacement(
            options.file,
            path,
            options.output,
            reader=reader,
            bidiphase=int(marker.get("bidiphase", 0)),
            progress=lambda done, total: progress(options.file.name, done, total),
        )
    make_console().print(f"Result: {options.output}")
    return DONE
