#!/usr/bin/env bash
# Makes environments with the programs whose results are imported as links, some gigabytes in all:
#   bash tests/matchers.sh FOLDER && PYFLOW_MATCHERS=FOLDER pytest tests/units/test_programs.py
# They come without what their results do not depend on: cellpose, torchvision and ROICaT's figures. CellReg, which is
# MATLAB's, is tried in GNU Octave where PYFLOW_CELLREG names a copy of its repository.
set -euo pipefail
torch=${TORCH:-torch}  # TORCH=torch==2.13.0+cpu where there is a build without CUDA

make() {
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet "${@:2}"
}
make "$1/unitmatch" "$torch" UnitMatchPy==3.6.1
make "$1/track2p" track2p==0.6.2
make "$1/imaging" "$torch" fast-hdbscan h5py ipython kornia kymatio mat73 matplotlib natsort numba \
    opencv-contrib-python-headless optuna pandas psutil py-cpuinfo PyYAML requests richfile scikit-image scikit-learn \
    scipy seaborn sparse sparse_convolution tifffile tqdm
"$1/imaging/bin/pip" install --quiet --no-deps roicat==1.7.13 suite2p==1.1.0
make "$1/spikes" phylib spikeinterface
