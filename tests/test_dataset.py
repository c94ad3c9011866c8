"""The training set: batches follow from the seed and the step, and every frame is the one the method asks for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from corpus import SIZE, make_corpus

from dheads_cli import registry
from dheads_cli.data.clip_memory import ClipMemory
from dheads_cli.data.dataset import TrainingSet, Views
from dheads_cli.data.hearing import Versions
from dheads_cli.errors import DheadsError
from dheads_cli.model.speech import encode_speech
from dheads_cli.run.batch_parts import Part, cut

PLAIN = {
    "n_motion_frames": 2, "audio_context": 2, "mouth_margin": 0.0, "motion_noise_max": 0.0, "motion_drop": 0.0,
    "flip": 0.0, "colour_jitter": 0.0, "warp": 0.0, "speaker_balance": 0.5,
}  # fmt: skip


NOISIER = Versions(3, {"noise": (1.0, 1.0)}, seed=0)


class Loudness:
    """Embedding k is frame k's loudness and its number."""

    sample_rate, embed_dim, stride_frames, context_frames = 16000, 1, 10, 2

    def __call__(self, waveform, n_frames):
        return waveform.abs().view(len(waveform), n_frames, -1).mean(-1, keepdim=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus") / "c", {"train": 4, "val": 1})


def training_set(
    folder: Path, encoder=None, frozen=True, size=SIZE, cache=1e9, seed=0, keep=None, versions=None, targets=1,
    **changes,
):
    return TrainingSet(
        folder, "train", encoder or Loudness(), frozen=frozen, size=size, views=Views(**{**PLAIN, **changes}),
        cache_bytes=cache, seed=seed, keep=keep, versions=versions, targets_per_clip=targets,
    )  # fmt: skip


def test_a_batch_follows_from_seed_and_step_alone(folder):
    first = training_set(folder, flip=0.5, colour_jitter=0.5)
    first.batch(1, 3)
    second = training_set(folder, flip=0.5, colour_jitter=0.5, cache=0)  # decodes every clip anew
    a, b = first.batch(7, 5), second.batch(7, 5)
    assert torch.equal(a.x_0, b.x_0)
    assert torch.equal(a.audio, b.audio)
    assert not torch.equal(a.x_0, first.batch(8, 5).x_0)
    assert not torch.equal(a.x_0, training_set(folder, seed=1, flip=0.5, colour_jitter=0.5).batch(7, 5).x_0)


CHANGED = {
    "flip": 0.5, "colour_jitter": 0.5, "warp": 0.5, "motion_drop": 0.3, "motion_noise_max": 0.7,
    "mouth_warp": 0.5, "clutter": 0.5, "rollout_share": 1.0, "rollout_frames": 2,
}  # fmt: skip


@pytest.mark.parametrize("frozen", [True, False])
def test_a_part_of_a_batch_is_that_of_the_whole(folder, frozen):
    encoder = Loudness() if frozen else registry.build("audio_encoders", "logmel", {"embed_dim": 8})
    data = training_set(folder, encoder, frozen, versions=NOISIER, targets=2, **CHANGED)
    whole = data.batch(7, 6)
    for part in (Part(0, 3, 6), Part(3, 3, 6)):
        for name, wanted in vars(cut(whole, part)).items():
            made = getattr(data.batch(7, 6, part.samples), name)
            wanted, made = ([each] if isinstance(each, torch.Tensor) else each for each in (wanted, made))
            assert (made is None) == (wanted is None), name
            assert all(map(torch.equal, made or [], wanted or [])), name


class Forgetful(ClipMemory):
    """Keeps nothing, as where other threads ask for other clips meanwhile."""

    decoded = 0

    def clip(self, hearing, ref):
        found = super().clip(hearing, ref)
        self.held.clear()
        self.decoded += 1
        return found


def test_a_clip_is_decoded_once_for_all_its_targets(folder):
    data = training_set(folder, targets=3, versions=NOISIER)
    data.memory = Forgetful(0)
    data.batch(1, 6)
    assert 1 <= data.memory.decoded <= 2


def test_several_targets_are_drawn_from_each_clip(folder):
    data = training_set(folder, targets=4, speaker_balance=0.0)
    colours = torch.tensor([data.clip(ref).frames[0, 0, 0].tolist() for ref in data.clips])
    n_clips = []
    for step in range(20):
        batch = data.batch(step, 12)
        corners = ((batch.x_0[:, :, 0, 0] + 1) * 127.5).round()
        found = torch.cdist(corners, colours.float()).argmin(dim=1)
        assert torch.equal(found, found[::4].repeat_interleave(4))
        n_clips.append(len(set(found.tolist())))
        assert len({target.numpy().tobytes() for target in batch.audio[:4]}) > 1  # other frames of it
    assert max(n_clips) == 3


def test_target_motion_and_sound_belong_together(folder):
    data = training_set(folder)
    clips = {ref.id: data.clip(ref) for ref in data.clips}
    batch = data.batch(1, 24)
    for i in range(24):
        target = ((batch.x_0[i] + 1) * 127.5).round().permute(1, 2, 0).numpy()
        places = [
            (clip, k)
            for clip in clips.values()
            for k in range(20)
            if np.array_equal(clip.frames[k], target) and torch.equal(clip.sound[k], batch.audio[i, 2])
        ]
        clip, k = places[0]
        window = [min(max(j, 0), 19) for j in range(k - 2, k + 3)]
        assert torch.equal(batch.audio[i], clip.sound[window])
        identity = ((batch.identity[i] + 1) * 127.5).round().permute(1, 2, 0).numpy()
        for back, motion in zip((2, 1), batch.motion, strict=True):
            shown = ((motion[i] + 1) * 127.5).round().permute(1, 2, 0).numpy()
            assert np.array_equal(shown, clip.frames[k - back] if k >= back else identity)


def test_dropped_motion_frames_are_the_identity_frame(folder):
    batch = training_set(folder, motion_drop=1.0).batch(1, 8)
    for motion in batch.motion:
        assert torch.equal(motion, batch.identity)


def test_a_mirrored_sample_is_mirrored_throughout(folder):
    plain, mirrored = training_set(folder).batch(3, 4), training_set(folder, flip=1.0).batch(3, 4)
    for a, b in ((plain.x_0, mirrored.x_0), (plain.mouth_mask, mirrored.mouth_mask)):
        assert torch.equal(a.flip(-1), b)


def test_a_trained_encoder_is_given_the_sound_of_its_window(folder):
    encoder = registry.build("audio_encoders", "logmel", {"embed_dim": 8})
    data = training_set(folder, encoder, frozen=False)
    batch = data.batch(2, 6)
    n_frames = batch.audio_index.shape[1] + 2 * encoder.context_frames
    with torch.no_grad():
        pieces = encoder(batch.audio, n_frames)
        windows = pieces.gather(1, batch.audio_index[:, :, None].expand(-1, -1, 8))
        frozen = TrainingSet(
            folder, "train", encoder, frozen=True, size=SIZE, views=Views(**PLAIN), cache_bytes=1e9, seed=0
        )
        torch.testing.assert_close(windows, frozen.batch(2, 6).audio, atol=1e-3, rtol=1e-3)  # float16


def test_motion_noise_is_uniform_up_to_its_maximum(folder):
    levels = training_set(folder, motion_noise_max=0.7).batch(1, 400).motion_noise
    assert 0 <= levels.min() < 0.05
    assert 0.65 < levels.max() <= 0.7


def test_a_small_cache_holds_few_clips(folder):
    data = training_set(folder, cache=100_000)
    for step in range(4):
        data.batch(step, 4)
    assert sum(clip.n_bytes for clip in data.memory.held.values()) <= 100_000


@pytest.mark.parametrize("frozen", [True, False])
def test_all_versions_are_heard(folder, frozen):
    encoder = Loudness() if frozen else registry.build("audio_encoders", "logmel", {"embed_dim": 8})
    data = training_set(folder, encoder, frozen, versions=NOISIER)
    data.batch(0, 240)
    clean = training_set(folder, encoder, frozen).batch(0, 1).audio
    assert data.batch(0, 1).audio.shape == clean.shape
    assert len({tuple(data.sound(data.clips[0], version).flatten().tolist()) for version in range(4)}) == 4
    heard = [set(clip.augmented) for clip in data.memory.held.values()]
    assert heard == [{1, 2, 3}] * 4


def test_augmented_sound_is_that_of_the_target_s_frames(folder):
    data = training_set(folder, versions=NOISIER)
    batch = data.batch(5, 60)
    counts = [0] * 4
    for i in range(60):
        target = ((batch.x_0[i] + 1) * 127.5).round().permute(1, 2, 0).numpy()
        found = {
            version
            for ref in data.clips
            for k in range(20)
            for version in range(4)
            if np.array_equal(data.clip(ref).frames[k], target)
            and torch.equal(data.sound(ref, version)[k], batch.audio[i, 2])
        }
        counts[min(found)] += 1
    assert sum(counts) == 60
    assert min(counts) >= 5


def test_versions_count_for_the_memory_they_take(folder):
    encoder = registry.build("audio_encoders", "logmel", {"embed_dim": 8})
    data = training_set(folder, encoder, False, versions=NOISIER)
    data.batch(0, 40)
    assert data.memory.n_bytes == sum(clip.n_bytes for clip in data.memory.held.values())
    small = training_set(folder, encoder, False, cache=300_000, versions=NOISIER)
    for step in range(4):
        small.batch(step, 4)
        assert small.memory.n_bytes == sum(clip.n_bytes for clip in small.memory.held.values()) <= 300_000


def test_speakers_are_balanced(folder):
    data = training_set(folder, speaker_balance=1.0)
    by_speaker: dict[str, float] = {}
    for ref, probability in zip(data.clips, data.probabilities, strict=True):
        by_speaker[ref.speaker] = by_speaker.get(ref.speaker, 0) + probability
    assert all(share == pytest.approx(1 / len(by_speaker)) for share in by_speaker.values())


def test_another_size_is_told_how_to_mend_it(folder):
    with pytest.raises(DheadsError, match=r"holds 32 px faces, but model\.size is 64: preprocess again with --size 64"):
        training_set(folder, size=64)


def test_sound_of_another_rate_is_refused(folder):
    encoder = Loudness()
    encoder.sample_rate = 8000
    with pytest.raises(DheadsError, match=r"its sound has 16000 Hz, but model\.audio_encoder takes 8000"):
        training_set(folder, encoder)


def test_a_warp_is_the_same_in_all_frames_and_takes_the_mouth_box_along(folder):
    still, warped = training_set(folder), training_set(folder, warp=0.5)
    picture = np.random.default_rng(0).integers(0, 256, (20, SIZE, SIZE, 3), np.uint8)
    picture = np.broadcast_to(picture[:1], picture.shape)
    for data in (still, warped):
        for ref in data.clips:
            data.clip(ref).frames = picture
    a, b = still.batch(1, 8), warped.batch(1, 8)
    assert torch.equal(b.x_0, b.identity)
    assert torch.equal(b.x_0, b.motion[0])
    assert not torch.equal(a.x_0, b.x_0)
    assert not torch.equal(a.mouth_mask, b.mouth_mask)


def test_another_mouth_is_shown_wherever_the_identity_frame_is_and_nowhere_else(folder):
    still, other = (training_set(folder, motion_drop=0.5, mouth_warp=strength) for strength in (0.0, 1.0))
    pictures = np.random.default_rng(0).integers(0, 256, (20, SIZE, SIZE, 3), np.uint8)
    for data in (still, other):
        for ref in data.clips:
            data.clip(ref).frames = pictures
    stood_in = 0
    for step in range(12):
        a, b = still.batch(step, 1), other.batch(step, 1)
        assert torch.equal(a.x_0, b.x_0)
        assert not torch.equal(a.identity, b.identity)
        for before, after in zip(a.motion, b.motion, strict=True):
            is_identity = torch.equal(before, a.identity)
            stood_in += is_identity
            assert torch.equal(after, b.identity if is_identity else before)
    assert 2 <= stood_in <= 22


def test_encoders_see_the_windows_of_the_frame_loop(folder):
    data = training_set(folder)
    stored = data.corpus.load(data.clips[0])
    torch.testing.assert_close(
        data.clip(data.clips[0]).sound, encode_speech(Loudness(), torch.from_numpy(stored.waveform), 20, 25),
        atol=0, rtol=2**-11,  # rounded to float16
    )  # fmt: skip
