"""Motion correction and session alignment for two-photon imaging."""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "OFOptions": "pyflow.motion.options",
    "compensate_arr": "pyflow.motion.compensate",
    "compensate_recording": "pyflow.motion.compensate",
    "get_displacement": "pyflow.flow.displacement",
    "imregister": "pyflow.flow.warp",
    "imregister_binary": "pyflow.flow.warp",
    "open_video": "pyflow.io",
    "valid_mask": "pyflow.flow.warp",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    """Load a public function when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'pyflow' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])
