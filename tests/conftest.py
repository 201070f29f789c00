"""Fixtures that every wing uses."""

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared():
    """Folder of reference data and real recordings, which is not part of the project."""
    if not _SHARED.is_dir():
        pytest.skip(f"no reference data: {_SHARED} does not exist")
    return _SHARED
