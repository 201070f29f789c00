"""Flows that a script computes itself, as pyflowreg calls them, in the form that pyflow calls."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any

import numpy as np

from pyflow.compat.pyflowreg.flow import get_displacement
from pyflow.flow import backends
from pyflow.flow.filters import resize
from pyflow.flow.parameters import FlowParameters

Displacement = Callable[..., np.ndarray]

_EXECUTORS = frozenset({"sequential", "threading", "multiprocessing"})
_factories: dict[str, Callable[..., Displacement]] = {"flowreg": lambda **backend_params: get_displacement}
_executors: dict[str, frozenset[str]] = {"flowreg": _EXECUTORS}


class _Prepared:
    """A reference, and the arguments that are the same for all frames; see `pyflow.flow.backends.Prepared`."""

    def __init__(
        self,
        function: Displacement,
        guard: AbstractContextManager[Any],
        reference: np.ndarray,
        parameters: FlowParameters,
        weight: np.ndarray | None,
    ) -> None:
        self._function, self._guard = function, guard
        self._reference = np.moveaxis(reference, 0, -1).copy()
        names = ("alpha", "update_lag", "iterations", "min_level", "levels", "eta", "a_smooth", "a_data")
        self._arguments = {name: getattr(parameters, name) for name in (*names, "gnc_schedule", "warping_steps")}
        self._arguments["const_assumption"] = {"census": "cs"}.get(
            parameters.const_assumption, parameters.const_assumption
        )
        self._arguments["weight"] = np.moveaxis(weight, 0, -1) if weight is not None and weight.ndim == 3 else weight

    def start(self, field: np.ndarray) -> np.ndarray:
        image = self._reference.shape[:2]
        return field if field.shape[:2] == image else resize(field, image)  # smooth ones may come on a coarser grid

    def estimate(self, frames: np.ndarray, start: np.ndarray | None = None, n_threads: int = 1) -> np.ndarray:
        images = np.moveaxis(frames, 1, -1)
        with self._guard:
            fields = [self._function(self._reference, image, uv=start, **self._arguments) for image in images]
        return np.asarray(fields, np.float32)


class _Called:
    """A function as a back end; see `pyflow.flow.backends.Backend`."""

    device = "cpu"

    def __init__(self, name: str, function: Displacement, *, alone: bool) -> None:
        self.name, self._function = name, function
        self._guard: AbstractContextManager[Any] = Lock() if alone else nullcontext()

    def unsupported(self, parameters: FlowParameters) -> None:
        return None

    def prepare(
        self, reference: np.ndarray, parameters: FlowParameters, *, weight: np.ndarray | None = None
    ) -> _Prepared:
        return _Prepared(self._function, self._guard, reference, parameters, weight)


def register_backend(
    name: str, factory: Callable[..., Displacement], supported_executors: Collection[str] | None = None
) -> None:
    """Make what computes a flow known by a name: ``factory(**backend_params)`` returns the function.

    One that does not support ``"threading"`` is called by one thread at a time.
    """
    executors = _EXECUTORS if supported_executors is None else frozenset(supported_executors)
    _factories[name], _executors[name] = factory, executors

    def create(**backend_params: Any) -> _Called:
        return _Called(name, factory(**backend_params), alone="threading" not in executors)

    backends.register_backend(name, create)


def get_backend(name: str) -> Callable[..., Displacement]:
    """Return what makes the function that computes a flow; a ValueError names those that there are."""
    if name not in _factories:
        raise ValueError(f"no back end {name!r}; registered are {', '.join(sorted(_factories))}")
    return _factories[name]


def get_backend_executors(name: str) -> set[str]:
    """Return how a back end may be called."""
    get_backend(name)
    return set(_executors[name])


def named(given: Callable[..., Any], *, makes: bool) -> str:
    """Register a function, or what `makes` one, under a name of its own, and return that: no other run has it."""
    name = f"{getattr(given, '__qualname__', type(given).__qualname__)} at {id(given):x}"
    if name not in _factories:
        register_backend(name, given if makes else lambda: given)
    return name


def list_backends() -> list[str]:
    """Return the names of what computes flows."""
    return backends.list_backends()


def is_backend_available(name: str) -> bool:
    """Tell whether there is a back end of that name."""
    return name in backends.list_backends()
