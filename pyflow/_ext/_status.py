"""What a kernel's status code means in Python."""

_ERRORS = {
    1: (MemoryError, "out of memory"),
    2: (ValueError, "array too small or empty"),
    3: (ValueError, "parameter outside its range"),
}


def check(status, kernel, **values):
    """Raise what ``status`` stands for; who calls a kernel for each level asks whether it is 0 rather than this.

    Parameters
    ----------
    status : int
        Return value of the kernel; 0 is success.
    kernel : str
        Name of the kernel, for the message.
    **values
        Arguments worth naming in the message.

    Raises
    ------
    MemoryError
        The kernel could not allocate its scratch.
    ValueError
        A size or parameter was refused.
    """
    if status == 0:
        return
    kind, reason = _ERRORS[status]
    details = ", ".join(f"{name}={value}" for name, value in values.items())
    raise kind(f"{kernel}: {reason} ({details})")
