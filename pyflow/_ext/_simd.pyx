"""Which variant of the kernels this process runs."""
import os


cdef extern from "simd.h" nogil:
    int pf_simd_level()

_LEVELS = {"v2": 2, "v3": 3, "v4": 4}


def _choose():
    widest = pf_simd_level()
    wanted = os.environ.get("PYFLOW_SIMD", "auto")
    if wanted == "auto" or widest == 0:
        return widest
    if wanted not in _LEVELS:
        raise ImportError(f"PYFLOW_SIMD={wanted!r}: expected auto, v2, v3 or v4")
    if _LEVELS[wanted] > widest:
        raise ImportError(f"PYFLOW_SIMD={wanted}: this processor runs at most v{widest}")
    return _LEVELS[wanted]


LEVEL = _choose()
"""x86-64 level (2, 3 or 4) of the kernels in use; 0 on other machines."""
