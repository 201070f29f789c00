#!/usr/bin/env bash
# Makes an environment with the programs that a session is handed over to:
#   bash tests/handover.sh FOLDER && PYFLOW_HANDOVER_PYTHON=FOLDER/bin/python pytest tests/export
# suite2p comes without torch and cellpose, which are gigabytes and which its detection of cells does not use.
set -euo pipefail
python3 -m venv "$1"
"$1/bin/pip" install --quiet --no-deps suite2p==1.1.0
"$1/bin/pip" install --quiet roiextractors==0.10.0 importlib-metadata natsort numba opencv-python-headless scikit-learn scipy \
    tifffile tqdm
