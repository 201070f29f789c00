"""Motion correction and session alignment for two-photon imaging."""

from pyflow._lazy import lazy

__version__ = "0.1.0"

_HOME = {
    "LiveRegistration": "pyflow.motion.live",
    "OFOptions": "pyflow.motion.options",
    "apply_displacement": "pyflow.motion.apply",
    "compensate_arr": "pyflow.motion.compensate",
    "compensate_recording": "pyflow.motion.compensate",
    "get_displacement": "pyflow.flow.displacement",
    "imregister": "pyflow.flow.warp",
    "imregister_binary": "pyflow.flow.warp",
    "open_video": "pyflow.io",
    "valid_mask": "pyflow.flow.warp",
}

_MODULES = ("export", "flow", "io", "motion", "plots", "session", "simulate", "units")

__getattr__, __dir__, __all__ = lazy(__name__, _HOME, _MODULES)
