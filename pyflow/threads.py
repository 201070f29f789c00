"""How many threads this process may use.

A forked child has none of its parent's threads, but GNU's OpenMP runtime still counts on them once the parent has run a
parallel kernel: the child's next one would wait for ever. `kernel_threads` therefore gives such a child one thread,
with which a kernel never asks that runtime for others. Results do not depend on the number of threads. Processes that
are spawned (``multiprocessing.set_start_method("spawn")``) run as many as they like.
"""

import os

# The last of SLURM's and of PBS's are set in jobs that asked for nothing in particular.
_VARIABLES = (
    "PYFLOW_NUM_THREADS",
    *("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
    "NSLOTS",
    *("PBS_NP", "NCPUS"),
    "LSB_DJOB_NUMPROC",
)

_parallel_here = False  # this process, or one it was forked from, ran kernels on several threads
_forked_since = False


def _after_fork():
    global _forked_since
    _forked_since = _parallel_here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def available_threads() -> int:
    """Threads this process may use.

    The first of PYFLOW_NUM_THREADS and the schedulers' own variables that is set, else the processors that the
    operating system lets this process run on. Never the number of processors in the machine.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        A variable is set to something that is not a positive whole number.
    """
    for name in _VARIABLES:
        text = os.environ.get(name)
        if text:
            if not text.isdecimal() or int(text) < 1:
                raise ValueError(f"{name}={text!r}: expected a positive whole number")
            return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_threads(n_threads: int) -> int:
    """``n_threads`` itself, or `available_threads` where it is 0.

    Raises
    ------
    ValueError
        ``n_threads`` is negative.
    """
    if n_threads < 0:
        raise ValueError(f"n_threads is {n_threads}, expected 0 (all this process may use) or more")
    return n_threads or available_threads()


def kernel_threads(n_threads: int) -> int:
    """Threads for a kernel: `resolve_threads`, but 1 in a child forked after kernels ran in parallel.

    Raises
    ------
    ValueError
        ``n_threads`` is negative.
    """
    global _parallel_here
    n_threads = resolve_threads(n_threads)
    if _forked_since:
        return 1
    _parallel_here |= n_threads > 1
    return n_threads
