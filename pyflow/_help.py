"""Classes with many fields, whose help begins with words, and whose errors are words for those who use them."""

import inspect
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Model = TypeVar("Model", bound=type)

KINDS = ("number", "list", "text", "map")
"""Tags of a field's alternatives: they tell pydantic which one was meant, and no user."""


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


class Checked(BaseModel):
    """A model whose errors name fields, causes and values, and lead to no page about pydantic.

    Raises
    ------
    pydantic.ValidationError
        A field is unknown or its value wrong; a `ValueError`.
    """

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _plain(error) from None

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise _plain(error) from None


def in_words(error: ValidationError) -> str:
    """Return field, cause and value of each mistake in one line."""
    mistakes = []
    for item in error.errors():
        where, message = ".".join(map(str, _place(item))), _cause(item)
        found = "" if item["type"] in ("value_error", "missing") else f", found {item['input']!r}"
        mistakes.append(f"{where}: {message}{found}" if where else message)
    return "; ".join(mistakes)


def _plain(error: ValidationError) -> ValidationError:
    """Return an error without pydantic's tags, and with causes of our own kind, which come without an address."""
    mistakes = [
        InitErrorDetails(
            type=PydanticCustomError(item["type"], _cause(item)),
            loc=_place(item),
            input=item["input"],
        )
        for item in error.errors()
    ]
    return ValidationError.from_exception_data(error.title, mistakes)


def _cause(item: Any) -> str:
    if item["type"] == "frozen_instance":
        return "cannot be changed, only copied with other values"
    if item["type"] == "path_type":
        return "Input should be a path"
    return item["msg"].removeprefix("Value error, ")


def _place(item: Any) -> tuple[int | str, ...]:
    return tuple(part for part in item["loc"] if part not in KINDS and "[" not in str(part))  # as in tuple[str]
