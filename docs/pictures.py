"""Makes the pictures of the pages again: ``python docs/pictures.py``, with ``pip install ".[report]"`` and Chromium.

Those of accuracy and speed are made with their tables, by ``python -m bench.report``.
"""

import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests"))

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from session.chromium import Chromium  # noqa: E402

import pyflow  # noqa: E402
from pyflow.motion.depth import estimate_depth  # noqa: E402
from pyflow.plots import plot_depth  # noqa: E402
from pyflow.session.demo import run_demo  # noqa: E402
from pyflow.simulate import simulate_depth, simulate_recording  # noqa: E402


def draw_renewed_reference(path: Path, n_frames: int = 4000) -> None:
    """Draw how far frames lie from where they belong while their reference is renewed, live and in a recording."""
    recording = simulate_recording((64, 64), 250, photons=4, rigid_px=2, nonrigid_px=0.5, jerks=0, seed=5)
    options = pyflow.OFOptions(
        alpha=5, quality_setting="fast", update_reference=True, buffer_size=20, update_initialization_w=False
    )
    times = np.arange(n_frames) % 250
    _, renewed = pyflow.compensate_arr(recording.movie[times], recording.template, options)
    with pyflow.LiveRegistration(options, reference=recording.template, n_first=0, max_latency_ms=None) as live:
        anchored = [live.register(recording.movie[t]).displacement for t in times]
    figure, axes = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
    for label, found in (("made from the last frames", renewed), ("and registered to the first (live)", anchored)):
        off = [
            np.hypot(*(w - recording.displacement_px[t]).mean(axis=(0, 1))) for w, t in zip(found, times, strict=True)
        ]
        ends = range(100, n_frames + 1, 100)
        axes.plot(ends, [np.mean(off[end - 100 : end]) for end in ends], label=label)
    axes.set(xlabel="frame", ylabel="frames lie off by, pixels", ylim=(0, None))
    axes.legend(frameon=False, title="Reference, renewed every 20 frames,")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the demo, and take its picture and that of its report; and look for the depth of a recording that drifts."""
    with tempfile.TemporaryDirectory() as folder:
        demo = run_demo(Path(folder) / "pyflow_demo")
        shutil.copy(demo.picture, DOCS / "before_after.png")
        with Chromium(1100, 1960) as browser:
            browser.open(demo.results / "report.html")
            browser.screenshot(DOCS / "report.jpg", whole=False)
    draw_renewed_reference(DOCS / "live.png")
    drifting = simulate_depth(n_frames=300, drift_planes=2.0, photons=20)
    registered, _ = pyflow.compensate_arr(drifting.recording.movie, options=pyflow.OFOptions(reference_frames="0:50"))
    plot_depth(estimate_depth(registered, drifting.stack)).savefig(DOCS / "depth.png", dpi=110)


if __name__ == "__main__":
    main()
