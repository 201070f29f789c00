"""The command ``pyflow-units``.

Exit codes: 0 done; 1 refused, failed, or `check` found something; 2 the command is wrong.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler

import pyflow
from pyflow.units.commands import asking, deciding, drawing, files
from pyflow.units.commands.printing import FAILED, USAGE, print_error
from pyflow.units.commands.typed import pair, span
from pyflow.units.incoming.recognise import LAYOUTS, UnrecognisedError
from pyflow.units.store.database import UnitStoreError
from pyflow.units.store.unit_store import UnitStore

_REFUSALS = (ImportError, OSError, ValueError)
_NAMELESS = (ValueError, UnicodeDecodeError)  # which name no file, as our own kinds of ValueError do
_SURPRISES = (ArithmeticError, LookupError, TypeError)  # what a store whose content was changed from outside leads to


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    errors = Console(stderr=True)
    logger = logging.getLogger("pyflow")
    logger.handlers = [RichHandler(console=errors, show_path=False, show_time=False)]
    try:
        return options.run(options)
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was changed")
        return FAILED
    except UnrecognisedError as error:
        print_error(errors, error)
        return USAGE
    except _REFUSALS as error:
        print_error(errors, _damage_behind(options.store, error) if type(error) in _NAMELESS else error)
        return FAILED
    except _SURPRISES as error:
        if (damage := _damage_behind(options.store, error)) is error:
            raise
        print_error(errors, damage)
        return FAILED


def _damage_behind(path: Path, error: Exception) -> Exception:
    """The damage of the store that explains an error, else the error itself."""
    try:
        with UnitStore.open(path, create=False) as store:
            found = store.damage()
    except (OSError, ValueError):
        return error
    return UnitStoreError(f"{path}: damaged: {found[0]}; pyflow-units check says more") if found else error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyflow-units",
        description="Which unit of one session is which of another: one store for all that is known about it.",
        epilog="A unit of one session is written session/unit, or session/group/unit where it has a group (tetrode, "
        "probe, plane). CELL is what such units are together: its number, global id, label, or one of its members.",
    )
    parser.add_argument("--version", action="version", version=f"pyflow {pyflow.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Any, help: str, *, link_set: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        command.set_defaults(run=run)
        command.add_argument("--store", type=Path, default=Path("units.sqlite"), help="default: units.sqlite")
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
        if link_set:
            command.add_argument("--link-set", metavar="NAME", help="default: the current one")
        return command

    command = add(
        "import", files.import_, "bring in a spreadsheet, a clustering, ids kept by hand, or a matcher's result"
    )
    command.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a file, a folder, or a folder per session"
    )
    command.add_argument("--name", help="of the link set; one of that name is replaced and its ids are kept")
    command.add_argument("--author", help="default: your login")
    command.add_argument("--current", action="store_true", help="make it the current link set")
    command.add_argument("--session", action="append", metavar="NAME", help="in order; give it once per session")
    command.add_argument(
        "--source",
        action="append",
        type=Path,
        metavar="PATH",
        help="a session's data (matchers); in order",
    )
    command.add_argument(
        "--span",
        action="append",
        type=span,
        metavar="NAME=START:END",
        help="a session's samples in a folder where several were sorted as one; give it once per session",
    )
    command.add_argument(
        *("--group", "--probe", "--plane"),
        dest="group",
        metavar="NAME",
        help="tetrode, probe or plane of all units, where the files do not name it",
    )
    how = command.add_mutually_exclusive_group()
    how.add_argument("--append", action="store_true", help="keep the other groups of a link set of that name")
    how.add_argument("--replace", action="store_true", help="replace it even where it holds other groups")
    command.add_argument("--sheet", metavar="NAME", help="of a workbook")
    command.add_argument(
        "--layout",
        default=LAYOUTS[0],
        choices=LAYOUTS,
        help="of a table: a column says which cell a unit is (the default); the same id is the same cell; or a row per "
        "cell and a column per session",
    )
    command.add_argument(
        "--column", action="append", type=pair, metavar="MEANING=HEADING", help="session=Sitzung, unit=Zelle ..."
    )

    command.add_argument(
        "--oversplit",
        default="raise",
        choices=["raise", "best"],
        help="UnitMatch may take two units of a session for one neuron: refuse (the default), or follow the better one",
    )

    command = add("export", files.export, "write a link set as .xlsx, .csv, .tsv, .npz or .mat", link_set=True)
    command.add_argument("path", type=Path)

    command = add("show", asking.show, "show one cell in all its sessions", link_set=True)
    command.add_argument("unit", metavar="CELL")

    command = add("list", asking.list_, "list cells, units, sessions or link sets", link_set=True)
    command.add_argument("what", nargs="?", default="cells", choices=["cells", "units", "sessions", "link-sets"])
    command.add_argument("--session", action="append", metavar="NAME", help="only what is in it; may be repeated")
    command.add_argument("--group", action="append", metavar="NAME", help="only what is in it; may be repeated")

    command = add("present-in", asking.present_in, "list the cells that are in at least N sessions", link_set=True)
    command.add_argument("at_least", type=int, metavar="N")
    command.add_argument("--session", action="append", metavar="NAME", help="count only these; default: all")

    def decide(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        command = add(name, run, help, link_set=True)
        command.add_argument("--author", help="default: your login")
        return command

    unit = "session/unit or session/group/unit"
    command = decide("link", deciding.link, "say that two units are one cell; every later import keeps to it")
    command.add_argument("a", metavar="A", help=unit)
    command.add_argument("b", metavar="B", help=unit)
    command = decide("unlink", deciding.unlink, "say that a unit is another cell; every later import keeps to it")
    command.add_argument("a", metavar="A", help=unit)
    command.add_argument("b", metavar="B", nargs="?", help="default: every unit that A is linked with")
    command = decide("lock", deciding.lock, "say that a cell is right as it is; every later import keeps to it")
    command.add_argument("cell", metavar="CELL")
    command = decide("unlock", deciding.lock, "take the lock off a cell")
    command.add_argument("cell", metavar="CELL")
    add("pins", asking.pins, "list what was decided by hand")

    command = add("compare", asking.compare, "compare the links of two link sets")
    command.add_argument("a")
    command.add_argument("b")

    add("check", asking.check, "look for damage and contradictions")
    add("stats", asking.stats, "say what the store holds", link_set=True)

    command = add("plot", drawing.plot, "draw a cell across sessions, a gallery, or which cell is where", link_set=True)
    command.add_argument("what", metavar="CELL|gallery|presence")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: a .png of that name")
    command.add_argument("--kind", default="dff", help="of the traces; default: dff")
    command.add_argument("--spikes", action="store_true", help="draw CELL's spikes, waveforms, correlograms and depth")
    command.add_argument(
        "--movie", metavar="STIMULUS", help="draw CELL's responses to a movie, such as natural_movie_one"
    )
    command.add_argument(
        "--whole", action="store_true", help="show the whole field with CELL's mask, not what is around"
    )
    command.add_argument("--session", action="append", metavar="NAME", help="draw only these; may be repeated")
    command.add_argument("--page", type=int, default=1, help="of the gallery")

    add("history", asking.history, "say who changed what, when")
    command = add("undo", deciding.undo, "take back the last change")
    command.add_argument("--author", help="default: your login")
    command = add("use", deciding.use, "make a link set the current one")
    command.add_argument("link_set", metavar="NAME")
    command = add("remove", deciding.remove, "delete a link set; sessions, units and decisions stay")
    command.add_argument("link_set", metavar="NAME")
    command.add_argument("--author", help="default: your login")
    command = add("id-map", asking.id_map, "say which cell of one link set is which of another")
    command.add_argument("old")
    command.add_argument("new")
    command = add("merge", files.merge, "take over everything that another store knows")
    command.add_argument("other", type=Path, metavar="STORE")
    command.add_argument("--author", help="default: your login")
    command = add("set-source", files.set_source, "say where a session's results are")
    command.add_argument("session")
    command.add_argument("path", type=Path)
    command.add_argument("--kind", help="suite2p, nwb, phy ...")
    command.add_argument("--author", help="default: your login")
    return parser


if __name__ == "__main__":
    sys.exit(main())
