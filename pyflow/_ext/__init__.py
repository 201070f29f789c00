"""Bindings of the C kernels in ``csrc``; nothing but argument passing happens here."""

from importlib.util import find_spec

if find_spec("pyflow._ext._simd") is None:
    raise ImportError(
        f"{__path__[0]} holds sources, not the compiled kernels: start Python in another folder (or with -P) to use "
        "the installed pyflow, or build in place with: pip install -e ."
    )
