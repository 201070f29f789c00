"""pyflowreg's words: the values that its options have, and pyflow's words for them."""

from enum import StrEnum

from pyflow.motion.foreign import CONSTANCY_NAMES


class OutputFormat(StrEnum):
    """Formats of a registered movie."""

    TIFF = "TIFF"
    HDF5 = "HDF5"
    MAT = "MAT"
    MULTIFILE_TIFF = "MULTIFILE_TIFF"
    MULTIFILE_MAT = "MULTIFILE_MAT"
    MULTIFILE_HDF5 = "MULTIFILE_HDF5"
    CAIMAN_HDF5 = "CAIMAN_HDF5"
    SUITE2P_TIFF = "SUITE2P_TIFF"
    BEGONIA = "BEGONIA"
    ARRAY = "ARRAY"
    NULL = "NULL"


class QualitySetting(StrEnum):
    """Presets of the finest level that is solved."""

    QUALITY = "quality"
    BALANCED = "balanced"
    FAST = "fast"
    CUSTOM = "custom"


class ChannelNormalization(StrEnum):
    """By whose smallest and largest value a channel is scaled."""

    JOINT = "joint"
    SEPARATE = "separate"


class InterpolationMethod(StrEnum):
    """How frames are interpolated when they are warped."""

    NEAREST = "nearest"
    LINEAR = "linear"
    CUBIC = "cubic"


class ConstancyAssumption(StrEnum):
    """What stays constant along the motion."""

    GRAY = "gray"
    GRADIENT = "gc"
    CENSUS = "cs"


class NamingConvention(StrEnum):
    """What the registered movie is called."""

    DEFAULT = "default"
    BATCH = "batch"


# With a `gnc_schedule`, and no other number.
_WARPING_STEPS = 10


def constancy(word: str) -> str:
    """Return pyflow's word for what stays constant along the motion."""
    return CONSTANCY_NAMES.get(word, str(word))


def warping_steps(given: int | None, gnc_schedule: object) -> int | None:
    """Return how often a level is warped: in pyflowreg a number counts with a `gnc_schedule` only."""
    return None if gnc_schedule is None else given or _WARPING_STEPS
