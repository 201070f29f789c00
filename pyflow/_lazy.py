"""Public names that are imported when they are first used, so that importing a package costs nothing."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any


def lazy(
    package: str, home: dict[str, str], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Parameters
    ----------
    package
        Its ``__name__``.
    home
        Public name -> module it is defined in.
    modules
        Public modules of the package, which are found without being imported first.
    """
    public = sorted(home)

    def get(name: str) -> Any:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        dunder = [name for name in vars(sys.modules[package]) if name.startswith("__")]
        return sorted([*dunder, *public, *modules])

    return get, names, public
