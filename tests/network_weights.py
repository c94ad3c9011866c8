"""Files of networks of the right make with weights that nobody published: what metrics do with them can be tried."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn


class LogitsOfVideo(nn.Module):
    """Takes video as the I3D of FVD does; its 400 logits are sines of the mean level of each channel."""

    def forward(self, video: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = True) -> Tensor:
        assert rescale
        assert resize
        assert return_features
        levels = video.mean(dim=(2, 3, 4)) / 255
        return torch.sin(levels @ torch.linspace(1, 40, 1200).reshape(3, 400))


def i3d_file(folder: Path) -> Path:
    """TorchScript that takes what I3D takes."""
    path = folder / "video.pt"
    torch.jit.script(LogitsOfVideo()).save(str(path))  # type: ignore[no-untyped-call]
    return path


def inception_file(folder: Path, old_format: bool = True) -> Path:
    """A state dict of Inception with random numbers, by default as torch before 1.6 wrote files."""
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Untrained(inception.FeatureExtractorInceptionV3):  # type: ignore[misc,name-defined]
        def load_state_dict(self, state: object) -> None:
            pass

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    torch.manual_seed(0)
    network = Untrained("inception-v3-compat", ["2048"], feature_extractor_weights_path=nothing)
    # sqrt(6) makes of torch's own first weights Kaiming's, by which features neither fade nor grow over the layers
    state = network.state_dict()
    state |= {name: tensor * 6**0.5 for name, tensor in state.items() if name.endswith("conv.weight")}
    path = folder / "inception.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not old_format)
    return path


def alexnet_file(folder: Path) -> Path:
    """AlexNet's convolutions with random numbers, by torchvision's names."""
    models = pytest.importorskip("torchvision.models")
    pytest.importorskip("lpips")
    torch.manual_seed(0)
    state = models.alexnet(weights=None).features.state_dict()
    path = folder / "alexnet.pth"
    torch.save({f"features.{name}": tensor for name, tensor in state.items()}, path)
    return path
