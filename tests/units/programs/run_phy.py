"""A recording for phy as SpikeInterface exports it, curated with phy's own library: folder to save in."""

import json
import sys
from pathlib import Path

import numpy as np
import spikeinterface.full as si
from phylib.io.model import load_model

if __name__ == "__main__":
    out = Path(sys.argv[1])
    recording, sorting = si.generate_ground_truth_recording(
        durations=[12.0], num_channels=16, num_units=8, sampling_frequency=20000.0, seed=0
    )
    analyzer = si.create_sorting_analyzer(sorting, recording, sparse=True)
    analyzer.compute(["random_spikes", "waveforms", "templates", "noise_levels"])
    si.export_to_phy(
        analyzer, out / "phy", compute_pc_features=False, compute_amplitudes=False, copy_binary=False, verbose=False
    )

    model = load_model(out / "phy" / "params.py")
    clusters = model.spike_clusters.copy()
    ids = np.unique(clusters)
    merged = int(ids.max()) + 1
    clusters[np.isin(clusters, ids[[2, 5]])] = merged
    model.save_spike_clusters(clusters)
    verdicts = {int(i): "good" for i in np.unique(clusters)} | {int(ids[0]): "noise", int(ids[1]): "mua"}
    model.save_metadata("group", verdicts)
    samples = {str(i): np.sort(model.spike_samples[clusters == i]).tolist() for i in np.unique(clusters)}
    (out / "truth.json").write_text(json.dumps({"verdicts": verdicts, "samples": samples}))
