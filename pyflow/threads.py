"""How many threads this process may use."""

import os

_VARIABLES = ("PYFLOW_NUM_THREADS", "SLURM_CPUS_PER_TASK", "NSLOTS", "PBS_NP", "LSB_DJOB_NUMPROC")


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
