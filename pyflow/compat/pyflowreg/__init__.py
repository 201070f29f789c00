"""Runs scripts that were written for pyflowreg.

``import pyflow.compat.pyflowreg``, on top of a script, makes ``import pyflowreg`` and all of its documented modules
mean pyflow, with pyflowreg's names, defaults and file names. docs/migration.md says what maps to what, and what
differs on purpose. Nothing is computed here: `HOME` says where a name is found, and what is found there translates it.
"""

import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from pyflow import __version__
from pyflow._lazy import lazy
from pyflow.compat.pyflowreg.names import HOME, NAME, explain
from pyflow.compat.pyflowreg.names import PyflowregDifference as PyflowregDifference


class _Refusal:
    """Says, at the end of Python's search for a module of pyflowreg, what to use where pyflow has none of that name."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname.startswith(f"{NAME}."):
            raise ModuleNotFoundError(explain(fullname))


def _module(name: str, home: dict[str, str]) -> ModuleType:
    """Return a module whose names are imported from where they are at home when they are first used."""
    module = ModuleType(name, f"pyflow under the names of {name}")
    module.__spec__ = ModuleSpec(name, None, origin=__file__, is_package=True)
    module.__path__ = []  # as of a package: so Python asks `_Refusal` for what is missing
    get, module.__dir__, module.__all__ = lazy(name, home)

    def known(attribute: str) -> Any:
        if attribute not in home:
            raise AttributeError(explain(f"{name}.{attribute}"))
        return get(attribute)

    module.__getattr__ = known
    return module


def _install() -> None:
    """Put pyflow in pyflowreg's place, for this process.

    Raises
    ------
    ImportError
        pyflowreg itself is in use already: parts of two packages must not be mixed.
    """
    before = sys.modules.get(NAME)
    again = before is not None and getattr(before.__spec__, "origin", None) == __file__  # as notebooks load it anew
    if before is not None and not again:
        raise ImportError(
            f"{NAME} itself is already imported, from {getattr(before, '__file__', 'elsewhere')}: put "
            f"'import {__name__}' above its first import, or leave it out"
        )
    installed = None if again else importlib.util.find_spec(NAME)
    if installed is not None:
        warnings.warn(
            f"{NAME} is installed as well ({installed.origin or 'a folder'}) and is not used: from here on, "
            f"'import {NAME}' means pyflow {__version__}. Without 'import {__name__}', it means {NAME} again",
            stacklevel=3,
        )
    modules = {".".join([NAME, *path.split(".")] if path else [NAME]): home for path, home in HOME.items()}
    for name, home in modules.items():
        sys.modules[name] = _module(name, home)
    for name in modules:
        parent, _, child = name.rpartition(".")
        if parent and child not in modules[parent]:  # a function goes before the module of its name, as it does there
            setattr(sys.modules[parent], child, sys.modules[name])
    sys.modules[NAME].__version__ = __version__
    sys.meta_path.append(_Refusal)


_install()
