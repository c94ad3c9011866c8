"""SyncNet: its file in every form, its shapes, its sound, its crop, and the procedure on a short clip."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dheads_cli import downloads
from dheads_cli.conformance.metrics import talking_clip
from dheads_cli.errors import DheadsError
from dheads_cli.model.sync_curve import sync_of
from dheads_components.metrics.mfcc import mfcc
from dheads_components.metrics.network_files import find
from dheads_components.metrics.sync import Synchrony
from dheads_components.metrics.syncnet import FILE, SIDE_PX, Original, SyncNet, face_crops, read_weights

# python_speech_features 0.6 of `sound()`: windows 0, 3 and 5, the last of which ends in zeros.
CEPSTRA = [
    [18.18496, 29.377, 9.42647, -10.42927, -22.17868, -22.27709, -12.59134, -2.63647, 2.81594, 1.58264, -2.27869,
     -6.36175, -7.60228],
    [19.41023, 12.83309, -34.46353, -38.90005, 2.2537, 29.7869, 14.4634, -11.25685, -12.09935, -0.96922, 0.70977,
     -4.28712, -1.84356],
    [19.46997, 7.03265, -48.08834, -7.94971, 39.01559, 5.65433, -32.7695, -8.75233, 15.47989, -0.17106, -10.33824,
     -2.40901, -2.10178],
]  # fmt: skip


def sound() -> np.ndarray:
    n = np.arange(1200)
    return np.round(8000 * np.sin(n * n / 3000) * np.exp(-n / 900) + 50 * np.cos(n / 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet().eval()


@pytest.fixture(scope="module")
def published(network: SyncNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights in the form of the published file: torch.save's from before torch 1.6, batch counts not kept."""
    path = tmp_path_factory.mktemp("syncnet") / "syncnet_v2.model"
    kept = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    torch.save(kept, path, _use_new_zipfile_serialization=False)
    return path


def test_cepstra_are_those_of_python_speech_features() -> None:
    found = mfcc(sound())
    assert found.shape == (6, 13)
    np.testing.assert_allclose(found[[0, 3, 5]], CEPSTRA, atol=1e-4)


def test_silence_has_finite_cepstra() -> None:
    assert np.isfinite(mfcc(np.zeros(800, np.float32))).all()


def test_the_published_form_and_its_conversions_give_the_same_network(
    network: SyncNet, published: Path, tmp_path: Path
) -> None:
    torch.save({"state_dict": network.state_dict()}, tmp_path / "x.pt")
    save_file({f"__S__.{name}": tensor for name, tensor in network.state_dict().items()}, tmp_path / "x.safetensors")
    for path in (published, tmp_path / "x.pt", tmp_path / "x.safetensors"):
        read = read_weights(path)
        assert not read.training
        for name, tensor in network.state_dict().items():
            assert torch.equal(read.state_dict()[name], tensor), (path, name)


def test_other_files_are_refused_by_what_differs(network: SyncNet, tmp_path: Path) -> None:
    tensors = dict(network.state_dict())
    save_file({**tensors, "netfclip.3.bias": torch.zeros(256)}, tmp_path / "x.safetensors")
    with pytest.raises(DheadsError, match=r"not SyncNet's weights: 1 tensors do not fit, netfclip\.3\.bias first"):
        read_weights(tmp_path / "x.safetensors")
    save_file({**tensors, "netfclip.3.bias": torch.full((1024,), torch.nan)}, tmp_path / "x.safetensors")
    with pytest.raises(DheadsError, match=r"netfclip\.3\.bias is not finite"):
        read_weights(tmp_path / "x.safetensors")
    with pytest.raises(DheadsError, match="no such file; it should be the weights of metric 'sync'"):
        Synchrony(weights=str(tmp_path / "none.model"))


def test_without_its_weights_syncnet_says_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    said = r"needs syncnet_v2\.model, which is not here: .*robots\.ox\.ac\.uk"
    with downloads.none(), pytest.raises(DheadsError, match=said):
        Synchrony(network="syncnet")


@torch.no_grad()
def test_frames_at_once_give_the_embeddings_of_their_windows(network: SyncNet) -> None:
    frames = torch.rand(6, 3, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(0)) * 255
    together = network.lips(frames)
    assert together.shape == (2, 1024)
    torch.testing.assert_close(network.lips(frames[1:]), together[1:], atol=1e-4, rtol=1e-4)
    assert network.sound(torch.randn(3, 13, 20)).shape == (3, 1024)


def test_the_crop_is_the_authors_and_gray_beyond_the_frame() -> None:
    frame = np.zeros((1, 200, 200, 3), np.uint8)
    frame[0, :, :100, 0] = 250  # red on the left
    place = np.full((68, 2), 100.0)
    place[0], place[16], place[8], place[19] = (60, 100), (140, 100), (100, 150), (100, 80)  # 80 wide, 70 high
    crop = face_crops(frame, place)[0]
    # The box: 80 wide, 91 high; half 45.5, its centre at 104.5, so rows from 59 on and 63.7 columns to either side.
    assert crop.shape == (SIDE_PX, SIDE_PX, 3)
    assert crop[50, 100, 2] == 250  # the last channel is red: BGR
    assert crop[50, 124, 2] == 0
    assert (crop[:, :, 1] == 0).all()
    moved = face_crops(frame, place + np.array([90, 0]))[0]
    inside = round((200 - (190 - 63.7)) / 127.4 * SIDE_PX)
    assert (moved[:, inside + 2 :] == 110).all()
    assert (moved[:, : inside - 2] < 10).all()


class Told(SyncNet):
    """Its embeddings are written in the picture and in the sound: the red of a window's first frame, the energy."""

    def lips(self, frames: torch.Tensor) -> torch.Tensor:
        return frames[:-4, 2, 112, 112][:, None] / 10 - 20

    def sound(self, ceps: torch.Tensor) -> torch.Tensor:
        return ceps[:, 0, :4].mean(dim=1, keepdim=True) - 20


@pytest.mark.parametrize("ahead", [0, 3])
def test_a_clip_of_29_frames_has_the_offset_of_its_sound(published: Path, ahead: int) -> None:
    original = Original(find(FILE, str(published)))
    original.network = Told()
    clip = talking_clip("a", n_frames=29)
    levels = np.random.default_rng(0).uniform(-4, 4, 29 + ahead)  # of the energy, about 20
    frames = np.zeros((29, 64, 64, 3), np.uint8)
    frames[..., 0] = np.round(10 * (20 + levels[:29]))[:, None, None]
    noise = np.random.default_rng(1).uniform(-1, 1, (29 + ahead, 640))
    loud = np.exp((20 + levels) / 2) / np.sqrt(400 / 3 * (1 + 0.97**2) / 2) / 32768  # noise of that energy
    wave = (noise * loud[:, None]).astype(np.float32).ravel()[640 * ahead :]
    lips, sound = original(frames, 25, clip.landmarks.mean(axis=0), wave, 16000)
    assert len(lips) == len(sound) == 24  # the authors' code leaves out the last window
    assert sync_of(lips, sound, zeros_beyond=original.zeros_beyond).offset == ahead
    assert original(frames[:5], 25, clip.landmarks.mean(axis=0), wave, 16000) is None


def test_the_metric_says_which_network_it_uses_and_names_its_values_so(
    published: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Synchrony().weights.startswith("sync-grid (this project's, not SyncNet)")
    metric = Synchrony(weights=str(published))
    assert metric.weights.startswith(f"NOT the published SyncNet: {published} sha256 ")  # its weights are drawn
    metric.network.network = Told()  # type: ignore[attr-defined]
    clip = talking_clip("a", n_frames=29)
    values = metric.update(clip, clip)
    assert {"AV offset [frames]", "AV confidence", "LSE-D", "AV agreement"} == values.keys()
    assert metric.compute() == {**values, "AV in step": float(abs(values["AV offset [frames]"]) <= 1)}
    short = talking_clip("a", n_frames=20)  # their code leaves out the last window, so it takes 21
    assert "shorter than" in str(metric.update(short, short)["AV note"])
