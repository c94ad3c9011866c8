"""The frame loop: what each frame is shown, and that a clip does not depend on its neighbours in the batch."""

import pytest
import torch
from torch import nn

from dheads_cli.model.diffusion import Denoised, cosine_schedule
from dheads_cli.model.generate import Continuity, NoiseStreams, generate, to_uint8
from dheads_cli.model.motion_frames import stack_motion

SCHEDULE = cosine_schedule(100)


class Recorder(nn.Module):
    """Stands for a U-Net: notes what it is shown and predicts no change to the identity frame."""

    n_motion_frames, grayscale_motion, motion_noise_per_frame = 2, False, False

    def __init__(self):
        super().__init__()
        self.motion, self.audio, self.level = [], [], []

    def forward(self, x_t, t, identity, motion, audio, level, controls):
        self.motion.append(motion)
        self.audio.append(audio)
        self.level.append(level)
        return torch.zeros_like(x_t)


def counting_sampler(start=0.0):
    """A sampler whose n-th frame is filled with n / 10."""
    count = [start]

    def sample(denoise, x_t, schedule, noise):
        assert isinstance(denoise(x_t, 5), Denoised)
        count[0] += 0.1
        return torch.full_like(x_t, count[0])

    return sample


def frames_of(unet, sampler, n=4, seeds=(0,), **continuity):
    identity = torch.full((len(seeds), 3, 8, 8), -1.0)
    windows = [torch.full((len(seeds), 5, 2), float(k)) for k in range(n)]
    return generate(
        unet, SCHEDULE, sampler, "identity_residual", identity, windows, continuity=Continuity(**continuity),
        noise=NoiseStreams(seeds, torch.device("cpu")),
    )  # fmt: skip


def test_motion_frames_are_the_last_drawn_oldest_first_after_copies_of_the_identity():
    unet = Recorder()
    list(frames_of(unet, counting_sampler()))
    shown = [[round(motion[0, 3 * i].mean().item(), 4) for i in range(2)] for motion in unet.motion]
    assert shown == [[-1, -1], [-1, 0.1], [0.1, 0.2], [0.2, 0.3]]


def test_frame_k_hears_window_k():
    unet = Recorder()
    list(frames_of(unet, counting_sampler()))
    assert [audio.mean().item() for audio in unet.audio] == [0, 1, 2, 3]


def test_motion_noise_has_its_level_and_the_network_is_told():
    unet = Recorder()
    list(frames_of(unet, counting_sampler(), n=1, motion_noise=0.5))
    noise = unet.motion[0] + 1
    assert 0.4 < noise.std().item() < 0.6
    assert unet.level[0].tolist() == [0.5]


def test_a_warm_start_begins_from_the_last_frame_at_its_level_of_noise():
    given = []

    def sampler(denoise, x_t, schedule, noise):
        given.append((x_t, schedule))
        denoise(x_t, schedule.timesteps[-1])
        return torch.full_like(x_t, 0.5)

    list(frames_of(Recorder(), sampler, n=3, warm_start=0.4))
    cold, warm = given[0], given[1]
    assert cold[1].timesteps == SCHEDULE.timesteps
    assert warm[1].timesteps == tuple(range(40))
    abar = SCHEDULE.alphas_cumprod[39].item()
    noise = (warm[0] - abar**0.5 * 0.5) / (1 - abar) ** 0.5  # of the same streams as pure noise would be
    assert cold[0].std() == pytest.approx(1, abs=0.15)
    assert noise.std() == pytest.approx(1, abs=0.15)
    assert not torch.equal(given[1][0], given[2][0])


def test_a_warm_start_at_the_top_is_all_but_a_cold_one():
    def second_x_t(**continuity):
        given = []

        def sampler(denoise, x_t, schedule, noise):
            given.append(x_t)
            return torch.full_like(x_t, 0.5)

        list(frames_of(Recorder(), sampler, n=2, **continuity))
        return given[1]

    torch.testing.assert_close(second_x_t(warm_start=1.0), second_x_t(), atol=1e-3, rtol=0)


def test_stabilizing_shows_the_identity_in_the_oldest_motion_frame_s_place_for_one_frame():
    unet = Recorder()
    list(frames_of(unet, counting_sampler(), n=6, stabilize_every=3))
    shown = [[round(motion[0, 3 * i].mean().item(), 4) for i in range(2)] for motion in unet.motion]
    assert shown == [[-1, -1], [-1, 0.1], [0.1, 0.2], [-1, 0.3], [0.3, 0.4], [0.4, 0.5]]


def test_stabilizing_needs_no_motion_frames():
    unet = Recorder()
    unet.n_motion_frames = 0
    frames = list(frames_of(unet, counting_sampler(), n=3, stabilize_every=1))
    assert len(frames) == 3


def test_an_anchored_frame_is_what_the_next_one_sees():
    unet = Recorder()
    frames = list(frames_of(unet, counting_sampler(), n=3, anchor=1.0))  # the identity frame is -1 all over
    for seen in (*frames, *unet.motion):
        torch.testing.assert_close(seen, torch.full_like(seen, -1))


def test_frames_come_one_by_one():
    unet = Recorder()
    stream = frames_of(unet, counting_sampler())
    next(stream)
    assert len(unet.motion) == 1


def test_a_clip_does_not_depend_on_its_batch():
    def sampler(denoise, x_t, schedule, noise):
        return 0.5 * x_t + 0.5 * noise(tuple(x_t.shape))

    alone = list(frames_of(Recorder(), sampler, seeds=(7,)))
    together = list(frames_of(Recorder(), sampler, seeds=(3, 7)))
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a[0], b[1])


def test_no_motion_frames_are_no_channels():
    assert stack_motion([], torch.zeros(2, 3, 8, 8), False).shape == (2, 0, 8, 8)
    assert stack_motion([torch.zeros(2, 3, 8, 8)] * 2, torch.zeros(2, 3, 8, 8), True).shape == (2, 2, 8, 8)


def test_frames_become_bytes():
    frame = torch.tensor([-2.0, -1.0, 0.0, 1.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert to_uint8(frame)[0, :, :, 0].tolist() == [[0, 0], [128, 255]]
