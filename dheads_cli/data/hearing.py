"""What a model in training hears of a clip: clean or augmented, as a waveform or as a frozen encoder's embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dheads_cli.data import augment, media
from dheads_cli.data.embedding_cache import EmbeddingCache
from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.model.speech import device_of, encode_speech
from dheads_cli.protocols import AudioEncoder


@dataclass(frozen=True)
class Versions:
    """The augmented versions of each clip; version 0 is the clean one, 1 ... n are augmented.

    Attributes:
        n: augmented versions of each clip.
        kinds: kind of augmentation -> (probability, largest strength).
        seed: a version follows from this, the clip's id and its number alone.
    """

    n: int = 0
    kinds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seed: int = 0

    def made_of(self, version: int) -> dict[str, object]:
        """What decides how a version sounds, JSON-able."""
        if version == 0:
            return {"version": 0}
        kinds = {name: list(values) for name, values in self.kinds.items()}
        return {
            "version": version, "kinds": kinds, "seed": self.seed, "augment": augment.VERSION, "av": av.__version__
        }  # fmt: skip

    def apply(self, wave: NDArray[np.float32], sample_rate: int, clip_id: str, version: int) -> NDArray[np.float32]:
        """A version of a clip's waveform [T]."""
        if version == 0:
            return wave
        name = int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8])
        return augment.augmented(wave, sample_rate, self.kinds, np.random.default_rng([self.seed, name, version]))


class Hearing:
    """Sound of clips, as a model takes it.

    Args:
        corpus: the clips.
        encoder: the model's audio encoder.
        frozen: whether it is not trained with the model; then clips are heard as its embeddings.
        fps: of the clips.
        versions: augmented versions of each.
        caches: where the embeddings of version 0, 1 ... are kept; none where they are not.
    """

    def __init__(
        self,
        corpus: Corpus,
        encoder: AudioEncoder,
        *,
        frozen: bool,
        fps: float,
        versions: Versions,
        caches: tuple[EmbeddingCache, ...] = (),
    ) -> None:
        self.corpus, self.encoder, self.frozen, self.fps = corpus, encoder, frozen, fps
        self.versions, self.caches = versions, caches
        self.lock = Lock()  # an encoder is run by one thread at a time: it may keep things between its layers

    def __call__(self, ref: ClipRef, version: int) -> Tensor:
        """A version of a clip: float32 embeddings [F, D] of a frozen encoder, else the waveform [T]."""
        if not self.frozen:
            return self.waveform(ref, version)
        kept = self.caches[version].read(ref) if self.caches else None
        return (self.embed(ref, self.waveform(ref, version)) if kept is None else kept).float()

    def waveform(self, ref: ClipRef, version: int) -> Tensor:
        """float32 [T] in [-1, 1]."""
        wave = media.decode_flac(self.corpus.read(ref, ("flac",))["flac"])
        return torch.from_numpy(self.versions.apply(wave, self.encoder.sample_rate, ref.id, version))

    def embed(self, ref: ClipRef, waveform: Tensor) -> Tensor:
        """A frozen encoder's embeddings of a clip, float16 [F, D] on the CPU.

        Training is the same with and without a cache: clip by clip, since no device promises that a batch of several
        gives the last bits of each alone, and rounded whether they are kept or not.

        Raises:
            DheadsError: float16 can't hold them.
        """
        with self.lock:
            embeddings = encode_speech(self.encoder, waveform.to(device_of(self.encoder)), ref.n_frames, self.fps)
        rounded = embeddings.half().cpu()
        if not rounded.isfinite().all():
            raise DheadsError(
                f"model.audio_encoder: its embeddings of {ref.id} are not finite numbers below 65504, the most that "
                "training with a frozen encoder can hold: the encoder has to be mended"
            )
        return rounded
