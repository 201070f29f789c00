"""Single images and fields."""

import pyflow.compat.pyflowreg  # noqa: F401  isort: skip

import numpy as np
import pyflowreg as pfr
from pyflowreg.core import is_backend_available, list_backends
from pyflowreg.core.optical_flow import get_displacement
from pyflowreg.core.warping import (
    align_sequence,
    backward_valid_mask,
    compute_batch_valid_masks,
    imregister_binary,
    imregister_wrapper,
)

movie = np.load("movie.npy").astype(np.float32)
scaled = (movie - movie[0].min()) / np.ptp(movie[0])
settings = {"alpha": (8, 8), "iterations": 30, "levels": 50, "eta": 0.8, "weight": np.array([0.5, 0.5], np.float32)}
w = pfr.get_displacement(scaled[0], scaled[7], **settings)
keyword = get_displacement(fixed=scaled[0], moving=scaled[7], min_level=4, const_assumption="brightness")
warped = imregister_wrapper(scaled[7], w[..., 0], w[..., 1], scaled[0])
grey = imregister_wrapper(scaled[7, ..., 0], w[..., 0], w[..., 1], scaled[0, ..., 0], interpolation_method="linear")

valid = backward_valid_mask(w[..., 0], w[..., 1])
masks = compute_batch_valid_masks(np.stack([w, keyword]))
moved_mask = imregister_binary(valid, w[..., 0], w[..., 1])
aligned = align_sequence(movie[4:8], w, movie[0], n_workers=2)
backends = list_backends()
has_own, has_other = is_backend_available("flowreg"), is_backend_available("nobodys")
