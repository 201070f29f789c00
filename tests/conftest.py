"""Fixtures that every wing uses."""

import os
from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"
_WITHOUT = "PYFLOW_WITHOUT_SHARED"


@pytest.fixture(scope="session")
def shared():
    """Folder of reference data and real recordings, which is not part of the project."""
    if not _SHARED.is_dir():
        message = f"no reference data: {_SHARED} does not exist"
        if os.environ.get(_WITHOUT):
            pytest.skip(message)
        pytest.fail(f"{message}; set {_WITHOUT}=1 to skip the tests that need it", pytrace=False)
    return _SHARED
