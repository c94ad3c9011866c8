"""What every audio encoder must do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dheads_cli.model.speech import is_trained
from dheads_cli.protocols import StatefulAudioEncoder

FPS = 25


def encoder_states_its_window(encoder: Any) -> Iterator[str]:
    """sample_rate, embed_dim and stride_frames are whole numbers from 1, context_frames one from 0."""
    for name, least in (("sample_rate", 1), ("embed_dim", 1), ("stride_frames", 1), ("context_frames", 0)):
        value = getattr(encoder, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            yield f"{name} must be a whole number from {least}, not {value!r}"


def _sounds(encoder: Any, n_frames: int, fps: float = FPS) -> Tensor:
    """Silence, noise, and a clipped tone: [3, T]."""
    n_samples = round(n_frames / fps * encoder.sample_rate)
    tone = torch.sin(torch.arange(n_samples) * 2 * torch.pi * 200 / encoder.sample_rate)
    return torch.stack([torch.zeros(n_samples), 0.1 * torch.randn(n_samples), (9 * tone).clamp(-1, 1)])


@torch.no_grad()
def _encode(encoder: Any, waveform: Tensor, n_frames: int) -> Tensor:
    embeddings: Tensor = encoder(waveform.clone(), n_frames)
    return embeddings


def encoder_gives_one_embedding_a_frame(encoder: Any) -> Iterator[str]:
    """Silence, noise and clipping give finite float32 [N, F, embed_dim], at 25 and at 30 fps."""
    n_frames = encoder.stride_frames + 2 * encoder.context_frames
    for fps in (25, 30):
        embeddings = _encode(encoder, _sounds(encoder, n_frames, fps), n_frames)
        if embeddings.dtype != torch.float32:
            yield f"embeddings at {fps} fps must be float32, not {embeddings.dtype}"
        if embeddings.shape != (3, n_frames, encoder.embed_dim):
            wanted = (3, n_frames, encoder.embed_dim)
            yield f"embeddings at {fps} fps must have the shape {wanted}, not {tuple(embeddings.shape)}"
        elif not embeddings.isfinite().all():
            sounds = ("silence", "noise", "a clipped tone")
            bad = [name for name, each in zip(sounds, embeddings, strict=True) if not each.isfinite().all()]
            yield f"embeddings of {' and '.join(bad)} are not finite"


def encoder_is_a_function_of_its_sound(encoder: Any) -> Iterator[str]:
    """The same sound gives the same embeddings, alone or in a batch, and another sound gives others."""
    n_frames = encoder.stride_frames + 2 * encoder.context_frames
    sounds = _sounds(encoder, n_frames)
    given = sounds.clone()
    with torch.no_grad():
        together = encoder(given, n_frames)
    if not torch.equal(given, sounds):
        yield "it changes the waveform it is given"
    if not torch.equal(together, _encode(encoder, sounds, n_frames)):
        yield "called twice with the same sound, it gives different embeddings"
    alone = torch.cat([_encode(encoder, sound[None], n_frames) for sound in sounds])
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-3):
        yield "a window's embeddings depend on the other windows of its batch"
    if torch.allclose(together[0], together[1]):
        yield "silence and noise get the same embeddings"


def trained_encoder_is_translation_equivariant(encoder: Any) -> Iterator[str]:
    """Trained with the model, an encoder gives a piece, but for its context_frames, what it gives the whole."""
    if not is_trained(encoder) or isinstance(encoder, StatefulAudioEncoder):
        return
    context, n_inner, first = encoder.context_frames, 6, 7
    whole, piece = n_inner + 2 * (context + first), n_inner + 2 * context
    per_frame = encoder.sample_rate / FPS
    sound = _sounds(encoder, whole)[1:2]
    cut = sound[:, round(first * per_frame) : round((first + piece) * per_frame)]
    of_whole = _encode(encoder, sound, whole)[:, first + context :][:, :n_inner]
    of_piece = _encode(encoder, cut, piece)[:, context:][:, :n_inner]
    if not torch.allclose(of_whole, of_piece, rtol=1e-3, atol=1e-4):
        yield f"embeddings depend on more than the {context} frames on either side that context_frames states"


def trained_encoder_lets_gradients_through(encoder: Any) -> Iterator[str]:
    """Where parameters require gradients, embeddings carry one to them."""
    if not is_trained(encoder):
        return
    n_frames = encoder.stride_frames + 2 * encoder.context_frames
    embeddings = encoder(_sounds(encoder, n_frames)[1:2], n_frames)
    if not embeddings.requires_grad:
        yield "its parameters require gradients, but its embeddings carry none"
        return
    learning = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(embeddings.square().sum(), learning, allow_unused=True)
    if not any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients):
        yield "the gradient of its embeddings is zero for all of its parameters"


class _Recording:
    """Noise of so many frames with a stateful encoder's context of silence at both ends, and windows of it."""

    def __init__(self, encoder: Any, n_frames: int) -> None:
        self.encoder, self.context = encoder, encoder.context_frames
        self.per_frame = encoder.sample_rate / FPS
        silence = torch.zeros(3, round(self.context * self.per_frame))
        self.sound = _sounds(encoder, n_frames)
        self.padded = torch.cat([silence, self.sound, silence], 1)

    @torch.no_grad()
    def encode(self, first: int, end: int, state: Any = None) -> tuple[Tensor, Any]:
        """Embeddings of frames first ... end - 1, and the state after them."""
        n_window = end - first + 2 * self.context
        begin = round(first * self.per_frame)
        window = self.padded[:, begin : begin + round(n_window * self.per_frame)].clone()
        embeddings, state = self.encoder.continue_from(window, n_window, state)
        return embeddings, state


def stateful_encoder_carries_its_state_over_a_cut(encoder: Any) -> Iterator[str]:
    """A recording in two pieces, the state carried from one to the other, has the embeddings of the whole."""
    if not isinstance(encoder, StatefulAudioEncoder):
        return
    recording = _Recording(encoder, 30)
    whole, _ = recording.encode(0, 30)
    if whole.shape != (3, 30, encoder.embed_dim) or whole.dtype != torch.float32:
        wanted = (3, 30, encoder.embed_dim)
        yield f"continue_from must give float32 {wanted}, not {whole.dtype} {tuple(whole.shape)}"
        return
    for cut in (1, 13):
        before, state = recording.encode(0, cut)
        after, _ = recording.encode(cut, 30, state)
        if not torch.allclose(torch.cat([before, after], 1), whole, rtol=1e-3, atol=1e-4):
            yield f"cut after frame {cut - 1}, a recording gets other embeddings than uncut"
        again, _ = recording.encode(cut, 30, state)
        if not torch.equal(again, after):
            yield "continued twice from one state, it gives different embeddings: the state must only be read"


def stateful_encoder_begins_fresh(encoder: Any) -> Iterator[str]:
    """Without a state it knows nothing of earlier calls, and a plain call is a recording with silence around."""
    if not isinstance(encoder, StatefulAudioEncoder):
        return
    recording = _Recording(encoder, 30)
    first, _ = recording.encode(0, 30)
    plain = _encode(encoder, recording.sound, 30)
    if not torch.allclose(first, plain, rtol=1e-3, atol=1e-4):
        yield "a plain call gives other embeddings than continue_from does without a state, in silence"
    if not torch.equal(recording.encode(0, 30)[0], first):
        yield "without a state, its embeddings depend on earlier calls"


def stateful_encoder_does_not_hear_ahead(encoder: Any) -> Iterator[str]:
    """Embedding k depends on no sound later than that of frame k + context_frames."""
    if not isinstance(encoder, StatefulAudioEncoder):
        return
    last, n_frames = 9, 9 + 2 * encoder.context_frames + 10
    recording = _Recording(encoder, n_frames)
    before, _ = recording.encode(0, n_frames)
    heard = round((last + 1 + 2 * encoder.context_frames) * recording.per_frame)  # the padding begins context earlier
    recording.padded[:, heard:] = 0.1 * torch.randn_like(recording.padded[:, heard:])
    after, _ = recording.encode(0, n_frames)
    if not torch.allclose(before[:, : last + 1], after[:, : last + 1], rtol=1e-4, atol=1e-5):
        yield f"embeddings depend on sound later than the {encoder.context_frames} frames after theirs"


TESTS = (
    encoder_states_its_window,
    encoder_gives_one_embedding_a_frame,
    encoder_is_a_function_of_its_sound,
    trained_encoder_is_translation_equivariant,
    trained_encoder_lets_gradients_through,
    stateful_encoder_carries_its_state_over_a_cut,
    stateful_encoder_begins_fresh,
    stateful_encoder_does_not_hear_ahead,
)
