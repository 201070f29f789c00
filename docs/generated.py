"""Pages that are made from the code: the directives ``fields`` (a checked set of options) and ``command`` (argparse).

They write reStructuredText, so that what they say is indexed, linked and searched like any other text.
"""

import argparse
import inspect
import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
from docutils import nodes
from docutils.statemachine import StringList
from numpydoc.docscrape import NumpyDocString
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

from pyflow.io import VideoReader
from pyflow.motion.option_types import can_change_result

# How Sphinx writes an alias of a type (autodoc_type_aliases) that stands beside others.
_ALIAS = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")

UNIT = re.compile(r"\s*Unit: ([^.]+)\.$")
WORDS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    dict: "table",
    NoneType: "none",
    np.ndarray: "array",
    VideoReader: "open reader",
    Callable: "function",
}


def kind(annotation: Any, constraints: tuple[Any, ...] = ()) -> str:
    """Say in words what values a field takes."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(inner[0], (*constraints, *inner[1:]))
    if origin in (Union, UnionType):
        *first, last = (kind(part) for part in inner)
        return f"{', '.join(first)} or {last}"
    if origin is Literal:
        *first, last = (f"``{json.dumps(value)}``" for value in inner)
        return f"{', '.join(first)} or {last}" if first else last
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return f"list of {several(inner[0])}"
        return f"{len(inner)} {several(inner[0])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"table of `{annotation.__name__}`"
    return WORDS[origin or annotation] + bounds(constraints)


def several(annotation: Any) -> str:
    """Say the same of more than one."""
    return re.sub(r"^(whole number|number|path|text)", r"\1s", kind(annotation))


def bounds(constraints: tuple[Any, ...]) -> str:
    """Say from where to where a number goes."""
    flat = [each for item in constraints for each in (item.metadata if isinstance(item, FieldInfo) else [item])]
    found = {name: getattr(item, name) for item in flat for name in ("ge", "gt", "le", "lt") if hasattr(item, name)}
    words = {"ge": "from {:g}", "gt": "above {:g}", "le": "to {:g}", "lt": "below {:g}"}
    return "".join(f" {text.format(found[name])}" for name, text in words.items() if found.get(name) is not None)


def facts(field: FieldInfo, unit: str | None) -> Iterator[str]:
    """Lines about a field: what it takes, in which unit, and what it is where it is not given."""
    yield kind(field.annotation, tuple(field.metadata)) + (f", in {unit}" if unit else "")
    if field.is_required():
        yield "must be given"
    else:
        value = field.get_default(call_default_factory=True)
        value = {} if isinstance(value, BaseModel) else str(value) if isinstance(value, Path) else value
        yield "default: none" if value is None else f"default: ``{json.dumps(value)}``"
    if not can_change_result(field):
        yield "changes no number in the result"


def described(model: type[BaseModel]) -> Iterator[tuple[list[str], list[str]]]:
    """Names and paragraphs of a model's fields, as its docstring has them; one text may be about several."""
    found = NumpyDocString(inspect.getdoc(model))["Parameters"]
    said = [name for item in found for name in item.name.split(", ")]
    if missing := set(model.model_fields) ^ set(said):
        raise ValueError(f"{model.__name__}: its docstring and its fields differ in {', '.join(sorted(missing))}")
    for item in found:
        yield item.name.split(", "), item.desc


class Written(SphinxDirective):
    """A directive that writes reStructuredText about something in the package."""

    required_arguments = 1

    def parsed(self, lines: list[str]) -> list[nodes.Node]:
        """Parse what was written."""
        node = nodes.section()
        node.document = self.state.document
        nested_parse_with_titles(self.state, StringList(lines, self.arguments[0]), node)
        return node.children


class Fields(Written):
    """Every field of a pydantic model: type, default, unit and what it does."""

    def run(self) -> list[nodes.Node]:
        """Write the fields in the order of the docstring."""
        module, _, name = self.arguments[0].rpartition(".")
        model = getattr(import_module(module), name)
        found = []
        for names, text in described(model):
            unit = UNIT.search(text[-1])
            text = [*text[:-1], UNIT.sub("", text[-1])]
            about = {field: [*facts(model.model_fields[field], unit and unit[1])] for field in names}
            if len(names) > 1:
                about = {field: [f"``{field}``: {'; '.join(about[field])}"] for field in names}
            lines = [f".. py:attribute:: {names[0]}", *(f"                  {name}" for name in names[1:]), ""]
            lines += [f"   | {line}" for field in names for line in about[field]] + [""]
            self.env.ref_context |= {"py:module": module, "py:class": name}  # each directive takes it away at its end
            found += self.parsed([*lines, *(f"   {line}" for line in text), ""])
        self.env.ref_context.pop("py:module")
        self.env.ref_context.pop("py:class", None)
        return found


class Command(Written):
    """A command and its subcommands, as their argparse parser knows them."""

    def run(self) -> list[nodes.Node]:
        """Write the command, then each subcommand below a heading of its own."""
        parser = import_module(self.arguments[0])._parser()
        lines = self.written(parser)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                helps = {choice.dest: choice.help for choice in action._choices_actions}
                for name, command in action.choices.items():
                    title = f"{parser.prog} {name}"
                    lines += [title, "-" * len(title), "", *self.written(command, helps.get(name))]
        return self.parsed(lines)

    @staticmethod
    def written(parser: argparse.ArgumentParser, help: str | None = None) -> list[str]:
        """Write a parser's description, usage and arguments."""

        def plain(text: str) -> str:
            return re.sub(r"([*`|\\]|_\b)", r"\\\1", text)

        def block(text: str) -> list[str]:
            return [".. code-block:: text", "", *(f"   {line}" for line in text.rstrip().splitlines()), ""]

        def prose(text: str | None) -> list[str]:
            raw = issubclass(parser.formatter_class, argparse.RawDescriptionHelpFormatter)
            if not raw:
                return [plain(text), ""] if text else []
            paragraphs = (text or "").split("\n\n")  # what a terminal is told of options has a page of its own here
            known = [paragraph for paragraph in paragraphs if paragraph and not paragraph.startswith("keys of ")]
            return [line for each in known for line in (block(each) if "\n" in each else [plain(each), ""])]

        parser.formatter_class = type("Wide", (parser.formatter_class,), {"__init__": wide})
        usage = parser.format_usage().removeprefix("usage: ")
        text = parser.description or f"{help[0].upper()}{help[1:]}."
        lines = [f".. program:: {parser.prog}", "", *prose(text), *block(usage)]
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
                continue
            value = parser._get_formatter()._format_args(action, action.metavar or action.dest.upper())
            if action.option_strings:
                written = ", ".join(f"{name} {value}".strip() for name in action.option_strings)
            else:
                written = action.metavar or action.dest
            help = action.help or (f"one of {', '.join(map(str, action.choices))}" if action.choices else "")
            lines += [f".. option:: {written}", "", f"   {plain(help)}", ""]
        return lines + prose(parser.epilog)


def wide(self: argparse.HelpFormatter, *given: Any, **named: Any) -> None:
    """Make a formatter whose lines do not depend on the terminal of whoever builds the site."""
    super(type(self), self).__init__(*given, **{**named, "width": 80})


def without_fields(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Leave the fields of a model to the page of options, which has all of them."""
    if what == "class" and issubclass(thing, BaseModel):
        start = lines.index("Parameters")
        end = next((i for i, line in enumerate(lines) if i > start + 1 and line.startswith("---")), len(lines) + 1) - 1
        lines[start:end] = ["Its fields are in :doc:`the options </reference/options>`.", ""]


def without_types(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """Write the signature of a model as ``help`` does, and an alias of a type by its name beside None, too."""
    if what == "class" and issubclass(thing, BaseModel):
        return str(inspect.signature(thing)), ""
    return _ALIAS.sub(r"\1", signature or "") or None, returns


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("fields", Fields)
    app.add_directive("command", Command)
    app.connect("autodoc-process-docstring", without_fields, priority=100)  # before numpydoc
    app.connect("autodoc-process-signature", without_types)
    return {"parallel_read_safe": True}
