"""track2p over suite2p's folders: folder to save in, threshold of iscell or "curated", recordings."""

import sys

import matplotlib

matplotlib.use("agg")
from track2p.ops.default import DefaultTrackOps
from track2p.t2p import run_t2p

options = DefaultTrackOps()
options.save_path, threshold, *options.all_ds_path = sys.argv[1:]
options.iscell_thr = None if threshold == "curated" else float(threshold)
run_t2p(options)
