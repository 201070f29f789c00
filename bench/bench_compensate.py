"""Movies in memory, against OpenCV's DIS on blurred frames and its remap."""

import numpy as np
import pytest

from pyflow import OFOptions, compensate_arr
from pyflow.simulate import simulate_recording

GROUP = "movie, 30 frames of 256 x 256"


@pytest.fixture(scope="module")
def recording():
    return simulate_recording((256, 256), 30, seed=0)


@pytest.mark.parametrize("quality", ["quality", "balanced", "fast"])
def test_compensate_arr(benchmark, recording, quality, n_threads):
    benchmark.group = GROUP
    options = OFOptions(quality_setting=quality, n_workers=n_threads)
    benchmark.pedantic(
        compensate_arr, (recording.movie, recording.template, options), rounds=3, iterations=1, warmup_rounds=1
    )


def test_opencv(benchmark, recording, cv2):
    benchmark.group = GROUP
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    low, high = np.percentile(recording.template, (0, 99.9))
    rows, columns = np.mgrid[:256, :256].astype(np.float32)

    def prepared(frame):
        scaled = np.clip((frame.astype(np.float32) - low) / (high - low) * 255, 0, 255)
        return cv2.GaussianBlur(scaled, (0, 0), 1.5).astype(np.uint8)

    def register():
        reference = prepared(recording.template)
        for frame in recording.movie:
            w = dis.calc(reference, prepared(frame), None)
            cv2.remap(frame, columns + w[..., 0], rows + w[..., 1], cv2.INTER_CUBIC)

    benchmark.pedantic(register, rounds=3, iterations=1, warmup_rounds=1)
