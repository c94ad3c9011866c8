"""Stand-ins for the authors' files: their names and forms, made-up weights."""

import json
from collections import OrderedDict
from pathlib import Path

import torch
from parity import weight
from torch import nn

from dheads_components.audio_encoders.waveform_gru import WaveformGRU

KEYS = json.loads((Path(__file__).parent / "data" / "parity" / "adagn_rgb.json").read_text())["state_dict_keys"]


def network_state_dict(embed_dim=256, n_window=5):
    """A network of the release, tiny but for what it hears: embeddings of 256."""
    shapes = {**KEYS, "audio_embed.0.weight": [128, n_window * embed_dim]}
    return {key: weight(key, shape) for key, shape in shapes.items()}


class Tree(nn.Module):
    """Holds tensors under dotted names, as the modules of the release do; answers with the noised frame."""

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x_t


def tree_of(state_dict):
    root = Tree()
    for name, tensor in state_dict.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, Tree())
            module = getattr(module, part)
        module.register_parameter(last, nn.Parameter(tensor))
    return root


def save_torchscript_network(path, state_dict):
    torch.jit.script(tree_of(state_dict)).save(str(path))


class OfficialEncoder(nn.Module):
    """The release's audio encoder as its files have it: names of its own, one window a call."""

    def __init__(self, embed_dim=256, scale=1.0):
        super().__init__()
        known = WaveformGRU(embed_dim)
        layers = [known.convs[0]]
        for norm, conv in zip(known.norms, known.convs[1:], strict=True):
            layers += [norm, nn.ReLU(), conv]
        self.encoder = nn.Sequential(*layers)
        self.rnn = known.gru
        self.scale = scale

    def forward(self, window: torch.Tensor, lengths: list[int], init_state: torch.Tensor):
        vectors = self.encoder(window).transpose(1, 2)
        embedding, hidden = self.rnn(vectors, init_state)
        return self.scale * embedding[:, 0], lengths, hidden


def save_torchscript_encoder(path, **changes):
    torch.manual_seed(0)
    torch.jit.script(OfficialEncoder(**changes).eval()).save(str(path))


class ListConfig:
    """Stands for omegaconf's: a class of another package in a checkpoint."""

    def __init__(self):
        self.content = [1, 2, 3]


def save_lightning(path, state_dict, **hyper_parameters):
    """A checkpoint that holds the network twice, and classes that `weights_only` refuses."""
    twice = OrderedDict()
    for prefix in ("unet.", "diffusion.nn_backbone."):
        twice.update({prefix + name: tensor for name, tensor in state_dict.items()})
    hyper = {"channel_mult": ListConfig(), "grayscale_motion": False, "num_head_channels": 16, **hyper_parameters}
    torch.save({"epoch": 3000, "state_dict": twice, "hyper_parameters": hyper, "callbacks": {}}, path)


def release_names(unet):
    """A network of ours as a state dict with the release's names: the inverse of what the importer does."""
    own = unet.state_dict()
    simple = {
        ".conditioning.norm.": ".out_layers.0.", ".conditioning.time.": ".t_emb_layers.1.",
        ".conditioning.audio.": ".audio_emb_layers.1.", ".conv_in.": ".in_layers.2.", ".conv_out.": ".out_layers.3.",
        ".skip.": ".skip_connection.", ".norm_audio.": ".norm_emb.", ".proj.": ".proj_out.",
    }  # fmt: skip
    renamed = {}
    for name, tensor in own.items():
        block, _, rest = name.rpartition(".norm.")
        if rest and f"{block}.conv_in.weight" in own:
            theirs = f"{block}.in_layers.0.{rest}"
        elif rest and f"{block}.kv.weight" in own:
            theirs = f"{block}.norm_x.{rest}"
        elif name.startswith("time_embed."):
            theirs = name.replace("time_embed.", "time_embed.fc.")
        elif name.startswith("audio_embed."):
            theirs = name.replace("audio_embed.mlp.", "audio_embed.")
        elif ".audio." in name and f"{name.rpartition('.audio.')[0]}.kv.weight" in own:
            theirs = name.replace(".audio.", ".audio_emb_proj.")
        else:
            theirs = name
            for ours, official in simple.items():
                theirs = theirs.replace(ours, official)
        renamed[theirs] = tensor
    return renamed
