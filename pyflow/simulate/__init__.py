"""Two-photon recordings and sessions with known truth.

A scene (somata, processes, neuropil, vessels) is rendered once on a canvas larger than the frame. Frames look at it
through motion that goes on while a frame is scanned, with calcium transients, shot noise and read noise. Every
displacement is known exactly: it is the inverse of the coordinates at which the scene was sampled.

Displacements are backward, in pixels: ``rest(y, x) = frame(y + v, x + u)`` with ``u = w[..., 0]``, ``v = w[..., 1]``.
"""

from pyflow._lazy import lazy

_HOME = {
    "Conditions": "pyflow.simulate.movement",
    "SimulatedDepth": "pyflow.simulate.depth",
    "SimulatedPair": "pyflow.simulate.pairs",
    "SimulatedRecording": "pyflow.simulate.recording",
    "SimulatedSession": "pyflow.simulate.session",
    "endpoint_error": "pyflow.simulate.truth",
    "invert": "pyflow.simulate.truth",
    "jitter": "pyflow.simulate.truth",
    "simulate_depth": "pyflow.simulate.depth",
    "simulate_pair": "pyflow.simulate.pairs",
    "simulate_recording": "pyflow.simulate.recording",
    "simulate_session": "pyflow.simulate.session",
}

__getattr__, __dir__, __all__ = lazy(__name__, _HOME)
