"""Fixed windows: embeddings do not depend on how a recording is cut, and frame k's window is where it should be."""

import pytest
import torch

from dheads_cli.model.speech import (
    audio_windows,
    cut,
    encode_speech,
    encode_stream,
    frames_of,
    samples_of,
    spoken_windows,
    stream_windows,
)


class FrameEnergy:
    """Embedding k is the mean magnitude of frame k's samples, and the window's number of frames."""

    sample_rate, embed_dim, stride_frames, context_frames = 16000, 2, 10, 3

    def __call__(self, waveform, n_frames):
        energy = waveform.abs().view(len(waveform), n_frames, -1).mean(-1)
        return torch.stack([energy, torch.full_like(energy, n_frames)], -1)


class LoudnessSoFar(FrameEnergy):
    """Stateful: embedding k is the sum of the mean magnitudes of frames 0 ... k, and how often it was called."""

    def continue_from(self, waveform, n_frames, state):
        sum_so_far, calls = (0.0, 0) if state is None else state
        middle = super().__call__(waveform, n_frames)[:, self.context_frames : n_frames - self.context_frames, 0]
        sums = sum_so_far + middle.double().cumsum(1)
        return torch.stack([sums, torch.full_like(sums, calls)], -1).float(), (sums[:, -1:], calls + 1)


def test_25_frames_are_a_second():
    assert samples_of(25, 25, 16000) == 16000
    assert frames_of(16000, 25, 16000) == 25
    assert frames_of(16300, 25, 16000) == 25
    assert frames_of(16340, 25, 16000) == 26
    assert frames_of(100, 25, 16000) == 1


@pytest.mark.parametrize("n_frames", [1, 9, 10, 11, 95, 201])
def test_embedding_k_is_of_frame_k(n_frames):
    wave = torch.arange(n_frames, dtype=torch.float32).repeat_interleave(640) / 1000
    embeddings = encode_speech(FrameEnergy(), wave, n_frames, 25)
    assert embeddings.shape == (n_frames, 2)
    torch.testing.assert_close(embeddings[:, 0], torch.arange(n_frames) / 1000)
    assert (embeddings[:, 1] == 16).all()


def test_a_stream_gives_what_the_whole_gives():
    wave = torch.randn(640 * 173, generator=torch.Generator().manual_seed(0))
    pieces = list(encode_stream(FrameEnergy(), wave, 173, 25))
    assert len(pieces) > 1
    assert torch.equal(torch.cat(pieces), encode_speech(FrameEnergy(), wave, 173, 25))


@pytest.mark.parametrize("n_frames", [1, 10, 11, 173])
def test_a_stateful_encoder_s_state_is_carried_from_window_to_window(n_frames):
    wave = torch.randn(640 * n_frames, generator=torch.Generator().manual_seed(0))
    embeddings = encode_speech(LoudnessSoFar(), wave, n_frames, 25)
    assert embeddings.shape == (n_frames, 2)
    expected = wave.abs().view(n_frames, 640).mean(-1).double().cumsum(0).float()
    torch.testing.assert_close(embeddings[:, 0], expected)
    assert embeddings[:, 1].tolist() == [k // 10 for k in range(n_frames)]
    assert torch.equal(encode_speech(LoudnessSoFar(), wave, n_frames, 25), embeddings)  # another recording: afresh


def test_a_prefix_has_the_same_embeddings_but_for_its_end():
    wave = torch.randn(640 * 173, generator=torch.Generator().manual_seed(0))
    whole = encode_speech(FrameEnergy(), wave, 173, 25)
    prefix = encode_speech(FrameEnergy(), wave[: 640 * 100], 100, 25)
    assert torch.equal(whole[:100], prefix)


def test_sound_beyond_the_ends_is_silence():
    wave = torch.ones(1280)
    assert cut(wave, -1, 640 * 4, 25, 16000).tolist() == [0.0] * 640 + [1.0] * 1280 + [0.0] * 640
    assert cut(wave, 5, 640, 25, 16000).abs().max() == 0
    assert cut(wave, -5, 640, 25, 16000).abs().max() == 0


def test_audio_windows_repeat_the_edges():
    windows = list(audio_windows(torch.arange(4.0).view(1, 4, 1), 2))
    assert [window.flatten().tolist() for window in windows] == [
        [0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 3, 3],
    ]  # fmt: skip


@pytest.mark.parametrize("audio_context", [0, 1, 2, 5])
@pytest.mark.parametrize("n_frames", [1, 2, 4, 9, 95, 173])
def test_streamed_windows_are_those_of_the_whole(n_frames, audio_context):
    wave = torch.randn(640 * n_frames, generator=torch.Generator().manual_seed(0))
    whole = audio_windows(encode_speech(FrameEnergy(), wave, n_frames, 25)[None], audio_context)
    streamed = stream_windows(encode_stream(FrameEnergy(), wave, n_frames, 25), audio_context)
    for window, expected in zip(streamed, whole, strict=True):
        assert torch.equal(window, expected)


@pytest.mark.parametrize("encoder", [FrameEnergy(), LoudnessSoFar()])
@pytest.mark.parametrize("first", [0, 1, 79, 80, 83, 172])
def test_windows_from_a_frame_on_are_those_of_the_whole(encoder, first):
    wave = torch.randn(640 * 173, generator=torch.Generator().manual_seed(0))
    whole = list(audio_windows(encode_speech(encoder, wave, 173, 25)[None], 2))
    windows = list(spoken_windows(encoder, wave.split(1000), 173, 25, 2, first))
    assert len(windows) == 173 - first
    assert all(map(torch.equal, windows, whole[first:]))


@pytest.mark.parametrize("n_samples", [640, 5000, 200_000])
def test_speech_may_come_in_pieces_that_are_forgotten(n_samples):
    wave = torch.randn(640 * 173 + 5, generator=torch.Generator().manual_seed(0))
    n_frames, asked = len(wave) // 640, []

    def pieces():
        for piece in wave.split(n_samples):
            asked.append(len(piece))
            yield piece.clone()

    encoded = encode_stream(FrameEnergy(), pieces(), n_frames, 25)
    first = next(encoded)
    assert sum(asked) <= 640 * 84 + n_samples  # eight windows of 10 frames, and 4 frames around them
    assert torch.equal(torch.cat([first, *encoded]), encode_speech(FrameEnergy(), wave, n_frames, 25))


def test_windows_are_streamed_while_the_speech_is_encoded():
    asked = []

    def pieces():
        for k in range(100):
            asked.append(k)
            yield torch.full((1, 1), float(k))

    windows = stream_windows(pieces(), 2)
    assert not asked
    assert next(windows).flatten().tolist() == [0, 0, 0, 1, 2]
    assert asked == [0, 1, 2]
    assert list(stream_windows([], 2)) == []
