"""Help for those who set options: what ``help`` prints of them, and the name that was meant by a misspelt one."""

import difflib
import inspect
from collections.abc import Iterable
from typing import Any, TypeVar

Model = TypeVar("Model", bound=type)


class _ByName(inspect.Signature):
    """Named parameters, with which programs complete what is typed, and which help prints in one word."""

    def format(self, **_: Any) -> str:
        """Return what ``help`` prints behind the name of the class."""
        return "(**options)"

    def __str__(self) -> str:
        return self.format()


def short_help(model: Model) -> Model:
    """Decorate a pydantic model: its help begins with its docstring, not with pages of types."""
    model.__signature__ = _ByName(list(inspect.signature(model).parameters.values()))
    return model


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the one that it resembles, or nothing where none does."""
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""
