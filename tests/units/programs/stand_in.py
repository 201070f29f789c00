"""Modules that a program imports and the run here does not use."""

import sys
import types
from importlib.machinery import ModuleSpec


class _StandIn(types.ModuleType):
    __version__ = "0"
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *arguments, **options: None})


def stand_in(*names):
    for name in names:
        module = sys.modules[name] = _StandIn(name)
        module.__spec__ = ModuleSpec(name, None)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
