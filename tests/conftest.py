"""For all tests: a folder of settings of their own, where the note on consent has been shown."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def settings_folder() -> Iterator[Path]:
    """Linux keeps settings in XDG_CONFIG_HOME; processes that tests start have it, too."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", folder)
        note = Path(folder) / "dheads" / "consent-note-shown"
        note.parent.mkdir()
        note.touch()
        yield Path(os.environ["XDG_CONFIG_HOME"])
