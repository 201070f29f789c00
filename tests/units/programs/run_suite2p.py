"""suite2p from a .tif to its folder, for each folder named."""

import sys

from stand_in import stand_in

stand_in("cellpose", "cellpose.metrics")
import suite2p  # noqa: E402

for folder in sys.argv[1:]:
    settings = suite2p.default_settings() | {"fs": 15.0, "torch_device": "cpu", "diameter": [10.0, 10.0]}
    settings["run"]["do_registration"] = 0
    settings["detection"]["threshold_scaling"] = 0.5
    suite2p.run_s2p(db={"data_path": [folder], "save_path0": folder}, settings=settings)
