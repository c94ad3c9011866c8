"""The real command line, run in this process; a model that is small enough to be quick; inputs to break."""

import contextlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from dheads_cli import cli, console
from dheads_cli.data import media
from dheads_cli.model.build import build_model
from dheads_cli.model.checkpoint import save_tensors
from dheads_cli.recipe import Recipe

EXAMPLES = Path(__file__).parents[1] / "examples"
FACE, OTHER_FACE, TALK = EXAMPLES / "face.jpg", EXAMPLES / "astronaut.jpg", EXAMPLES / "talk.wav"


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def dheads(*words: str | Path) -> Ended:
    """Run `dheads WORDS` through its entry point."""
    stdout, stderr, argv, code = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = ["dheads", *map(str, words)]
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            cli.main()
    except SystemExit as ending:
        code = int(ending.code or 0)
    finally:
        sys.argv = argv
        console.configure()
    return Ended(code, stdout.getvalue(), stderr.getvalue())


def make_checkpoint(path: Path, spread: float = 0.05, controls: Sequence[str] = ()) -> Path:
    """A 32 px model with made-up weights: its faces are noisy, and each frame depends on everything it is given.

    Weights have this standard deviation: at 0 each frame is the identity frame, at 0.2 the noise hides the face.
    """
    recipe = Recipe.model_validate({
        "name": "small",
        "seed": 3,
        "model": {
            "size": 32, "channels": 32, "channel_mult": [1, 1], "n_res_blocks": 1, "head_dim": 32,
            "prediction": "identity_residual", "learned_variance": False,
            "audio_encoder": {"use": "logmel", "embed_dim": 8}, "controls": list(controls),
        },
        "train": {"precision": "float32"},
        "sample": {"sampler": {"use": "ddim", "steps": 2, "eta": 1.0}},
    })  # fmt: skip
    parts = build_model(recipe.model, torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in parts.unet.parameters():
            parameter.normal_(0, spread, generator=random)
        for parameter in parts.unet.control_embed.parameters() if parts.unet.control_embed else ():
            parameter.normal_(0, 1.0, generator=random)
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, module in parts.trained_modules().items()
        for name, tensor in module.state_dict().items()
    }
    save_tensors(path, tensors, {"recipe": recipe.model_dump(mode="json"), "step": 7})
    return path


def write_speech(path: Path, seconds: float, rate: int = 16000) -> Path:
    """The first part of the example recording, as .flac."""
    path.write_bytes(media.encode_flac(media.read_audio(TALK, rate)[: round(seconds * rate)], rate))
    return path


def write_two_faces(path: Path) -> Path:
    """The example face, and a smaller one to its right."""
    large, small = Image.open(FACE).convert("RGB"), Image.open(OTHER_FACE).convert("RGB")
    small = small.crop((70, 0, 370, 300)).resize((288, 288))
    both = np.concatenate([np.asarray(large.resize((540, 432))), np.zeros((432, 288, 3), np.uint8)], axis=1)
    both[:288, 540:] = np.asarray(small)
    Image.fromarray(both).save(path)
    return path
