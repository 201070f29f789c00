"""Real averages."""

import imagecodecs
import numpy as np
import pytest


@pytest.fixture(scope="session")
def six_days(shared):
    """Mean images of one field of view on six days."""
    folder = shared / "data" / "allen_six_days"
    return [imagecodecs.png_decode((folder / f"day{n}.png").read_bytes()).astype(np.float32) for n in range(1, 7)]
