"""Options, how they change, and the file they are kept in."""

import pyflow.compat.pyflowreg  # noqa: F401  isort: skip

import numpy as np
from pydantic import ValidationError
from pyflowreg.motion_correction import ChannelNormalization, OFOptions, OutputFormat, QualitySetting
from pyflowreg.motion_correction.OF_options import ConstancyAssumption, InterpolationMethod, NamingConvention

defaults = OFOptions()
options = OFOptions(
    alpha=2,
    quality_setting=QualitySetting.BALANCED,
    sigma=[1.5, 1.5, 0.3],
    output_format=OutputFormat.TIFF,
    channel_normalization="separate",
    constancy_assumption="census",
    interpolation_method="linear",
    naming_convention="batch",
    reference_frames=np.zeros((8, 9)),
)
assert options.channel_normalization == ChannelNormalization.SEPARATE
assert options.constancy_assumption == ConstancyAssumption.CENSUS
assert options.interpolation_method is InterpolationMethod.LINEAR
assert options.naming_convention.value == NamingConvention.BATCH.value

levels = [options.effective_min_level]
options.min_level = 2
levels += [options.effective_min_level, options.quality_setting.value]
options.min_level = -1
levels += [options.effective_min_level, options.quality_setting.value]

refused = []
for wrong in ({"alpha": -1}, {"alhpa": 2.0}, {"levels": 0}):
    try:
        OFOptions(**wrong)
    except ValidationError as error:
        refused.append(str(error))

options.save_options("saved/options.json")
again = OFOptions.load_options("saved/options.json")
other = options.copy()
other.alpha = 7
