"""A word recogniser: an audio encoder, and a linear layer over the mean of its embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dheads_cli.model.build import build_component, own_encoder, trained
from dheads_cli.protocols import AudioEncoder
from dheads_cli.recipe_words import WordsModel


@dataclass(frozen=True)
class Recogniser:
    """Tells spoken words apart.

    Attributes:
        audio_encoder: speech to one embedding a frame.
        head: mean embedding [B, D] -> logits [B, words].
        n_frames: F, frames of a sample.
        pooled_frames: frames in its middle whose embeddings are averaged.
        audio_encoder_frozen: training leaves the audio encoder as it is.
    """

    audio_encoder: AudioEncoder
    head: nn.Linear
    n_frames: int
    pooled_frames: int
    audio_encoder_frozen: bool = False

    def own_modules(self) -> dict[str, nn.Module]:
        """The modules whose weights a checkpoint holds, by their prefix in it."""
        return {"head": self.head, **own_encoder(self.audio_encoder)}

    def trained_modules(self) -> dict[str, nn.Module]:
        """The modules whose weights are learned, by their prefix in a checkpoint."""
        return trained(self.own_modules(), self.audio_encoder_frozen)

    @property
    def hears_embeddings(self) -> bool:
        """Whether it is given embeddings in place of sound, the encoder being frozen."""
        return "audio_encoder" not in self.trained_modules()

    def logits(self, sound: Tensor) -> Tensor:
        """Sound [B, T], or embeddings [B, F, D] of a frozen encoder -> [B, words].

        A sample is heard from a fresh state, in silence. The mean is over the frames of the word itself, not the last
        embedding: each embedding then answers for its own time, as those that drive a mouth have to.
        """
        embeddings = sound if self.hears_embeddings else self.audio_encoder(sound, self.n_frames)
        first = (self.n_frames - self.pooled_frames) // 2
        logits: Tensor = self.head(embeddings[:, first : first + self.pooled_frames].mean(dim=1))
        return logits


def build_recogniser(
    settings: WordsModel, n_words: int, device: torch.device, *, freeze_audio_encoder: bool
) -> Recogniser:
    """Make a recogniser with fresh weights, drawn from torch's global generator.

    Raises:
        DheadsError: the audio encoder can't be built.
    """
    encoder: AudioEncoder = build_component("audio_encoders", settings.audio_encoder)
    head = nn.Linear(encoder.embed_dim, n_words).to(device)
    if isinstance(encoder, nn.Module):
        encoder = encoder.to(device)
        if freeze_audio_encoder:
            encoder.eval()
    pooled = settings.pooled_frames or settings.n_frames
    return Recogniser(encoder, head, settings.n_frames, pooled, freeze_audio_encoder)
