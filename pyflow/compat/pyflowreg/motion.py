"""pyflowreg's ways to register movies, and the objects that say how many threads do it."""

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import pyflow
from pyflow.compat.pyflowreg.names import differs
from pyflow.compat.pyflowreg.options import OFOptions
from pyflow.io.writers.many import ArrayWriter
from pyflow.layout import FLOW_FILE

BatchCallback = Callable[[np.ndarray, int, int], None]
Progress = Callable[[int, int], None]

# What pyflowreg calls the file that pyflow calls FLOW_FILE.
FLOW_NAME = "w.h5"

_EXECUTORS = ("sequential", "threading", "multiprocessing")


@dataclass
class RegistrationConfig:
    """How many threads register frames: `n_jobs`, -1 for all; ``"sequential"``: one."""

    n_jobs: int = -1
    verbose: bool = False
    parallelization: str | None = None

    def __post_init__(self) -> None:
        if self.parallelization not in (None, *_EXECUTORS):
            raise ValueError(
                f"parallelization: expected one of {', '.join(_EXECUTORS)}, found {self.parallelization!r}"
            )
        if self.parallelization == "multiprocessing":
            differs("parallelization 'multiprocessing': n_jobs threads of this process work; results are the same")

    @property
    def n_workers(self) -> int:
        """The same as pyflow counts: 0 for all that this process may use."""
        return 1 if self.parallelization == "sequential" else max(self.n_jobs, 0)


def compensate_arr(
    c1: np.ndarray,
    c_ref: np.ndarray,
    options: OFOptions | None = None,
    progress_callback: Progress | None = None,
    *,
    flow_backend: str | None = None,
    backend_params: dict[str, Any] | None = None,
    get_displacement: Callable[..., Any] | None = None,
    get_displacement_factory: Callable[..., Any] | None = None,
    w_callback: BatchCallback | None = None,
    registered_callback: BatchCallback | None = None,
    registration_config: RegistrationConfig | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Register a movie in memory onto an image; see `pyflow.compensate_arr`."""
    options = OFOptions() if options is None else options
    given = {
        "flow_backend": flow_backend,
        "backend_params": backend_params,
        "get_displacement_impl": get_displacement,
        "get_displacement_factory": get_displacement_factory,
    }
    given = {name: value for name, value in given.items() if value is not None}
    options = OFOptions(**{**dict(options), **given}) if given else options
    movie, reference = np.asarray(c1), np.asarray(c_ref)
    single = movie.shape == reference.shape  # one frame stands for a movie of one
    registered, w = pyflow.compensate_arr(
        movie[np.newaxis] if single else movie,
        reference,
        options.to_pyflow(
            input_file=None,
            output_typename=options.output_dtype,
            n_workers=(registration_config or RegistrationConfig()).n_workers,
        ),
        progress=progress_callback,
        on_registered=registered_callback,
        on_displacement=w_callback,
    )
    return (registered[0], w[0]) if single else (registered, w)


def compensate_pair(frame1: np.ndarray, frame2: np.ndarray, options: OFOptions | None = None) -> np.ndarray:
    """Return the displacement (H, W, 2) that registers `frame2` onto `frame1`."""
    return compensate_arr(np.stack([frame1, frame2]), frame1, options)[1][1]


def compensate_recording(
    options: OFOptions, reference_frame: np.ndarray | None = None, config: RegistrationConfig | None = None
) -> np.ndarray:
    """Register a recording, from file to file, and return the raw reference, float64 (H, W, C)."""
    return BatchMotionCorrector(options, config).run(reference_frame)


class BatchMotionCorrector:
    """Registers a recording, from file to file, and calls back after every batch of `OFOptions.buffer_size` frames."""

    def __init__(self, options: OFOptions, config: RegistrationConfig | None = None) -> None:
        self.options = options
        self.config = RegistrationConfig() if config is None else config
        self._progress: list[Progress] = []
        self._displacement: list[BatchCallback] = []
        self._registered: list[BatchCallback] = []
        self.video_writer: ArrayWriter | None = None  # with output_format "ARRAY", after the run

    def register_progress_callback(self, callback: Progress) -> None:
        """Call ``callback(done, total)`` with frames."""
        self._progress.append(callback)

    def register_w_callback(self, callback: BatchCallback) -> None:
        """Call ``callback(w, start, end)`` with the displacements of a batch."""
        self._displacement.append(callback)

    def register_registered_callback(self, callback: BatchCallback) -> None:
        """Call ``callback(frames, start, end)`` with the registered frames of a batch."""
        self._registered.append(callback)

    def run(self, reference_frame: np.ndarray | None = None) -> np.ndarray:
        """Register all frames; return the raw reference, float64 (H, W, C)."""
        options = self.options.to_pyflow(n_workers=self.config.n_workers)
        result = pyflow.compensate_recording(
            options,
            reference=reference_frame,
            progress=_all_of(self._progress),
            on_displacement=_all_of(self._displacement),
            on_registered=_all_of(self._registered),
        )
        if options.save_w:
            name_flow(result.output_path)
        if result.registered is not None:
            self.video_writer = ArrayWriter("frames in memory")
            self.video_writer.write_frames(result.registered)
        reference = result.reference
        return reference if reference.ndim == 3 else reference[..., np.newaxis]


def name_flow(folder: Path) -> None:
    """Give the displacements of a recording pyflowreg's file name as well."""
    link = folder / FLOW_NAME
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(FLOW_FILE)
    except OSError:  # as on Windows, where links that name a file are for administrators
        link.hardlink_to(folder / FLOW_FILE)


def _all_of(callbacks: list[Callable[..., None]]) -> Callable[..., None] | None:
    """Return one function that calls all, or None for none."""

    def call(*given: Any) -> None:
        for callback in callbacks:
            callback(*given)

    return call if callbacks else None


class RuntimeContext:
    """What pyflowreg keeps of the ways to run: settings that scripts read and set, none of which changes a result."""

    _settings: ClassVar[dict[str, Any]] = {
        "available_parallelization": {"sequential", "threading"},
        "available_backends": {"flowreg"},
    }

    @classmethod
    def init(cls, force: bool = False) -> None:
        """Do nothing: there is nothing to prepare."""

    @classmethod
    def get(cls, key: str, default: Any = None) -> Any:
        """Return a setting."""
        return cls._settings.get(key, default)

    @classmethod
    def set(cls, key: str, value: Any, local: bool = False) -> None:
        """Keep a setting."""
        cls._settings = {**cls._settings, key: value}

    @classmethod
    @contextmanager
    def use(cls, **settings: Any) -> Iterator[None]:
        """Keep settings within a ``with`` block."""
        before = cls._settings
        cls._settings = {**before, **settings}
        try:
            yield
        finally:
            cls._settings = before

    @classmethod
    def get_available_parallelization(cls) -> Set[str]:
        """Return the names that `RegistrationConfig.parallelization` may have and that this process has."""
        return {*cls._settings["available_parallelization"]}
