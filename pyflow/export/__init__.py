"""Hand a session's results over to the next program: suite2p, CaImAn, NWB."""

from pyflow._lazy import lazy

_HOME = {
    "load_session": "pyflow.export.source",
    "to_caiman": "pyflow.export.caiman",
    "to_nwb": "pyflow.export.nwb",
    "to_suite2p": "pyflow.export.suite2p",
}

__getattr__, __dir__, __all__ = lazy(__name__, _HOME)
