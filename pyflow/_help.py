"""Classes with many fields, whose help begins with words."""

import inspect
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
