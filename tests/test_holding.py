"""One process holds a place; nothing of it outlives the process."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dheads_cli.errors import DheadsError
from dheads_cli.holding import held

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks of this kind")

HOLDER = """
import sys, time
from pathlib import Path
from dheads_cli.holding import held
with held(Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_what_a_process_holds_is_free_once_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "made" / "place")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(DheadsError, match="by another"), held(tmp_path / "made" / "place", "by another"):
            pass
        process.kill()
        process.wait()
    with held(tmp_path / "made" / "place", "by another"):
        pass


def test_a_file_can_be_held_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    with held(path, ""), pytest.raises(DheadsError, match=r"^by another$"), held(path, "by another"):
        pass
    assert path.read_text() == "content"


def test_who_is_patient_gets_it_when_it_is_free(tmp_path: Path) -> None:
    first = held(tmp_path / "place", "")
    first.__enter__()
    timer = threading.Timer(0.1, lambda: first.__exit__(None, None, None))
    timer.start()
    with held(tmp_path / "place", "by another", patience_s=20):
        pass
    timer.join()


def test_a_folder_that_was_removed_meanwhile_is_held_anew(tmp_path: Path) -> None:
    with held(tmp_path / "place", ""):
        shutil.rmtree(tmp_path / "place")
        with held(tmp_path / "place", "by another"):
            assert (tmp_path / "place").is_dir()
