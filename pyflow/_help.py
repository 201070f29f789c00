"""Classes with many fields in words that a person reads: their help, their errors, and how they are shown."""

import difflib
import inspect
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

Class = TypeVar("Class", bound=type)

_FEW = 8  # numbers of an array that are shown
_LONG = 200  # characters of a value that an error shows
_TOLD = "wrong_option"  # of a mistake that is told in our words

KINDS = ("number", "list", "text", "map")
"""Tags of a field's alternatives: they tell pydantic which one was meant, and no user."""


class _ByName(inspect.Signature):
    """Named parameters, with which programs complete what is typed, and which help prints in one word."""

    def format(self, **_: Any) -> str:
        """Return what ``help`` prints behind the name of the class."""
        return "(**options)"

    def __str__(self) -> str:
        return self.format()


def short_help(model: Class) -> Class:
    """Decorate a pydantic model: its help begins with its docstring, not with pages of types."""
    model.__signature__ = _ByName(list(inspect.signature(model).parameters.values()))
    return model


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the one that it resembles, or nothing where none does."""
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""


class Checked(BaseModel):
    """Options that are checked when they are made, and speak of what is wrong in one line."""

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise _told_in_words(error) from None

    # Without it pydantic takes this for a constructor of ours, and calls it for options that are part of others.
    __init__.__pydantic_base_init__ = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self.model_config.get("frozen"):
            message = f"frozen; give {name}= when it is made, or to replace(), which returns a changed copy"
            raise ValidationError.from_exception_data(type(self).__name__, [_told(message, (name,))], hide_input=True)
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise _told_in_words(error) from None

    def __repr_args__(self) -> Any:
        """Show what differs from the defaults."""
        for name, field in type(self).model_fields.items():
            value, usual = getattr(self, name), field.get_default(call_default_factory=True)
            if isinstance(value, np.ndarray) or type(value) is not type(usual) or value != usual:
                yield name, _Shown(value)

    def __str__(self) -> str:
        return repr(self)


def one_line(error: ValidationError) -> str:
    """Return field, cause and value of each mistake, without pydantic's own words around them."""
    told = [(".".join(map(str, item["loc"])), str(item["type"])) for item in map(_in_words, error.errors())]
    return "; ".join(f"{where}: {message}" if where else message for where, message in told)


def _told_in_words(error: ValidationError) -> ValidationError:
    return ValidationError.from_exception_data(error.title, [*map(_in_words, error.errors())], hide_input=True)


def _in_words(item: ErrorDetails) -> InitErrorDetails:
    """Return a mistake that says where it is, what was expected and what was found, and no more."""
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)
    message = "expected a path" if item["type"] == "path_type" else message
    if item["type"] not in ("value_error", "missing", _TOLD):
        found = _shown(item["input"])
        message += f", found {found if len(found) <= _LONG else f'{found[:_LONG]} ...'}"
    where = tuple(part for part in item["loc"] if part not in KINDS and "[" not in str(part))  # as in tuple[str]
    return _told(message, where)


def _told(message: str, where: tuple[int | str, ...]) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(_TOLD, "{words}", {"words": message}), loc=where, input=None)


def short_repr(result: Class) -> Class:
    """Decorate a dataclass: it is shown with the shapes of its arrays, not with their numbers."""

    def show(self: Any) -> str:
        shown = (f"{field.name}={_shown(getattr(self, field.name))}" for field in fields(self) if field.repr)
        return f"{type(self).__name__}({', '.join(shown)})"

    result.__repr__ = show
    return result


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > _FEW:
        return f"<{value.dtype} {value.shape}>"
    if isinstance(value, dict):
        more = [f"... {len(value)} in all"] if len(value) > _FEW else []
        return f"{{{', '.join([f'{key!r}: {_shown(value[key])}' for key in list(value)[:_FEW]] + more)}}}"
    return repr(value)


class _Shown:
    """A value, for a list that shows each by its ``repr``."""

    def __init__(self, value: Any) -> None:
        self._text = _shown(value)

    def __repr__(self) -> str:
        return self._text
