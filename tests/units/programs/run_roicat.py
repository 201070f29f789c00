"""ROICaT's tracking over suite2p's folders: folder to save in, folder of the recordings.

The weights of its network are downloaded, which is not done here: what the network would say of an ROI is the ROI's own
pixels. The run ends when the results are saved, before the figures.
"""

import sys

from stand_in import stand_in

stand_in("torchvision", "torchvision.transforms", "torchvision.transforms.v2", "torchvision.models")
stand_in("holoviews", "bokeh", "bokeh.plotting", "umap", "romatch", "jupyter_bokeh", "onnx", "onnxruntime", "skl2onnx")
import numpy as np  # noqa: E402
import roicat  # noqa: E402
import torch  # noqa: E402

out, recordings = sys.argv[1:]


class Embedder:
    def __init__(self, *arguments, **options):
        self.params = {}

    def generate_dataloader(self, ROI_images, **options):
        self.ROI_images_rs = np.concatenate(ROI_images).astype(np.float32)

    def generate_latents(self):
        pixels = torch.as_tensor(self.ROI_images_rs.reshape(len(self.ROI_images_rs), -1))
        self.latents = pixels / pixels.norm(dim=1, keepdim=True)


class SavedError(Exception):
    pass


def saved(*arguments, **options):
    raise SavedError


save_once = roicat.util.RichFile_ROICaT.save


def save_in_all_ways(self, obj, overwrite=True):
    if "results_all" in str(self.path):
        for backend, suffix in (("directory", ""), ("sqlar", ".sqlar"), ("zip", ".zip"), ("tar", ".tar")):
            path = f"{out}/mouse.tracking.results_all.richfile{suffix}"
            save_once(roicat.util.RichFile_ROICaT(path=path, backend=backend), obj=obj, overwrite=True)


roicat.ROInet.ROInet_embedder = Embedder
roicat.util.RichFile_ROICaT.save = save_in_all_ways
roicat.tracking.alignment.Aligner.plot_alignment_results_geometric = saved
options = roicat.util.get_default_parameters(pipeline="tracking")
options["general"] |= {"use_GPU": False, "random_seed": 0}
options["data_loading"] |= {"dir_outer": recordings, "reMatch_in_path": "suite2p", "data_kind": "data_suite2p"}
options["data_loading"]["common"]["um_per_pixel"] = 1.5
options["data_loading"]["data_suite2p"]["type_meanImg"] = "meanImg"
options["alignment"]["fit_geometric"]["method"] = "PhaseCorrelation"
options["alignment"]["fit_nonrigid"]["method"] = None
options["clustering"]["mixing_method"] = "manual"
options["results_saving"] |= {"dir_save": out, "prefix_name_save": "mouse"}
try:
    roicat.pipelines.pipeline_tracking(options)
except SavedError:
    print("the results are saved")
