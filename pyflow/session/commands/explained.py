"""What ``--help`` says beside the arguments: examples, and the keys of a session's file.

The keys come from `SessionConfig` and `ReaderOptions` themselves: names and defaults from the fields, the rest from
their docstrings.
"""

import argparse
import inspect
import json
import re
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console

from pyflow.io import ReaderOptions
from pyflow.motion.options import OFOptions
from pyflow.session.config import OPTIONS_OF_THE_SESSION, SessionConfig

Commands = Any  # what argparse's add_subparsers returns, whose class has no public name
Do = Callable[[argparse.Namespace, Console], int]

_ENTRY = re.compile(r"^(\w+(?:, \w+)*)\n((?:    .*\n|\n)+)", re.MULTILINE)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fills a text of one line, and leaves one of several, such as examples, as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return super()._fill_text(text if "\n" in text else textwrap.fill(text, width), width, indent)


def add_command(
    commands: Commands,
    name: str,
    do: Do,
    *,
    help: str,
    more: str = "",
    examples: tuple[str, ...],
    keys: bool = False,
    **options: Any,
) -> argparse.ArgumentParser:
    """Add a command to the parser.

    Parameters
    ----------
    commands
        Of the parser.
    name
        The command.
    do
        Runs it, and returns the exit status.
    help
        What it does, in a line.
    more
        What else there is to know.
    examples
        What may follow the command's name.
    keys
        Whether its help explains the keys of a session's file.
    **options
        Of `argparse.ArgumentParser`.
    """
    parser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}." + (f" {more}" if more else ""),
        formatter_class=HelpFormatter,
        **options,
    )
    parser.set_defaults(do=do)
    shown = "\n".join(["examples:", *(f"  pyflow-session {f'{name} {words}'.strip()}" for words in examples)])
    parser.epilog = f"{shown}\n\n{explain_keys()}" if keys else shown
    return parser


def described(model: type[BaseModel]) -> list[tuple[list[str], str]]:
    """Return what the docstring of a model says of its fields: names, and a paragraph without markup.

    What Python's None means there is said of a key that is left out.
    """
    parameters = (inspect.getdoc(model) or "").partition("Parameters\n----------\n")[2].partition("\nRaises\n")[0]
    found = []
    for names, text in _ENTRY.findall(f"{parameters}\n"):
        words = " ".join(text.replace("`", "").split())
        words = re.sub(r"(^|[.:] )None\b", r"\1Left out", words)
        found.append((names.split(", "), re.sub(r"\bNone\b", "left out", words)))
    return found


def default_of(model: type[BaseModel], name: str) -> str:
    """Return a field's default as TOML has it; empty where the field has to be given, or is not set by default."""
    field = model.model_fields[name]
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel):
        return ""
    return json.dumps(str(value) if isinstance(value, Path) else value)


def explain_keys() -> str:
    """Explain the keys of a session's file, as wide as the terminal."""
    lines = []
    for title, model in (
        ("keys of session.toml, with their defaults:", SessionConfig),
        ("keys of its table [reader]:", ReaderOptions),
    ):
        lines.append(title)
        for names, text in described(model):
            for name in names:
                default = default_of(model, name)
                lines.append(f"  {name} = {default}" if default else f"  {name}")
            lines += filled(text, "      ")
        lines.append("")
    lines.append("keys of its table [flow_options]; in Python help(pyflow.OFOptions) has more:")
    return "\n".join([*lines, *filled(", ".join(n for n in OFOptions.model_fields if n not in OPTIONS_OF_THE_SESSION))])


def name_keys() -> str:
    """Name the keys of a session's file."""
    lines = ["keys of session.toml; pyflow-session run --help explains them:"]
    return "\n".join([*lines, *filled(", ".join(SessionConfig.model_fields))])


def filled(text: str, indent: str = "  ") -> list[str]:
    """Break a text into lines for the terminal."""
    width = shutil.get_terminal_size().columns - 2
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False)
