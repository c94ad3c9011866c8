"""Stand-ins for the authors' files: their names and forms, made-up weights."""

import json
from collections import OrderedDict
from pathlib import Path

import torch
from parity import draw, weight
from torch import nn

from dheads_cli.model.official import unet_of
from dheads_cli.model.official_fit import fit_state_dict, ours
from dheads_components.audio_encoders.waveform_gru import WaveformGRU

KEYS = json.loads((Path(__file__).parent / "data" / "parity" / "adagn_rgb.json").read_text())["state_dict_keys"]


def network_state_dict(embed_dim=256, n_window=5):
    """A network of the release, tiny but for what it hears: embeddings of 256."""
    shapes = {**KEYS, "audio_embed.0.weight": [128, n_window * embed_dim]}
    return {key: weight(key, shape) for key, shape in shapes.items()}


class Tree(nn.Module):
    """Holds tensors under dotted names, as the modules of the release do."""

    def __init__(self, state_dict):
        super().__init__()
        for name, tensor in state_dict.items():
            *path, last = name.split(".")
            module = self
            for part in path:
                if part not in dict(module.named_children()):
                    module.add_module(part, Tree({}))
                module = getattr(module, part)
            module.register_parameter(last, tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor))


class ReleasedNetwork(Tree):
    """A network as the release's TorchScript has it: its names, and called as it is called."""

    def __init__(self, state_dict):
        unet = unet_of(fit_state_dict(state_dict, 16, audio_dim=256)).eval()
        weights = dict(unet.named_parameters())
        super().__init__({name: weights[ours(name)] for name in state_dict})
        self.__dict__["unet"] = unet  # out of nn.Module's sight: what is saved has the release's names

    def forward(self, x_t, t, x_id, motion_frames, audio_emb):
        return self.unet(x_t, t, x_id, motion_frames, audio_emb)


def network_inputs():
    """x_t, t, x_Id, motion frames and audio window for network_state_dict's network."""
    shapes = {"x_t": (1, 3, 32, 32), "identity": (1, 3, 32, 32), "motion": (1, 6, 32, 32), "audio": (1, 5, 256)}
    x_t, identity, motion, audio = (draw(f"input:{name}", shape) for name, shape in shapes.items())
    return x_t, torch.tensor([871]), identity, motion, audio


def save_torchscript_network(path, state_dict):
    with torch.no_grad():
        torch.jit.trace(ReleasedNetwork(state_dict), network_inputs(), check_trace=False).save(str(path))


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
