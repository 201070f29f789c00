"""Pickled objects in .npy files are data or are refused."""

import datetime
import os
import pathlib
import pickle
import re
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from pyflow.io.unpickle import UnsafePickleError, load_npy
from pyflow.units.incoming.matchers import read_caiman
from pyflow.units.unit_table import TableError


def save(path, content):
    np.save(path, content, allow_pickle=True)
    return path


def save_pickle(path, text):
    """A .npy file of one object whose pickle is `text`."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        file.write(text)
    return path


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_suite2p_like_content_survives(tmp_path):
    rng = np.random.default_rng(0)
    stat = np.empty(3, dtype=object)
    for roi in range(3):
        stat[roi] = {
            "ypix": rng.integers(0, 9, 5),
            "lam": rng.random(5, dtype=np.float32),
            "overlap": np.array([True, False]),
            "med": [np.int64(3), 4.5],
            "skew": np.float32(0.25),
            "npix": 5,
            "soma": np.bool_(True),
            "words": ("a", None, True, 2**70, 1j),
            "names": np.array(["x", "yz"]),
            "fortran": np.asfortranarray(rng.random((2, 3))),
            "big_endian": np.arange(3, dtype=">i4"),
            "nested": np.array([{"a": 1}, None], dtype=object),
        }
    found = load_npy(save(tmp_path / "stat.npy", stat))
    assert type(found) is np.ndarray
    for mine, theirs in zip(found, stat, strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine:
            np.testing.assert_array_equal(mine[key], theirs[key])
            if isinstance(theirs[key], np.ndarray):
                assert mine[key].dtype == theirs[key].dtype.newbyteorder("=")  # numpy's own loader swaps as well
            else:
                assert type(mine[key]) is type(theirs[key])


def test_options_with_dates_and_paths(tmp_path):
    options = {
        "fs": 30.0,
        "date_proc": datetime.datetime.now().astimezone(),
        "data_path": [pathlib.PurePosixPath("/data/day 1")],
        "meanImg": np.ones((2, 2), np.float32),
    }
    found = load_npy(save(tmp_path / "ops.npy", options)).item()
    assert found["fs"] == 30.0
    assert found["date_proc"] is None
    assert found["data_path"] == ["/data/day 1"]
    np.testing.assert_array_equal(found["meanImg"], options["meanImg"])


def test_a_matrix_with_holes(tmp_path):
    matrix = np.array([[0, 3], [None, 1]], dtype=object)
    np.testing.assert_array_equal(load_npy(save(tmp_path / "m.npy", matrix)), matrix)


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_old_and_new_names_in_numpy(tmp_path, module):
    array = np.array([{"a": np.arange(3), "b": np.float32(2)}], dtype=object)
    content = pickle.dumps(array, protocol=3)  # which has no lengths of names, so that they can be exchanged
    content = re.sub(rb"numpy\._?core\.multiarray", module.encode(), content)
    found = load_npy(save_pickle(tmp_path / "a.npy", content))[0]
    np.testing.assert_array_equal(found["a"], np.arange(3))
    assert found["b"] == np.float32(2)


def test_numbers_may_be_mapped(tmp_path):
    path = save(tmp_path / "F.npy", np.arange(6.0).reshape(2, 3))
    assert isinstance(load_npy(path, mmap=True), np.memmap)
    np.testing.assert_array_equal(load_npy(path), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("touch {mark}",), f"{os.system.__module__}.system"),
        (subprocess.Popen, (["touch", "{mark}"],), "subprocess.Popen"),
        (eval, ("open('{mark}', 'w')",), "builtins.eval"),
        (exec, ("open('{mark}', 'w')",), "builtins.exec"),
        (getattr, (1, "real"), "builtins.getattr"),
        (open, ("{mark}", "w"), f"{open.__module__}.open"),
        (np.load, ("{mark}",), "numpy.load"),
        (np.fromfile, ("{mark}",), "numpy.fromfile"),
        (sys.exit, (), "sys.exit"),
        (time.sleep, (60,), "time.sleep"),
    ],
)
def test_calls_are_refused(tmp_path, function, arguments, named):
    mark = tmp_path / "mark"
    fill = lambda a: a.format(mark=mark) if isinstance(a, str) else a  # noqa: E731
    arguments = [[fill(b) for b in a] if isinstance(a, list) else fill(a) for a in arguments]
    path = save(tmp_path / "stat.npy", np.array([{"ypix": Call(function, *arguments)}], dtype=object))
    with pytest.raises(UnsafePickleError, match="nothing was executed") as caught:
        load_npy(path)
    assert caught.value.path == path
    assert caught.value.named == named
    assert str(path) in str(caught.value)
    assert named in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("dtype", [[("a", "O")], [("a", "f8")], "M8[s]", "V8"])
def test_arrays_of_other_kinds_are_refused(tmp_path, dtype):
    path = save(tmp_path / "a.npy", np.array([{"a": np.zeros(2, dtype)}], dtype=object))
    with pytest.raises(ValueError, match=r"a\.npy.*expected numbers, text or objects"):
        load_npy(path)


class State:
    """Pickles as an object with a state, which may be a lie."""

    def __init__(self, rebuild, arguments, state):
        self.reduced = (rebuild, arguments, state)

    def __reduce__(self):
        return self.reduced


def array_of(state):
    rebuild, arguments, _ = np.zeros(0).__reduce__()
    return State(rebuild, arguments, state)


@pytest.mark.parametrize(
    ("shape", "dtype", "data"),
    [
        ((250,), np.dtype(object), [1, 2, 3]),
        ((1,), np.dtype(object), b"\x41" * 8),
        ((3,), np.dtype("f8"), b"\x41" * 8),
        ((1,), np.dtype("f8"), "\x41" * 8),
        ((-1,), np.dtype("f8"), b""),
        ((2**40, 2**40), np.dtype("f8"), b""),
        ((1,), "f8", b"\x41" * 8),
    ],
)
def test_states_that_lie_are_refused(tmp_path, shape, dtype, data):
    """numpy itself would read beyond the list, or take bytes of the file for pointers."""
    path = save_pickle(tmp_path / "a.npy", pickle.dumps(array_of((1, shape, dtype, False, data))))
    with pytest.raises(ValueError, match=r"a\.npy: .*damaged pickle.*an array of shape"):
        load_npy(path)


def test_a_dtype_that_hides_its_objects_is_seen_through(tmp_path):
    rebuild, arguments, state = np.dtype(object).__reduce__()
    lie = State(rebuild, arguments, (*state[:-1], 0))
    path = save_pickle(tmp_path / "a.npy", pickle.dumps(array_of((1, (1,), lie, False, b"\x41" * 8))))
    with pytest.raises(ValueError, match="content of another size or kind"):
        load_npy(path)


def test_damage_anywhere_is_survived(tmp_path):
    """Flipped bytes give an array or an error; numpy's own loader may crash the process on them."""
    content = np.array([{"a": np.arange(5), "b": np.array([{}, None])}, {"c": np.float32(3), "d": ("x", 1.5)}])
    whole = save(tmp_path / "a.npy", content).read_bytes()
    opcodes = sorted(set(range(256)) - set(b"r\x96"))  # those two make Python itself ask for gigabytes
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(2000):
        damaged = bytearray(whole)
        damaged[rng.integers(128, len(whole))] = rng.choice(opcodes)
        (tmp_path / "b.npy").write_bytes(damaged)
        try:
            load_npy(tmp_path / "b.npy")
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 500
    assert all("b.npy" in message for message in messages)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable .npy file"),
        (b"not numpy at all", "not a readable .npy file"),
        (None, "damaged pickle"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "stat.npy"
    if content is None:
        content = save(path, np.array([{"a": np.arange(1000)}], dtype=object)).read_bytes()[:-700]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_npy(path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_npy(tmp_path / "none.npy")


def test_a_header_that_promises_more_than_the_file_holds(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000,), }".ljust(117) + b"\n"
    path = tmp_path / "large.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(80))
    with pytest.raises(ValueError, match=r"large\.npy: not a readable .*800000000000000 bytes.* 80"):
        load_npy(path)
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive:
        archive.write(path, "assignments.npy")
    with pytest.raises(TableError, match=r"large\.npz: no array of assignments: .*800000000000000 bytes.* 80"):
        read_caiman(tmp_path / "large.npz", ["a", "b"])
