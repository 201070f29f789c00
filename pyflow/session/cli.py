"""The command ``pyflow-session``; `pyflow.session.commands` holds what its commands do.

Exit codes: 0 done; 1 something failed, or is not as it was written, and is named; 2 the command or the configuration is
wrong; 3 done, but recordings could not be aligned and are named; 75 interrupted, run again to go on.
"""

import argparse
import io
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from types import FrameType

from pyflow import __version__
from pyflow._help import did_you_mean
from pyflow.session.commands import begin, cluster, depth, hand_over, look, one, run
from pyflow.session.commands.arguments import parse_passing_on
from pyflow.session.commands.explained import HelpFormatter, name_keys
from pyflow.session.commands.terminal import FAILED, INTERRUPTED, USAGE, UsageError, log_to, make_console, print_error
from pyflow.session.config import CONFIG_SUFFIXES
from pyflow.session.stage import RECORDING_ERRORS
from pyflow.session.stage1_compensate import SessionError

_EXAMPLES = """\
examples:
  pyflow-session demo                      try it on simulated recordings
  pyflow-session compensate rec.tif        a single recording
  pyflow-session init recordings           write a session.toml for a folder
  pyflow-session session.toml              all stages; repeated, it goes on
  pyflow-session session.toml --stage 2    one stage
  pyflow-session status session.toml       what is done, and what is not
  pyflow-session COMMAND --help            more about a command

exit status: 0 done; 1 something failed, and is named; 2 the command or the
  session's file is wrong; 3 done, but recordings could not be aligned;
  75 interrupted, the same command goes on
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):  # a name that is not UTF-8 is shown as well as can be, and ends nothing
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return USAGE
    known = parser.get_default("known")
    if arguments[0] not in known and not arguments[0].startswith("-"):
        if reason := _no_session(arguments[0], known):
            print_error(make_console(stderr=True), reason)
            return USAGE
        arguments = ["run", *arguments]
    parse = parse_passing_on if arguments[:1] in (["submit"], ["dask"]) else argparse.ArgumentParser.parse_args
    options = parse(parser, arguments)
    console = make_console(stderr=True)
    log_to(console)
    _end_on_sigterm()
    try:
        return options.do(options, console)
    except KeyboardInterrupt:
        console.print("interrupted; what is finished is kept, run the same command again to go on")
        return INTERRUPTED
    except UsageError as error:
        print_error(console, error)
        return USAGE
    except SessionError as error:
        for name, cause in error.failures.items():
            print_error(console, f"{name}: {cause}", "failed")
        return FAILED
    except (*RECORDING_ERRORS, ImportError) as error:
        print_error(console, error)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyflow-session",
        description="Many recordings of one field of view: motion-free, in one frame, with one valid mask.",
        epilog=f"{_EXAMPLES}\n{name_keys()}",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pyflow {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for room in (begin, run, one, cluster, look, depth, hand_over):
        room.add_to(commands)
    parser.set_defaults(known=frozenset(commands.choices))
    return parser


def _no_session(word: str, known: Collection[str]) -> str:
    """Say why a first word is neither a command nor a session's file, and what to write instead; empty if it is."""
    path = Path(word)
    if path.is_dir():
        inside = path / begin.SESSION_FILE
        instead = f"'pyflow-session init {word}' writes one for the recordings in it"
        if inside.is_file():
            instead = f"'pyflow-session {inside}'"
        return f"{word}: is a folder, expected a session's configuration; {instead}"
    if path.suffix.lower() in CONFIG_SUFFIXES:
        return ""
    if path.exists():
        return (
            f"{word}: expected a session's configuration ({', '.join(CONFIG_SUFFIXES)}); "
            f"'pyflow-session compensate {word}' frees a single recording of its motion"
        )
    return f"{word!r} is no command and no file{did_you_mean(word, known)}"


def _end_on_sigterm() -> None:
    """Make a scheduler's SIGTERM end the run as Ctrl-C does: files closed, claims released.

    Schedulers that cancel a job send it to each of its processes, and a shell that hands it on sends it again.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


if __name__ == "__main__":
    sys.exit(main())
