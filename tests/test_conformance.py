from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributions import install
from torch import Tensor, nn

from dheads_cli import registry
from dheads_cli.conformance import assert_conforms, check, problems
from dheads_cli.conformance.metrics import talking_clip
from dheads_cli.errors import DheadsError

BUILT_IN = [(kind, name) for kind in registry.GROUPS for name in registry.entries(kind)]


@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_what_is_installed_conforms(kind: str, name: str) -> None:
    if wrong := registry.option_errors(kind, name, {}):
        pytest.skip("; ".join(wrong.values()))
    try:
        assert check(kind, name) == []
    except DheadsError as error:  # an optional package or a file is not there
        pytest.skip(str(error))


def test_nothing_of_the_caller_is_changed() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    encoder = registry.build("audio_encoders", "logmel").train()
    torch.set_rng_state(before)
    assert problems("audio_encoders", encoder) == []
    assert torch.equal(torch.get_rng_state(), before)
    assert encoder.training


# Landmark detectors


class Detector:
    """Knows the kit's portrait by its brightness; blank and noise are no faces to it."""

    def __init__(self, **broken: bool) -> None:
        self.broken = broken

    def points(self, image: Any) -> Any:
        height, width = image.shape[:2]
        points = np.full((68, 2), (width / 2, height / 2), np.float32)
        points[36:42, :], points[42:48, :] = (width * 0.3, height * 0.4), (width * 0.7, height * 0.4)
        points[48:68] = (width / 2, height * 0.8)
        return points

    def __call__(self, frames: Any) -> Any:
        if "writes" in self.broken:
            frames[:] = 0
        if "reads_memory" in self.broken and not frames.flags.c_contiguous:
            return np.full((len(frames), 68, 2), np.nan, np.float32)
        found = np.full((len(frames), 68, 2), np.nan, np.float32)
        for k, frame in enumerate(frames):
            if self.all_faces(frame):
                found[k] = self.points(frame)
        if "remembers" in self.broken:
            self.calls = getattr(self, "calls", 0) + 1
            found += self.calls
        if "mirrored" in self.broken:
            found[:, 36:42], found[:, 42:48] = found[:, 42:48].copy(), found[:, 36:42].copy()
        return found.astype(np.float64) if "double" in self.broken else found

    def all_faces(self, image: Any) -> Any:
        smooth = np.abs(np.diff(image.astype(np.int16), axis=1)).mean() < 30
        is_face = image.any() and smooth and "blind" not in self.broken
        return [self.points(image)] if is_face or "sees_ghosts" in self.broken else []


def test_a_good_detector_conforms() -> None:
    assert_conforms("landmark_detectors", Detector())


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("writes", "it changes the frames"),
        ("reads_memory", "frames that are not contiguous"),
        ("mirrored", "not its left eye, right eye and mouth"),
        ("double", "landmarks must be float32 (3, 68, 2), not float64"),
        ("blind", "it finds no face in a portrait"),
        ("sees_ghosts", "all_faces of a blank image must be an empty list"),
        ("sees_ghosts", "noise frames must give NaN"),
        ("remembers", "called again with the same frames, after others"),
    ],
)
def test_a_broken_detector_is_found(broken: str, words: str) -> None:
    assert words in "\n".join(problems("landmark_detectors", Detector(**{broken: True})))


class KnowsAll(Detector):
    """Has landmarks for any clip, as it says."""

    def of_clip(self, clip_id: str, n_frames: int) -> Any:
        return np.zeros((n_frames, 68, 2), np.float32)


def test_a_detector_of_known_clips_must_say_which_it_lacks() -> None:
    assert problems("landmark_detectors", KnowsAll()) == [
        "of_clip must raise UnusableClip for a clip without landmarks, and it returns"
    ]


# Conditioning


class Layer(nn.Module):
    def __init__(self, channels: int, time_dim: int, broken: str) -> None:
        super().__init__()
        self.broken = broken
        self.norm = nn.GroupNorm(16 if broken == "groups" else 32, channels)
        self.time, self.audio = nn.Linear(time_dim, channels), nn.Linear(time_dim, channels)
        for linear in (self.time, self.audio):
            nn.init.zeros_(linear.weight)
            nn.init.constant_(linear.bias, 0.1 if broken == "shifts" else 0)

    def forward(self, h: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        audio = audio.mean(dim=1)
        if self.broken == "mixes":
            audio = audio.mean(dim=0, keepdim=True).expand_as(audio)
        shift = self.time(time) * (self.broken != "timeless") + self.audio(audio) * (self.broken != "deaf")
        out: Tensor = self.norm(h) + shift[:, :, None, None]
        return out[..., 1:] if self.broken == "crops" else out


class Conditioning:
    def __init__(self, broken: str = "") -> None:
        self.broken = broken

    def embed(self, n_window: int, audio_dim: int, time_dim: int) -> nn.Module:
        return nn.Linear(audio_dim, time_dim + 1 if self.broken == "wide" else time_dim)

    def layer(self, channels: int, time_dim: int, audio_dim: int) -> nn.Module:
        return Layer(channels, time_dim, self.broken)


def test_a_good_conditioning_conforms() -> None:
    assert_conforms("conditioning", Conditioning())


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("groups", "does not equal GroupNorm(32, eps 1e-5)"),
        ("shifts", "does not equal GroupNorm(32, eps 1e-5)"),
        ("crops", "a layer must keep the shape"),
        ("wide", "embed must turn [3, 1, 16] into [3, K, 32]"),
        ("deaf", "audio does not reach the output"),
        ("timeless", "time does not reach the output"),
        ("mixes", "depends on the audio of other samples"),
    ],
)
def test_a_broken_conditioning_is_found(broken: str, words: str) -> None:
    assert words in "\n".join(problems("conditioning", Conditioning(broken)))


# Samplers


def one_step(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    x_0: Tensor = denoise(x_t, schedule.timesteps[-1]).x_0
    return x_0.clamp(-1, 1)


def returns_noise(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    return x_t.clamp(-1, 1)


def unclamped(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    x_0: Tensor = denoise(x_t, schedule.timesteps[-1]).x_0
    return x_0


def own_noise(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    return one_step(denoise, x_t + 0.1 * torch.randn(x_t.shape), schedule, noise)


def counts_entries(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    denoise(x_t, 1 if schedule.n_timesteps > 7 else 0)
    return one_step(denoise, x_t, schedule, noise)


def tensor_steps(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    return denoise(x_t, torch.tensor(schedule.timesteps[-1])).x_0.clamp(-1, 1)  # type: ignore[no-any-return]


def goes_up(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    denoise(x_t, schedule.timesteps[0])
    return one_step(denoise, x_t, schedule, noise)


def writes(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    return one_step(denoise, x_t.mul_(0.9), schedule, noise)


def double(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    return one_step(denoise, x_t, schedule, noise).double()


def constant(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    return one_step(denoise, torch.zeros_like(x_t), schedule, noise)


def wants_ten(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    return one_step(denoise, x_t, schedule.respace(10), noise)


def half_noised(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    x_0 = one_step(denoise, x_t, schedule, noise)
    abar = float(schedule.alphas_cumprod[0])
    x_t = abar**0.5 * x_0 + 0.5 * (1 - abar) ** 0.5 * noise(tuple(x_t.shape))
    return denoise(x_t, schedule.timesteps[0]).x_0.clamp(-1, 1)  # type: ignore[no-any-return]


def from_pure_noise(denoise: Any, x_t: Tensor, schedule: Any, noise: Any) -> Tensor:
    return one_step(denoise, x_t / x_t.std(), schedule, noise)


def test_a_good_sampler_conforms() -> None:
    assert_conforms("samplers", one_step)


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (returns_noise, "a denoiser that knows x_0 does not get it back"),
        (unclamped, "where the network says 3, frames reach 3"),
        (own_noise, "it draws from torch's global generator"),
        (own_noise, "called twice with the same noise"),
        (counts_entries, "it asks for steps that the schedule does not have"),
        (tensor_steps, "it asks for steps that the schedule does not have"),
        (goes_up, "it does not go from the highest step down"),
        (writes, "it writes into the x_t it is given"),
        (double, "it gives torch.float64"),
        (constant, "other noise gives the same frames"),
        (half_noised, "at t = 0 with 0.51 times the noise that belongs there"),
        (from_pure_noise, "times the noise that belongs there"),
        (wants_ten, "But it raises ValueError: steps must be from 1 to"),
    ],
)
def test_a_broken_sampler_is_found(sampler: Callable[..., Tensor], words: str) -> None:
    assert words in "\n".join(problems("samplers", sampler))


# Metrics


class Brightness:
    weights: Any = ""

    def __init__(self, broken: str = "") -> None:
        self.broken, self.values = broken, [] if broken != "starts full" else [1.0]

    def update(self, clip: Any, reference: Any) -> Any:
        if self.broken == "writes":
            clip.frames[:] = 0
        if self.broken == "needs a face" and np.isnan(clip.landmarks).any():
            raise ValueError("no face")
        if self.broken == "needs sound" and clip.sound is None:
            raise ValueError("no sound")
        value = float(clip.frames.mean() - reference.frames.mean())
        self.values.append(value)
        if self.broken == "numpy":
            return {"brightness": np.float32(value)}
        if self.broken == "infinite":
            return {"brightness": np.inf}
        return [value] if self.broken == "list" else {"brightness": value, "remark": "lit"}

    def compute(self) -> Any:
        if self.broken == "forgets":
            return {"brightness": self.values.pop()} if self.values else {}
        if self.broken == "silent" or not self.values:
            return {}
        return {"brightness": float("nan") if self.broken == "NaN" else float(np.mean(self.values))}


class NoWeights(Brightness):
    weights = None


class InParts(Brightness):
    def measure(self, clip: Any, reference: Any) -> Any:
        value = float(clip.frames.mean() - reference.frames.mean())
        if self.broken == "measure adds":
            self.values.append(value)
        return (number for number in [value]) if self.broken == "stays here" else value

    def add(self, measured: Any) -> Any:
        value = measured if isinstance(measured, float) else next(measured)
        self.values.append(value)
        return {"brightness": value + (self.broken == "other"), "remark": "lit"}


def test_a_good_metric_conforms() -> None:
    assert_conforms("metrics", Brightness())
    assert_conforms("metrics", InParts())


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (InParts("measure adds"), "measure changes the values; only add may"),
        (InParts("stays here"), "what measure returns can't be pickled"),
        (InParts("other"), "add gives other values for what was measured"),
        (Brightness("starts full"), "compute before the first update must be empty"),
        (Brightness("writes"), "it changes the clip it is given"),
        (Brightness("needs a face"), "is scored or left out, not an error. But it raises ValueError: no face"),
        (Brightness("needs sound"), "is scored or left out, not an error. But it raises ValueError: no sound"),
        (Brightness("numpy"), "'brightness' is float32, not a plain float"),
        (Brightness("infinite"), "update, two clips that differ: 'brightness' is inf"),
        (Brightness("list"), "must return a mapping, not list"),
        (Brightness("forgets"), "compute called twice gives different values"),
        (Brightness("silent"), "compute gives no value after an update"),
        (Brightness("NaN"), "'brightness' is nan"),
        (NoWeights(), "weights must be text, not NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_metric_is_found(metric: Any, words: str) -> None:
    assert words in "\n".join(problems("metrics", metric))


def test_the_kit_s_clip_is_like_a_real_one() -> None:
    clip = talking_clip()
    assert clip.frames.dtype == np.uint8
    assert clip.frames.shape == (20, 64, 64, 3)
    assert clip.landmarks.dtype == np.float32
    assert clip.landmarks.shape == (20, 68, 2)
    assert np.array_equal(clip.identity, clip.frames[0])
    assert clip.sound is not None
    waveform, rate = clip.sound
    assert (waveform.dtype, len(waveform), rate) == (np.float32, 12800, 16000)


# By name


@pytest.fixture
def _asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    source = """
from dheads_cli.errors import DheadsError

def asks():
    raise DheadsError("install it with pip install that")

def fails():
    raise RuntimeError("bug")
"""
    points = {"samplers/asks": "asking_module:asks", "samplers/fails": "asking_module:fails"}
    install(tmp_path, "dheads-asking", "1.0", points, {"asking_module": source})
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.entries.cache_clear()
    yield
    registry.entries.cache_clear()


@pytest.mark.usefixtures("_asking")
def test_a_component_that_asks_the_user_for_something_is_not_broken() -> None:
    with pytest.raises(DheadsError, match="install it with pip install that"):
        check("samplers", "asks")
    assert check("samplers", "fails") == ["can't be built: RuntimeError: bug"]
    assert "did you mean" in check("samplers", "ddim", {"stps": 3})[0]


def test_assert_conforms_tells_everything() -> None:
    with pytest.raises(AssertionError, match="sampler: called twice") as caught:
        assert_conforms("samplers", own_noise)
    assert "global generator" in str(caught.value)
