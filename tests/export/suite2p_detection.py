"""Run suite2p's own detection on an export and save what it found; test_suite2p.py starts it with suite2p's Python.

Of torch and cellpose, which are gigabytes, this detection uses nothing but names: stand-ins take their place. The run
ends where torch would first be needed, when the cells that were found give their traces.
"""

import os
import sys
import types
from importlib.machinery import ModuleSpec

import numpy as np


class StandIn(types.ModuleType):
    __version__ = "0"
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *arguments: None})


for name in ("torch", "torch.fft", "torch.nn", "torch.nn.functional", "cellpose", "cellpose.metrics"):
    sys.modules[name] = StandIn(name)
    sys.modules[name].__spec__ = ModuleSpec(name, None)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, sys.modules[name])

import suite2p  # noqa: E402


class DetectionIsDoneError(Exception):
    pass


def stop(*arguments, **options):
    raise DetectionIsDoneError


suite2p.pipeline_s2p.extraction.extraction_wrapper = stop

plane = sys.argv[1]
db, settings = (np.load(os.path.join(plane, name), allow_pickle=True).item() for name in ("db.npy", "settings.npy"))
try:
    suite2p.run_plane(db, settings, db_path=os.path.join(plane, "db.npy"))
except DetectionIsDoneError:
    print("detection is done")
