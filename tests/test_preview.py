"""What is seen of a video while it is drawn: half blocks in a terminal, a GIF that grows."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import FACE, dheads, make_checkpoint, write_speech
from numpy.typing import NDArray
from PIL import Image

from dheads_cli import console
from dheads_cli.errors import DheadsError
from dheads_cli.run.preview import MAX_GIF_FRAMES, GifPreview, TerminalPreview, half_blocks


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def gray(level: int, size: int = 16) -> NDArray[np.uint8]:
    return np.full((size, size, 3), level, np.uint8)


def test_a_character_is_two_pixels() -> None:
    picture = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3)
    lines = "".join(segment.text for segment in half_blocks(picture)).splitlines()
    assert lines == ["▀▀▀", "▀▀▀"]
    first = half_blocks(picture)[0].style
    assert first is not None
    assert first.color is not None
    assert first.bgcolor is not None
    assert (first.color.triplet, first.bgcolor.triplet) == ((0, 1, 2), (9, 10, 11))


def test_the_newest_frame_is_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    preview = TerminalPreview()
    with console.progress("animate", total=2, above=preview) as bar:
        preview.show(gray(77))
        bar.advance(2)
    shown = terminal.getvalue()
    assert "38;2;77;77;77;48;2;77;77;77m▀" in shown
    last = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", shown).splitlines()
    assert any(line.startswith("▀▀▀▀") for line in last)
    assert "2/2" in last[-1]


def test_without_a_terminal_there_is_one_clear_line(tmp_path: Path) -> None:
    ended = dheads("animate", FACE, tmp_path / "a.wav", "-o", tmp_path / "a.mp4", "--preview")
    assert ended.code == 2
    assert ended.stderr.count("\n") == 1
    assert "--preview: standard error is no terminal" in ended.stderr
    assert "\x1b" not in ended.stderr
    with pytest.raises(DheadsError, match="no terminal"):
        TerminalPreview()


def test_a_gif_holds_few_frames_from_the_first_to_the_newest(tmp_path: Path) -> None:
    preview = GifPreview(tmp_path / "a.gif", 25)
    preview.show(gray(0))
    with Image.open(tmp_path / "a.gif") as image:  # at once, so that a viewer can be opened
        assert image.n_frames == 1  # type: ignore[attr-defined]
    for k in range(1, 200):
        preview.show(gray(k))
    preview.finish()
    with Image.open(tmp_path / "a.gif") as image:
        n_frames = image.n_frames  # type: ignore[attr-defined]
        levels, times = [], []
        for k in range(n_frames):
            image.seek(k)
            levels.append(np.asarray(image.convert("L")).mean())
            times.append(image.info["duration"])
    assert n_frames <= MAX_GIF_FRAMES
    assert levels == pytest.approx(list(range(0, 200, 8)))
    assert set(times) == {320}  # eight frames of the video


def test_animate_writes_the_gif_beside_the_video(tmp_path: Path) -> None:
    model, speech = make_checkpoint(tmp_path / "m.safetensors"), write_speech(tmp_path / "a.flac", 0.12)
    words = ("animate", FACE, speech, "--model", model, "--size", "32", "-o", tmp_path / "a.mp4")
    assert dheads(*words, "--preview-gif", tmp_path / "p.gif").code == 0
    with Image.open(tmp_path / "p.gif") as image:
        assert (image.size, image.n_frames) == ((32, 32), 3)  # type: ignore[attr-defined]
    again = dheads(*words, "--overwrite", "--preview-gif", tmp_path / "a.png")
    assert (again.code, "must end in .gif" in again.stderr) == (2, True)
