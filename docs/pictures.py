"""Makes the pictures of the pages again: ``python docs/pictures.py``, with ``pip install ".[report]"`` and Chromium.

Those of accuracy and speed are made with their tables, by ``python -m bench.report``.
"""

import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from session.chromium import Chromium  # noqa: E402

import pyflow  # noqa: E402
from pyflow.motion.depth import estimate_depth  # noqa: E402
from pyflow.plots import plot_depth  # noqa: E402
from pyflow.session.demo import run_demo  # noqa: E402
from pyflow.simulate import simulate_depth  # noqa: E402


def main() -> None:
    """Run the demo, and take its picture and that of its report; and look for the depth of a recording that drifts."""
    with tempfile.TemporaryDirectory() as folder:
        demo = run_demo(Path(folder) / "pyflow_demo")
        shutil.copy(demo.picture, DOCS / "before_after.png")
        with Chromium(1100, 1960) as browser:
            browser.open(demo.results / "report.html")
            browser.screenshot(DOCS / "report.jpg", whole=False)
    drifting = simulate_depth(n_frames=300, drift_planes=2.0, photons=20)
    registered, _ = pyflow.compensate_arr(drifting.recording.movie, options=pyflow.OFOptions(reference_frames="0:50"))
    plot_depth(estimate_depth(registered, drifting.stack)).savefig(DOCS / "depth.png", dpi=110)


if __name__ == "__main__":
    main()
