"""What several commands take: the session they are about, and options as words ``key=value``."""

import argparse
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from pyflow.io import ReaderOptions
from pyflow.io.readers.options import reader_options
from pyflow.session.config import SessionConfig
from pyflow.session.recordings import find_center, find_compensated

# What pyflowreg's command calls some options of dask, and the values that mean them: a scheduler's -c and -j, which are
# passed on, have others (SLURM's processors of a task, whether SGE and PBS join a job's two logs).
_DASK_SHORT = {
    "-c": ("--config", re.compile(r".+\.(toml|ya?ml)", re.IGNORECASE)),
    "-j": ("--jobs", re.compile(r"\d+")),
}


def add_session(parser: argparse.ArgumentParser) -> None:
    """Let a command be told which session it is about."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("session", nargs="?", type=Path, help="session.toml or .yaml")
    short = ("-c",) if parser.allow_abbrev else ()  # where options are passed on, it may be a scheduler's
    group.add_argument("--config", *short, type=Path, metavar="SESSION", help="the same")


def add_reader(parser: argparse.ArgumentParser, example: str) -> None:
    """Let a command be told how recordings are opened."""
    parser.add_argument("--reader", nargs="+", metavar="KEY=VALUE", default=[], help=f"as in [reader]: {example}")


def reader_of(options: argparse.Namespace) -> ReaderOptions:
    """Return how recordings are opened.

    Raises
    ------
    ValueError
        An option is unknown or not of its kind.
    """
    return reader_options(parse_of_params(options.reader, "--reader"))


def session_path(options: argparse.Namespace) -> Path:
    """Return the file of the session that a command is about."""
    return options.session or options.config


def checked_session(options: argparse.Namespace) -> SessionConfig:
    """Read the session that a command is about, and look whether it fits the files there are.

    Raises
    ------
    OSError, ValueError
        It cannot be read, is wrong, or names what is not there.
    """
    config = SessionConfig.from_file(session_path(options))
    check_session(config)
    return config


def check_session(config: SessionConfig) -> None:
    """Raise what is wrong with a configuration beside the files that it is about.

    Raises
    ------
    OSError, ValueError
        There are no recordings, or `center` is none of them.
    """
    find_center(config, find_compensated(config))


def parse_passing_on(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Parse, and keep apart as ``passed_on`` what is not ours.

    That is unknown options with their values, and all that comes after ``--``.
    """
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    command, *ours = arguments[:cut]
    for i, (word, value) in enumerate(pairwise(ours)):
        name, values = _DASK_SHORT.get(word, ("", None))
        if command == "dask" and values and values.fullmatch(value):
            ours[i] = name
    for i, word in enumerate(ours):  # the session is named first, so that no unknown option's value is taken for it
        name, _, path = word.partition("=")
        if name == "--config":
            taken = 1 if path else 2
            ours = [path or "".join(ours[i + 1 : i + 2]), *ours[:i], *ours[i + taken :]]
            break
    options, unknown = parser.parse_known_args([command, *ours])
    options.passed_on = unknown + arguments[cut + 1 :]
    return options


def parse_of_params(items: list[str], option: str = "--of-params") -> dict[str, Any]:
    """Turn ``key=value`` words into options: JSON values, lists also as ``1,2,3``, anything else as text.

    Raises
    ------
    ValueError
        A word is not of that form.
    """
    options = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not (key and separator):
            raise ValueError(f"{option}: expected KEY=VALUE, found {item!r}")
        options[key] = _parse_value(text)
    return options


def _parse_value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words and text != "NULL":  # which is an output_format
        return words[text.lower()]
    for candidate in (text, f"[{text}]") if text else ():
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    return text
