"""How a flow is computed: back ends, whole flows by name.

A back end gets a reference and parameters and gives a `Prepared`, which estimates the displacement of any number of
frames. What it gets is checked (`pyflow.flow.displacement.prepare`). "flowreg" is the native one, `pyflow.flow.native`.
To add one, register it:

>>> register_backend("mine", MyBackend)
>>> w = get_displacement(reference, moving, backend="mine", backend_params={"device": "cuda:1"})
"""

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from pyflow.flow.native import NativeBackend
from pyflow.flow.parameters import FlowParameters


class Prepared(Protocol):
    """A reference with everything that is computed once for all frames; safe to use from several threads."""

    def start(self, field: np.ndarray) -> Any:
        """Bring a field to start from into the form that `estimate` takes, once for many frames.

        Parameters
        ----------
        field : ndarray, shape (rows, cols, 2), float32
            Backward displacement in pixels of the images, finite: of their size (H, W) or coarser, down to one cell.
        """

    def estimate(self, frames: np.ndarray, start: Any = None, n_threads: int = 1) -> np.ndarray:
        """Displacements that register frames onto the reference.

        Parameters
        ----------
        frames : ndarray, shape (N, C, H, W), float32
            Finite values.
        start
            The field that all of them start from, as `start` returned it; None: zero.
        n_threads : int
            0: all this process may use. The result does not depend on it.

        Returns
        -------
        ndarray, shape (N, rows, cols, 2), float32
            Backward displacements in pixels of the images, components (u, v) along columns and rows: of the images'
            size (H, W), or where the field is smooth, on a coarser grid over the same area, for
            `pyflow.flow.filters.enlarge_field`.
        """


class Backend(Protocol):
    """A way to compute flows.

    Attributes
    ----------
    name : str
        The name it is registered under.
    device : str
        Where it runs, such as ``"cpu"`` or ``"cuda:0"``.
    """

    name: str
    device: str

    def unsupported(self, parameters: FlowParameters) -> str | None:
        """Why it cannot compute a flow with these parameters; None where it can."""

    def prepare(
        self, reference: np.ndarray, parameters: FlowParameters, *, weight: np.ndarray | None = None
    ) -> Prepared:
        """Do what is done once per reference.

        Parameters
        ----------
        reference : ndarray, shape (C, H, W), float32
            Finite values. A copy is kept, not this array.
        parameters : FlowParameters
            Supported ones, with one `a_data` or one per channel.
        weight : ndarray, shape (C,) or (C, H, W), float32, optional
            Weight of each channel's data term, or a map of it. Equal weights that sum to 1 by default.
        """


_FACTORIES: dict[str, Callable[..., Backend]] = {"flowreg": NativeBackend}


def register_backend(name: str, factory: Callable[..., Backend]) -> None:
    """Make a back end available under a name.

    Parameters
    ----------
    name : str
        What `flow_backend` calls it.
    factory : callable
        Called with the user's ``backend_params`` as keywords, returns a `Backend`; a ValueError for values that it
        cannot use.
    """
    _FACTORIES[name] = factory


def list_backends() -> list[str]:
    """Names of the back ends that there are, sorted."""
    return sorted(_FACTORIES)


def get_backend(name: str, **backend_params: Any) -> Backend:
    """Make the back end of that name.

    Parameters
    ----------
    name : str
    **backend_params
        Parameters of its own.

    Raises
    ------
    ValueError
        There is none of that name (the message lists what there is), or it does not take the parameters.
    """
    if name not in _FACTORIES:
        raise ValueError(f"backend is {name!r}, expected one of {', '.join(list_backends())}")
    factory = _FACTORIES[name]
    try:
        inspect.signature(factory).bind(**backend_params)
    except TypeError as error:
        raise ValueError(f"backend_params of {name!r}: {error}") from None
    return factory(**backend_params)
