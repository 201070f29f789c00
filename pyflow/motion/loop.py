"""The frame loop without files: frames in, in order, registered frames out.

1. Each frame gets its neighbours in time for the filter; the recording is mirrored at its ends.
2. The first frames are registered for the first starting displacement.
3. The frames of a batch (`buffer_size`) are registered to the same template, from the same starting displacement;
   neighbours inform each other.
4. From a batch's last frames come the next batch's start and, with `update_reference`, its template.

Sums are made in the order of the frames, and all that the loop knows is in its `LoopState`, whole after every frame:
the result depends neither on the number of threads nor on where the loop was interrupted.

Of frames that come from a microscope (`live`) none can wait for those after it: each is registered as if it were the
recording's last.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from itertools import chain, islice

import numpy as np

from pyflow.motion.options import OFOptions
from pyflow.motion.preprocess import Preprocessor
from pyflow.motion.register import FrameRegistration, RegisteredFrame
from pyflow.motion.state import LoopState, RunningMean
from pyflow.motion.states import StateRegistration, registration
from pyflow.motion.streams import ordered_map, surrounded, windows

# As Flow-Registration: how many frames the first starting displacement is made from; how many at the end of a
# batch the next (all of them in a batch of at most _SHORT_BATCH), and how many the next template.
_FIRST_FRAMES = 22
_LAST_FRAMES = 21
_SHORT_BATCH = 100
_TEMPLATE_FRAMES = 101


class FrameLoop:
    """Registers the frames of a recording, whose number need not be known.

    Parameters
    ----------
    state
        Where to go on; brought up to date with every frame that is returned.
    options
        How; the smoothness is the state's.
    frame_dtype, dtype
        Data types of the frames and of the registered frames.
    workers
        Where frames are registered.
    ahead
        How many frames are registered beyond the one that is returned; 0, for frames that only come one by one: none.
    live
        No frame waits for those after it, not for a start either (see `start_from`). With `update_reference` each new
        template is registered to the first, so that it does not drift, however long frames come; and what the state
        knows of single frames is forgotten at the end of a batch; after one of which no frame was registered, the next
        frames start as the first ones.
    """

    def __init__(
        self,
        state: LoopState,
        options: OFOptions,
        frame_dtype: np.dtype,
        dtype: np.dtype,
        workers: Executor,
        ahead: int,
        live: bool = False,
    ) -> None:
        self._state = state
        self._options = options.with_alpha(tuple(state.alpha))
        self._dtype = dtype
        self._workers = workers
        self._ahead = ahead
        self._live = live
        self._preprocess = Preprocessor(state.reference, self._options, frame_dtype)
        self._template = state.template
        self._register = self._first = self._registration()
        self._outdated = False
        # frames come for ever, and a template of few would be noise: then it waits for those of the next batch
        self._enough = max(min(options.buffer_size, _TEMPLATE_FRAMES) // 2, 1) if live else 1

    @property
    def first_frame(self) -> int:
        """Index of the first frame that `register` has to be given: some before the state's next."""
        return max(self._state.frames_done - self._again - self._preprocess.radius, 0)

    @property
    def batch_ended(self) -> bool:
        """Whether the frame that was returned last is a batch's last."""
        return self._done_of_batch == 0

    @property
    def _done_of_batch(self) -> int:
        return self._state.frames_done % self._options.buffer_size

    @property
    def _again(self) -> int:
        """How many frames of this batch that are done must be looked at again, because they inform the next."""
        return min(self._done_of_batch, self._register.radius)

    def _registration(self) -> FrameRegistration | StateRegistration:
        state = self._state
        references = [state.reference, *state.others]
        limits = float(state.noise_px), float(state.misfit_limit)
        return registration(state.template, references, self._preprocess, self._options, self._dtype, *limits)

    def register(self, frames: Iterable[np.ndarray]) -> Iterator[RegisteredFrame]:
        """Register frames.

        Parameters
        ----------
        frames
            The recording's, raw, each (H, W, C), from `first_frame` on. No more are taken than `ahead` and the
            neighbours in time need.

        Yields
        ------
        RegisteredFrame
            The frame after those that are done. The state already counts it.
        """
        state, again = self._state, self._again
        radius, wait = self._preprocess.radius, not self._live
        pending = windows(frames, radius, self.first_frame, state.frames_done - again, wait)
        if wait and state.frames_done == 0 and self._options.update_initialization_w:
            first = list(islice(pending, _FIRST_FRAMES))
            self._start_from(first)
            pending = chain(first, pending)
        while (window := next(pending, None)) is not None:
            rest = self._options.buffer_size - self._done_of_batch + again - 1
            for result in islice(self._registered(chain([window], islice(pending, rest))), again, None):
                self._take(result)
                yield result
            again = 0

    def start_from(self, frames: Iterable[np.ndarray]) -> None:
        """Find the first starting displacement, where there is one, in frames that are not counted.

        Parameters
        ----------
        frames
            The recording's first, raw, each (H, W, C).
        """
        if self._options.update_initialization_w:
            self._start_from(list(islice(windows(frames, self._preprocess.radius), _FIRST_FRAMES)))

    def renew(self) -> bool:
        """Prepare the template that a batch left, before the next frame is there; return whether it left one."""
        outdated, self._outdated = self._outdated, False
        if outdated:
            if self._live:
                self._state.template = self._first.onto_template(self._state.template)
            self._register = self._registration()
        return outdated

    def _registered(self, batch: Iterable[list[np.ndarray]]) -> Iterator[RegisteredFrame]:
        self.renew()
        register = self._register
        estimate = partial(register.estimate, start=register.start(self._state.start))
        estimates = ordered_map(self._workers, estimate, batch, self._ahead)
        estimates = surrounded(estimates, register.radius, wait=not self._live)
        return ordered_map(self._workers, register.finish, estimates, self._ahead)

    def _start_from(self, first: list[list[np.ndarray]]) -> None:
        mean = RunningMean(np.zeros(self._state.start.shape))
        for result in self._registered(first):
            if not result.problem:
                mean.add(result.residual)
        self._state.start = mean.take(self._state.start)

    def _take(self, result: RegisteredFrame) -> None:
        """Count a frame in; after a batch's last, make what the next starts from."""
        state, size = self._state, self._options.buffer_size
        state.add(result)
        left = -state.frames_done % size
        if not result.problem:
            if self._options.update_initialization_w and left < (_LAST_FRAMES if size > _SHORT_BATCH else _SHORT_BATCH):
                state.next_start.add(result.residual)
            if self._options.update_reference and left < _TEMPLATE_FRAMES:
                state.next_template.add(result.filtered)
        if left == 0:
            state.start = state.next_start.take(state.start)
            if self._options.update_reference and state.next_template.count >= self._enough:
                state.template = state.next_template.take(state.template)
                self._outdated = True
            if self._live:
                if state.problem[: state.frames_done].all():
                    self._begin_again()
                state.forget_frames()

    def _begin_again(self) -> None:
        """Give up what the frames so far have left: where none of a batch is registered, it may have led astray."""
        state = self._state
        state.start, state.template = np.zeros_like(state.start), self._template
        state.next_template.take(state.template)
        self._register, self._outdated = self._first, False
