"""pyflowreg's words: the values that its options have, and pyflow's words for them."""

from enum import StrEnum


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


# pyflowreg's word -> pyflow's.
FORMATS = {"SUITE2P_TIFF": "TIFF"}  # both interleave pages of single channels
CONSTANCIES = {"gradient": "gc", "brightness": "gray", "cs": "census"}
TYPES = {"": None}


def constancy(word: str) -> str:
    """Return pyflow's word for what stays constant along the motion."""
    return CONSTANCIES.get(word, str(word))
