"""Bindings of the C kernels in ``csrc``; nothing but argument passing happens here."""
