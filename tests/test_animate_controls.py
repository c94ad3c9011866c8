"""`--blinks` and `--head`: what they ask for is drawn, is part of what a video is made from, and survives a break."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import FACE, OTHER_FACE, Ended, dheads, make_checkpoint, write_speech
from corpus import make_corpus
from numpy.typing import NDArray

from dheads_cli.data import media
from dheads_cli.data.provenance import read_provenance
from dheads_cli.data.samples import read_settings
from dheads_cli.model.checkpoint import load_model
from dheads_cli.run.animate_clip import Clip, Drawing, ready
from dheads_cli.run.control_files import ChosenControls
from dheads_cli.run.frames import controls_for
from dheads_cli.run.recording import listen

BOTH = ChosenControls(blinks=1.5, head="natural")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors", controls=["eyes", "head"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("plain") / "small.safetensors")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech(tmp_path_factory.mktemp("speech") / "a.flac", 0.2)


def animate(model: Path, speech: Path, out: Path | str, *words: str | Path) -> Ended:
    return dheads("animate", FACE, speech, "-o", out, "--model", model, "--size", "32", *words)


def test_what_is_asked_for_is_drawn_and_said_of_the_video(model: Path, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "eyes.csv").write_text("1\n" * 5)
    (tmp_path / "turn.csv").write_text("yaw,pitch,roll\n0,0,0\n60,-60,60\n")
    asked: dict[str, tuple[str | Path, ...]] = {
        "default": (),
        "natural": ("--blinks", "natural", "--head", "still"),
        "none": ("--blinks", "none"),
        "open": ("--blinks", tmp_path / "eyes.csv"),
        "turned": ("--blinks", "none", "--head", tmp_path / "turn.csv"),
        "moving": ("--blinks", "none", "--head", "natural"),
        "set": ("--set", "sample.blinks=none"),
    }
    frames, settings = {}, {}
    for name, words in asked.items():
        ended = animate(model, speech, f"{tmp_path}/{name}/", *words)
        assert ended.code == 0, ended.stderr
        frames[name] = np.stack([media.read_image(path) for path in sorted((tmp_path / name).glob("*.png"))])
        made = read_provenance(tmp_path / name)
        assert made is not None
        settings[name] = made.inputs["settings"]
    for name, same in (("natural", "default"), ("set", "none"), ("open", "none")):
        assert np.array_equal(frames[name], frames[same])
    changed = (frames["turned"] != frames["none"]).any(axis=(1, 2, 3))
    assert changed.tolist() == [False, True, True, True, True]
    assert (settings["natural"], settings["set"]) == (settings["default"], settings["none"])
    assert len(set(settings.values())) == 5


def test_blinks_reach_the_network(model: Path) -> None:
    artist = ready(str(model), "cpu", None, None, (), "normal", ChosenControls([[1, 1], [0.2, 0.3]], [[3, 6, 9]]))
    told = controls_for(artist.trained.recipe, artist.settings, [1, 2], torch.device("cpu"))
    first, second = next(told), next(told)
    assert first is not None
    assert second is not None
    torch.testing.assert_close(first, torch.tensor([[1, 1, 0.1, 0.2, 0.3]] * 2))
    torch.testing.assert_close(second, torch.tensor([[0.2, 0.3, 0.1, 0.2, 0.3]] * 2))


@pytest.mark.parametrize(("option", "value"), [("--blinks", "natural"), ("--blinks", "0.4"), ("--head", "still")])
def test_a_model_without_a_control_refuses_it_in_one_line(
    plain: Path, speech: Path, tmp_path: Path, option: str, value: str
) -> None:
    ended = animate(plain, speech, tmp_path / "a.mp4", option, value)
    assert ended.code == 2
    assert len(ended.stderr.splitlines()) == 1
    assert option in ended.stderr
    assert not (tmp_path / "a.mp4").exists()


def test_a_model_without_controls_takes_no_such_setting_either(plain: Path, speech: Path, tmp_path: Path) -> None:
    assert animate(plain, speech, tmp_path / "a.mp4", "--set", "sample.head=natural").code == 2
    assert animate(plain, speech, tmp_path / "a.mp4").code == 0


@pytest.mark.parametrize(("option", "text", "where"), [
    ("--blinks", "1\n0.5\nwide\n", "a.csv:3"), ("--head", "0,0,0\n1,2\n", "a.csv:2"), ("--head", "", "a.csv"),
])  # fmt: skip
def test_a_wrong_file_is_named_with_its_line(
    model: Path, speech: Path, tmp_path: Path, option: str, text: str, where: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    ended = animate(model, speech, tmp_path / "a.mp4", option, tmp_path / "a.csv")
    assert ended.code == 2
    assert f"{where}:" in ended.stderr


def test_a_file_that_is_not_there_is_an_error(model: Path, speech: Path, tmp_path: Path) -> None:
    assert animate(model, speech, tmp_path / "a.mp4", "--head", tmp_path / "b.csv").code == 2


# After a break


def drawing_of(model: Path, speech: Path, out: Path, controls: ChosenControls, *, resume: bool) -> Drawing:
    artist = ready(str(model), "cpu", None, None, ["sample.sampler.steps=1"], "normal", controls)
    crop: NDArray[np.uint8] = np.full((32, 32, 3), 90, np.uint8)
    recording = listen(speech, artist.rate, 25.0)
    clip = Clip(str(out), "a face", crop, recording, 3, lambda frame: frame, (32, 32))
    return Drawing(clip, artist, resume=resume)


def draw(drawing: Drawing, n_frames: int) -> None:
    """Draw a video, or break it off after so many frames."""
    with drawing:
        for number, (window, told) in enumerate(zip(drawing.windows(), drawing.controls, strict=False)):
            if number == n_frames:
                raise KeyboardInterrupt
            drawing.take(
                drawing.artist.drawer(drawing.identity, drawing.past, window, drawing.noise, controls=told)
            )


def test_a_video_that_was_broken_off_goes_on_with_its_blinks(model: Path, tmp_path: Path) -> None:
    speech = write_speech(tmp_path / "long.flac", 2.8)  # 70 frames: kept after 50
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    draw(drawing_of(model, speech, tmp_path / "whole/a.mp4", BOTH, resume=False), 70)
    broken = tmp_path / "broken/a.mp4"
    with pytest.raises(KeyboardInterrupt):
        draw(drawing_of(model, speech, broken, BOTH, resume=False), 60)
    going_on = drawing_of(model, speech, broken, BOTH, resume=True)
    assert 0 < going_on.n_before < 70
    draw(going_on, 70)
    assert broken.read_bytes() == (tmp_path / "whole/a.mp4").read_bytes()


def test_each_video_of_a_batch_has_the_blinks_it_has_alone(model: Path, tmp_path: Path) -> None:
    rows = ["face,speech,out,seed"]
    for name, seconds in (("a", 0.4), ("b", 0.16), ("c", 0.28)):
        write_speech(tmp_path / f"{name}.flac", seconds)
        rows.append(f"{OTHER_FACE},{name}.flac,{name}/,{ord(name)}")
    (tmp_path / "jobs.csv").write_text("\n".join(rows))
    words = ("--model", model, "--size", "32", "--blinks", "1.5", "--head", "natural")
    more = ("--set", "sample.batch_size=2")
    assert dheads("animate", "--batch", tmp_path / "jobs.csv", *words, *more).code == 0
    for name in "abc":
        alone = tmp_path / f"alone-{name}"
        arguments = (OTHER_FACE, tmp_path / f"{name}.flac", "-o", f"{alone}/", "--seed", str(ord(name)))
        assert dheads("animate", *arguments, *words).code == 0
        for path in sorted((tmp_path / name).glob("*.png")):
            ours, theirs = (media.read_image(each).astype(np.int64) for each in (path, alone / path.name))
            assert np.abs(ours - theirs).max() <= 1


# Samples


def test_samples_blink_as_the_recipe_says(model: Path, tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "c", {"test": 2}, n_frames=8)
    for name, words in (("natural", ()), ("none", ("--set", "sample.blinks=none"))):
        ended = dheads("sample", model, "--data", folder, "-o", tmp_path / name, "--device", "cpu", *words)
        assert ended.code == 0, ended.stderr
        assert (read_settings(tmp_path / name)["blinks"], read_settings(tmp_path / name)["head"]) == (name, "still")
    assert load_model(model, torch.device("cpu")).recipe.sample.blinks == "natural"
