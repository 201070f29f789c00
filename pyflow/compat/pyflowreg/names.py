"""Where pyflowreg's names are at home in pyflow, and what to use instead of those that have no home here."""

import difflib
import sys
import warnings

NAME = "pyflowreg"

_HERE = "pyflow.compat.pyflowreg"
_FLOW, _MOTION, _OPTIONS, _SESSION = (f"{_HERE}.{part}" for part in ("flow", "motion", "options", "session"))
_VIDEO, _LIVE, _WORDS = (f"{_HERE}.{part}" for part in ("video", "live", "words"))

_WARPING = dict.fromkeys(("imregister_wrapper", "align_sequence"), _FLOW) | dict.fromkeys(
    ("imregister_binary", "backward_valid_mask", "compute_batch_valid_masks"), "pyflow.flow.warp"
)
_BACKENDS = dict.fromkeys(
    ("register_backend", "get_backend", "list_backends", "is_backend_available"), f"{_HERE}.backends"
)
_CHOICES = {"OFOptions": _OPTIONS} | dict.fromkeys(
    (
        "OutputFormat",
        "QualitySetting",
        "ChannelNormalization",
        "InterpolationMethod",
        "ConstancyAssumption",
        "NamingConvention",
    ),
    _WORDS,
)
_ARRAY = dict.fromkeys(("compensate_arr", "compensate_pair"), _MOTION)
_RECORDING = dict.fromkeys(("compensate_recording", "BatchMotionCorrector", "RegistrationConfig"), _MOTION)
_FACTORY = dict.fromkeys(("get_video_file_reader", "get_video_file_writer"), _VIDEO)
_BASE = dict.fromkeys(("VideoReader", "VideoWriter"), "pyflow.io")
_MEMORY = {"ArrayReader": _VIDEO, "ArrayWriter": _VIDEO}
_FILES = {
    "hdf5": dict.fromkeys(("HDF5FileReader", "HDF5FileWriter"), _VIDEO),
    "tiff": dict.fromkeys(("TIFFFileReader", "TIFFFileWriter"), _VIDEO),
    "mat": dict.fromkeys(("MATFileReader", "MATFileWriter"), _VIDEO),
    "multifile_wrappers": dict.fromkeys(("MULTICHANNELFileReader", "MULTIFILEFileWriter"), _VIDEO),
}

# Module of pyflowreg -> its public names -> the module of pyflow that has them.
HOME: dict[str, dict[str, str]] = {
    "": {"get_displacement": _FLOW},
    "_runtime": {"RuntimeContext": _MOTION},
    "core": _BACKENDS,
    "core.backend_registry": {**_BACKENDS, "get_backend_executors": f"{_HERE}.backends"},
    "core.optical_flow": {"get_displacement": _FLOW},
    "core.warping": _WARPING,
    "motion_correction": {
        **{name: _CHOICES[name] for name in ("OFOptions", "OutputFormat", "QualitySetting", "ChannelNormalization")},
        "compensate_arr": _MOTION,
        "compensate_recording": _MOTION,
        "BatchMotionCorrector": _MOTION,
        "FlowRegLive": _LIVE,
    },
    "motion_correction.OF_options": _CHOICES,
    "motion_correction.compensate_arr": {**_ARRAY, "OFOptions": _OPTIONS, "RegistrationConfig": _MOTION},
    "motion_correction.compensate_recording": {**_RECORDING, "OFOptions": _OPTIONS},
    "motion_correction.flow_reg_live": {"FlowRegLive": _LIVE},
    "motion_correction.parallelization": {},
    "session": {"SessionConfig": _SESSION},
    "session.cli": {"run_all_stages": _SESSION, "main": "pyflow.session.cli"},
    "session.config": {"SessionConfig": _SESSION, "get_array_task_id": _SESSION},
    "session.stage1_compensate": {
        **dict.fromkeys(("run_stage1", "run_stage1_array", "discover_input_files"), _SESSION),
        **dict.fromkeys(("atomic_save_npy", "atomic_save_npz"), _SESSION),
        "compute_and_save_temporal_average": "pyflow.session.elsewhere",
    },
    "session.stage2_between_avgs": dict.fromkeys(("run_stage2", "compute_between_displacement"), _SESSION),
    "session.stage3_valid_mask": {
        "run_stage3": _SESSION,
        "align_sequence_video": _SESSION,
        "load_idx_and_compute_mask": "pyflow.session.final.masks",
    },
    "util": {},
    "util.io": {
        **_FACTORY,
        **_BASE,
        **_MEMORY,
        "NullVideoWriter": _VIDEO,
        **{name: home for names in _FILES.values() for name, home in names.items()},
    },
    "util.io._arr": _MEMORY,
    "util.io._base": _BASE,
    "util.io._null": {"NullVideoWriter": _VIDEO},
    "util.io.factory": _FACTORY,
    **{f"util.io.{module}": names for module, names in _FILES.items()},
}

# What pyflow has instead of names that have no home here; the longest beginning that fits a name counts.
INSTEAD = {
    "core": "pyflow.get_displacement computes flows, and pyflow.flow has their parts",
    "core.diso_optical_flow": "the DIS flow of OpenCV is none of pyflow's back ends; leave flow_backend at 'flowreg'",
    "core.level_solver": "the solver is compiled, pyflow/_ext/_solver; pyflow.get_displacement solves for a whole flow",
    "core.optical_flow": "the parts of a flow are compiled; pyflow.get_displacement computes a whole one",
    "cuda": "pyflow computes on processors, and on GPUs where a back end for them is installed, see flow_backend",
    "torch": "pyflow computes on processors, and on GPUs where a back end for them is installed, see flow_backend",
    "motion_correction.parallelization": "pyflow registers frames on n_jobs threads; the result does not depend on it",
    "session": "pyflow.session has SessionConfig, run_session, and the stages in modules of the same names",
    "util.download": "pyflow offers no recordings; pyflow.simulate makes some with known motion",
    "util.image_processing": "pyflow.flow.filters has gaussian_filter and median filters",
    "util.io.mdf": "Sutter's MView turns MDF files into TIFF, which pyflow reads",
    "util.io": "pyflow.open_video opens files, arrays and folders; pyflow.io.get_video_file_writer writes them",
    "util.resize_util": "pyflow.flow.filters has resize_planes",
    "util.superresolution_helpers": "scale the image and the field yourself and use pyflow.imregister",
    "util.visualization": "pyflow.plots shows displacements and images",
    "util.xcorr_prealignment": "pyflow.flow.rigid.RigidShift finds the shift of a whole image",
    "z_align": "pyflow.motion.depth estimates depths against a stack; it moves no frames in depth",
}


def explain(name: str) -> str:
    """Say what to use instead of a name of pyflowreg that has no home here."""
    path = name.removeprefix(f"{NAME}.")
    module, _, last = path.rpartition(".")
    known = HOME.get(module, {})
    modules = [other.rpartition(".")[2] for other in HOME if other and other.rpartition(".")[0] == module]
    near = difflib.get_close_matches(last, [*known, *modules], n=1, cutoff=0.75)
    elsewhere = [other for other, names in HOME.items() if last in names]
    steps = path.split(".")
    begun = (".".join(steps[:n]) for n in range(len(steps), 0, -1))
    hint = next((INSTEAD[beginning] for beginning in begun if beginning in INSTEAD), "")
    if path in INSTEAD:
        hint = INSTEAD[path]
    elif near:
        hint = f"did you mean {'.'.join(filter(None, [NAME, module, near[0]]))}?"
    elif elsewhere:
        hint = f"it is in {'.'.join(filter(None, [NAME, elsewhere[0]]))}"
    return f"{name} has no counterpart in pyflow{': ' + hint if hint else ''}; docs/migration.md says what has"


class PyflowregDifference(UserWarning):
    """An option of pyflowreg does here something else than there, or nothing."""


_told: set[str] = set()


def differs(note: str) -> None:
    """Say once in a process what an option, the first words of the note, does here that it does not in pyflowreg."""
    if note not in _told:
        _told.add(note)
        depth, frame = 1, sys._getframe()
        while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("pyflow.", "pydantic.")):
            depth, frame = depth + 1, frame.f_back
        warnings.warn(note, PyflowregDifference, stacklevel=depth)
