"""For all tests: a folder of settings of their own, where the note on consent has been shown; one core for each."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Side by side (pytest -n 2), each worker and what it starts keep to one core. Read when torch and OpenCV are loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def settings_folder() -> Iterator[Path]:
    """Linux keeps settings in XDG_CONFIG_HOME; processes that tests start have it, too."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", folder)
        note = Path(folder) / "dheads" / "consent-note-shown"
        note.parent.mkdir()
        note.touch()
        yield Path(os.environ["XDG_CONFIG_HOME"])
