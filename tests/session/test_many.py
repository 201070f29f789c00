"""What a session of very many recordings may cost."""

import builtins
import os

import h5py
import numpy as np
import pytest
from session.test_memory import session_after_stage2

from pyflow.layout import AVERAGE_FILE, FIELD_FILE, VIDEO_FILE
from pyflow.session import artifacts, cli, run_session, run_stage3, session_status
from pyflow.session.commands import look


def test_status_reads_no_data(config, monkeypatch):
    run_session(config)
    names, real = [], builtins.open

    def noting(file, *arguments, **options):
        names.append(os.path.basename(os.fspath(file)))
        return real(file, *arguments, **options)

    for where in ("builtins.open", "io.open"):
        monkeypatch.setattr(where, noting)
    monkeypatch.setattr(h5py, "File", lambda *arguments: pytest.fail(f"opened {arguments}"))
    recordings, session = session_status(config)
    assert session.done
    assert all(recording.stage1.done and recording.stage2.done for recording in recordings)
    assert {name.partition("_")[0] for name in names} == {"status.json", "session.json", "status"}


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (VIDEO_FILE, "compensated.hdf5 is not as"),
        (AVERAGE_FILE, "temporal_average.npy is not as"),
        ("rec2.tif", "input"),
    ],
)
def test_status_reads_what_was_touched(config, file, reason):
    run_session(config)
    path = config.root / file if file.endswith(".tif") else config.output_root / "rec2" / file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    states = {recording.name: recording.stage1 for recording in session_status(config)[0]}
    assert states["rec1"].done
    assert not states["rec2"].done
    assert reason in states["rec2"].reason


def test_a_touched_file_with_its_content_is_done(config):
    """As after a copy: the time says nothing against the results."""
    run_session(config)
    for folder in config.output_root.iterdir():
        os.utime(folder / VIDEO_FILE, ns=(0, 0))
        os.utime(folder / FIELD_FILE, ns=(0, 0))
    assert session_status(config)[1].done


def test_of_very_many_recordings_those_that_are_not_done_are_shown(config, session, capsys, monkeypatch):
    monkeypatch.setattr(look, "_ROWS", 2)
    assert cli.main([str(session)]) == 0
    np.save(config.output_root / "rec10" / AVERAGE_FILE, np.zeros((3, 3)))
    capsys.readouterr()
    assert cli.main(["status", str(session)]) == 0
    out = capsys.readouterr().out
    assert "│ rec10" in out
    assert "│ rec2" not in out
    assert "stages 1 and 2 of 0 of 3 recordings are done" in out  # stage 2 waits
    assert "stage 1 of rec10: temporal_average.npy has" in out


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A session of more recordings than one would look at, after stage 2."""
    return session_after_stage2(tmp_path_factory.mktemp("many") / "data", 80, 2, (8, 8), align_output_format="HDF5")


def test_status_reads_each_file_once(made_up, monkeypatch):
    read = []
    monkeypatch.setattr(
        artifacts, "_read_status", lambda path, real=artifacts._read_status: read.append(str(path)) or real(path)
    )
    for known in (artifacts._small_markers, artifacts._large_markers):
        known.cache_clear()
    assert all(recording.stage2.done for recording in session_status(made_up)[0])
    assert len(read) < 80 + 10


def test_what_is_written_grows_as_the_recordings_do(made_up, monkeypatch):
    """One status for all would be written anew, and whole, with each aligned video."""
    sizes = {}

    def save_json(path, data, real=artifacts.save_json):
        real(path, data)
        sizes.setdefault(path, []).append(path.stat().st_size)

    monkeypatch.setattr(artifacts, "save_json", save_json)
    run_stage3(made_up)
    assert session_status(made_up)[1].done
    assert sum(map(sum, sizes.values())) < 5 * sum(found[-1] for found in sizes.values())
