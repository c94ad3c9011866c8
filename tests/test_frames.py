"""Named qualities: the recipe's samplers, or its usual one with fewer or more steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import FACE, dheads, make_checkpoint, write_speech

from dheads_cli.data import media
from dheads_cli.recipe import Sample
from dheads_cli.run.frames import sampler_for


@pytest.mark.parametrize(("steps", "draft", "best"), [(1, 1, 2), (2, 2, 4), (3, 2, 6), (50, 25, 100)])
def test_without_a_word_in_the_recipe_steps_are_halved_and_doubled(steps: int, draft: int, best: int) -> None:
    sample = Sample.model_validate({"sampler": {"use": "ddim", "steps": steps, "eta": 0.5}})
    assert sampler_for("normal", sample) == sample.sampler
    assert sampler_for("draft", sample).options == {"steps": draft, "eta": 0.5}
    assert sampler_for("best", sample).options == {"steps": best, "eta": 0.5}


def test_a_sampler_s_own_number_of_steps_counts_where_the_recipe_names_none() -> None:
    assert sampler_for("best", Sample.model_validate({"sampler": "ddpm"})).options == {"steps": 400}


def test_the_recipe_may_name_others() -> None:
    sample = Sample.model_validate({"sampler": "ddpm", "draft_sampler": {"use": "unipc", "steps": 4}})
    chosen = sampler_for("draft", sample)
    assert (chosen.use, chosen.options) == ("unipc", {"steps": 4})


def test_quality_chooses_the_sampler_and_other_options_go_first(tmp_path: Path) -> None:
    model, speech = make_checkpoint(tmp_path / "m.safetensors"), write_speech(tmp_path / "a.flac", 0.12)  # two steps

    def made(*words: str) -> bytes:
        out = tmp_path / "a.mp4"
        arguments = ("animate", FACE, speech, "-o", out, "--model", model, "--size", "32", "--overwrite")
        assert dheads(*arguments, *words).code == 0
        return media.read_video(out, 25).frames.tobytes()

    best = made("--quality", "best")
    assert best == made("--set", "sample.sampler.steps=4")
    assert best != made("--quality", "normal") == made()
    assert made("--quality", "best", "--sampler", "{use: ddim, steps: 2, eta: 1.0}") == made()
    ended = dheads("animate", FACE, speech, "--quality", "good")
    assert (ended.code, ended.stderr) == (2, "error: --quality good: take draft, normal, best\n")
