"""The frames of a video that is being drawn, kept beside its place, so that a run that was broken off can go on.

`.OUT.resume/` holds the frames as the model drew them, without loss, a file for every few seconds of work, and
`state.safetensors`: what the next frame is drawn from, exactly. Memory and time that it takes do not grow with the
video; a run of less than ten seconds leaves nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import dheads_cli
from dheads_cli.data.lossless import decode_lossless, encode_lossless
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of, write_atomically
from dheads_cli.model.checkpoint import Trained, load_tensors, save_tensors
from dheads_cli.model.generate import NoiseStreams, Past
from dheads_cli.recipe import Sample

SAVE_EVERY_S = 10.0
MAX_WAITING = 50  # frames in memory that are not saved yet
STATE = "state.safetensors"


@dataclass(frozen=True)
class Inputs:
    """All that a clip's frames depend on.

    Attributes:
        crop: the face, uint8 RGB [S, S, 3].
        speech: the recording's file.
        trained: the model.
        digest: sha256 of its file.
        settings: how it draws.
        seed: of the random draws.
    """

    crop: NDArray[np.uint8]
    speech: Path
    trained: Trained
    digest: str
    settings: Sample
    seed: int

    @property
    def facts(self) -> dict[str, str]:
        """What tells these inputs from others, by name."""
        parameter = next(self.trained.parts.unet.parameters())
        return {
            "face": hashlib.sha256(self.crop.tobytes()).hexdigest(),
            "speech": sha256_of(self.speech),
            "model": self.digest,
            "sampling": self.settings.model_dump_json(exclude={"batch_size"}),
            "seed": str(self.seed),
            "dheads": dheads_cli.__version__,
            "torch": torch.__version__,
            "device": parameter.device.type,
        }


@dataclass(frozen=True)
class Kept:
    """What a run that was broken off has left.

    Attributes:
        past: what its next frame is drawn from.
        noise: state of the source of its random draws.
        frames: uint8 RGB [S, S, 3], read while they are asked for.
    """

    past: Past
    noise: torch.Tensor
    frames: Iterator[NDArray[np.uint8]]


class KeptFrames:
    """Keeps the frames of one video.

    Args:
        out: the video's place.
        inputs: what it is drawn from.
    """

    def __init__(self, out: str, inputs: Inputs) -> None:
        self.out, self.folder, self._inputs = out, folder_of(out), inputs
        self._facts = inputs.facts  # now: the speech's file may be gone when the first frames are kept
        self._waiting: list[NDArray[np.uint8]] = []
        self._saved: list[dict[str, Any]] = []  # name, n_frames and sha256 of each file
        self._saved_at = time.monotonic()

    @property
    def n_frames(self) -> int:
        """Frames that are safe."""
        return sum(int(each["n_frames"]) for each in self._saved)

    def keep(self, drawn: NDArray[np.uint8], past: Past, noise: NoiseStreams) -> None:
        """Take one more frame, uint8 RGB [S, S, 3], and, where it is time, make what there is safe.

        Args:
            drawn: the frame as the model drew it.
            past: of one clip, with this frame in it.
            noise: of that clip.
        """
        self._waiting.append(drawn)
        if time.monotonic() - self._saved_at >= SAVE_EVERY_S or len(self._waiting) >= MAX_WAITING:
            self._save(past, noise)
            self._saved_at = time.monotonic()

    def _save(self, past: Past, noise: NoiseStreams) -> None:
        if not self._saved:
            self.remove()  # what another run has left
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise DheadsError(f"{self.folder} can't be written: {error.strerror or error}.") from error
        data, name = encode_lossless(np.stack(self._waiting)), f"{self.n_frames:07d}.mp4"
        write_atomically(self.folder / name, data)
        digest = hashlib.sha256(data).hexdigest()
        saved = [*self._saved, {"name": name, "n_frames": len(self._waiting), "sha256": digest}]
        tensors = {f"motion.{index}": frame for index, frame in enumerate(past.motion)}
        if past.last is not None:
            tensors["last"] = past.last.clone()  # it may be the newest motion frame itself, which can't be saved twice
        tensors["noise"] = noise.generators[0].get_state()
        save_tensors(self.folder / STATE, tensors, {"facts": self._facts, "files": saved})
        self._saved = saved
        self._waiting.clear()

    def load(self) -> Kept | None:
        """What a run that was broken off has left; None where it has left nothing. What is kept is added to it.

        Raises:
            DheadsError: it was another video, or it is damaged.
        """
        if not (self.folder / STATE).is_file():
            return None
        try:
            tensors, info = load_tensors(self.folder / STATE)
        except DheadsError as error:
            raise DheadsError(f"{self.folder} is damaged ({error}). Remove it and begin anew.") from error
        if other := [name for name, fact in self._facts.items() if info["facts"].get(name) != fact]:
            raise DheadsError(
                f"--resume: {self.out} was begun with another {' and another '.join(other)}. "
                "Give what it was begun with, or leave out --resume to begin anew."
            )
        self._saved = info["files"]
        device = next(self._inputs.trained.parts.unet.parameters()).device
        n_motion = self._inputs.trained.recipe.model.n_motion_frames
        motion = tuple(tensors[f"motion.{index}"].to(device) for index in range(n_motion))
        past = Past(motion, tensors["last"].to(device), self.n_frames)
        return Kept(past, tensors["noise"], self._frames(list(self._saved)))

    def _frames(self, files: list[dict[str, Any]]) -> Iterator[NDArray[np.uint8]]:
        for file in files:
            path = self.folder / file["name"]
            data = path.read_bytes() if path.is_file() else b""
            if hashlib.sha256(data).hexdigest() != file["sha256"]:
                raise DheadsError(f"{path} is damaged. Remove {self.folder} and begin anew.")
            yield from decode_lossless(data)

    def remove(self) -> None:
        """Forget all that is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)


def folder_of(out: str) -> Path:
    """Where the frames of a video that goes to `out` are kept."""
    place = Path(os.path.abspath(out))
    return place.with_name(f".{place.name}.resume")


def n_left(out: str) -> int:
    """How many frames of a video a run that was broken off has left; 0 where none, or where they can't be read."""
    try:
        _, info = load_tensors(folder_of(out) / STATE)
    except DheadsError:
        return 0
    return sum(int(file["n_frames"]) for file in info["files"])
