"""How long `dheads animate` will take on this machine: a few frames are drawn with the default model, and timed."""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dheads_cli.data.media import read_image
from dheads_cli.model.build import choose_device
from dheads_cli.model.checkpoint import load_model
from dheads_cli.run.device_speed import Clock
from dheads_cli.run.frames import chosen_settings, draw_spoken

CLIP_S = 3.0  # the clip whose making is estimated
MEASURED_S = 2.0  # of drawing frames; one frame at least beside the first


def seconds_of_a_clip(model: Path, face: Path) -> dict[str, float | int | str]:
    """Draw frames for MEASURED_S.

    Args:
        model: a shipped checkpoint.
        face: picture of a face; it is only scaled, as nobody looks at what is drawn.

    Returns:
        "model", "device", "frame_s": median seconds a frame after the first; "frames": how many that is of;
        "clip_s": a clip's length; "takes_s": how long one takes, without loading the model and finding the face.
    """
    target = choose_device("auto")
    clock = Clock(target)
    trained = load_model(model, target)
    recipe, parts = trained.recipe, trained.parts
    fps, rate, size = recipe.preprocess.fps, parts.audio_encoder.sample_rate, recipe.model.size
    identity = np.array(Image.fromarray(read_image(face)).resize((size, size)))[None]
    speech = (torch.randn(round(CLIP_S * rate), generator=torch.Generator().manual_seed(0)) * 0.05).numpy()
    n_frames = round(CLIP_S * fps)
    times = [clock()]
    frames = draw_spoken(recipe, parts, chosen_settings(trained), identity, [speech], [n_frames], fps, [0])
    for _ in frames:
        times.append(clock())
        if len(times) > 2 and times[-1] - times[1] >= MEASURED_S:
            break
    frame_s = statistics.median(after - before for before, after in pairwise(times[1:]))
    return {
        "model": recipe.name,
        "device": str(target),
        "frame_s": round(frame_s, 4),
        "frames": len(times) - 2,
        "clip_s": CLIP_S,
        "takes_s": round(times[1] - times[0] + (n_frames - 1) * frame_s, 2),
    }
