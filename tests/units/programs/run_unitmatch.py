"""UnitMatchPy on folders of raw waveforms, as its example notebook goes: save_dir, folder, folder ..."""

import sys

import numpy as np
from UnitMatchPy import assign_unique_id, bayes_functions, default_params, overlord, save_utils, utils

save_dir, *folders = sys.argv[1:]
param = default_params.get_default_param()
param["KS_dirs"] = folders
waveforms, labels, positions = utils.paths_from_KS(folders)
param = utils.get_probe_geometry(positions[0], param)
waveform, session_id, session_switch, within, good, param = utils.load_good_waveforms(waveforms, labels, param)
info = {
    "good_units": good,
    "session_switch": session_switch,
    "session_id": session_id,
    "original_ids": np.concatenate(good),
}
properties = overlord.extract_parameters(waveform, positions, info, param)
total, candidates, scores, predictors = overlord.extract_metric_scores(
    properties, session_switch, within, param, niter=2
)
prior = 1 - param["n_expected_matches"] / param["n_units"] ** 2
conditions = np.unique(candidates.astype(int))
kernels = bayes_functions.get_parameter_kernels(scores, candidates.astype(int), conditions, param, add_one=1)
probability = bayes_functions.apply_naive_bayes(kernels, np.array((prior, 1 - prior)), predictors, param, conditions)
probability = probability[:, 1].reshape(param["n_units"], param["n_units"])
utils.evaluate_output(probability, param, within, session_switch, match_threshold=0.5)
matches = probability > 0.5
save_utils.save_to_output(
    save_dir,
    scores,
    np.argwhere(matches),
    probability,
    properties["avg_centroid"],
    properties["avg_waveform"],
    properties["avg_waveform_per_tp"],
    properties["max_site"],
    total,
    matches,
    info,
    param,
    UIDs=assign_unique_id.assign_unique_id(probability, param, info),
)
