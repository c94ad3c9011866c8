"""The parity fixtures: what the release gives, and weights, inputs and noise regenerated from names.

`python tests/parity.py` prints how far this project is from each of them, the table of docs/PARITY.md.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

from dheads_cli.model.official import official_losses, official_sample, official_schedule, unet_from_state_dict

FOLDER = Path(__file__).parent / "data" / "parity"
NAMES = ("adagn_rgb", "cross_attention_rgb")
SAMPLES = {"sample": None, "sample_stabilized": 2}  # its noise stream's name -> stabilize_every


def draw(name, shape):
    """z(name, shape): standard normal float32 whose seed is the name's CRC-32."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy(np.asarray(values, np.float32))


def weight(key, shape):
    """The made-up weight of a key: small rows, group norms near 1, biases near 0."""
    z = draw(f"weight:{key}", shape)
    if z.dim() >= 2:
        return z * (0.5 / z[0].numel() ** 0.5)
    return 1 + 0.1 * z if key.endswith("weight") else 0.1 * z


def noise_stream(name):
    """A noise source that draws everything, in order, from one stream."""
    stream = np.random.RandomState(zlib.crc32(f"noise:{name}".encode()))
    return lambda shape: torch.from_numpy(np.asarray(stream.standard_normal(tuple(shape)), np.float32))


class Fixture:
    """One configuration: what the release gave, and the same network here."""

    def __init__(self, name):
        self.facts = json.loads((FOLDER / f"{name}.json").read_text())
        self.arrays = {key: torch.from_numpy(array) for key, array in np.load(FOLDER / f"{name}.npz").items()}
        self.state_dict = {key: weight(key, shape) for key, shape in self.facts["state_dict_keys"].items()}
        self.unet = unet_from_state_dict(self.state_dict, head_dim=16)
        self.identity = draw("input:identity", (2, 3, 32, 32)).clamp(-1, 1)
        self.motion = draw("input:motion", (2, 6, 32, 32)).clamp(-1, 1)
        self.audio = draw("input:audio", (2, 5, 32))

    def forward(self):
        """The network's output on the fixture's inputs."""
        x_t, t = draw("input:x_t", (2, 3, 32, 32)), torch.tensor(self.facts["t"])
        with torch.no_grad():
            return self.unet(x_t, t, self.identity, self.motion, self.audio)

    def losses(self):
        """The terms of the objective."""
        x_0, eps = draw("input:x_0", (2, 3, 32, 32)).clamp(-1, 1), draw("input:eps", (2, 3, 32, 32))
        t, mouth = torch.tensor(self.facts["loss_t"]), torch.tensor(self.facts["mouth_landmarks"])
        return official_losses(self.unet, x_0, eps, t, self.identity, self.motion, self.audio, mouth)

    def sample(self, name, stabilize_every=None):
        """Four frames of 12 steps, with the noise stream of that name."""
        audio = draw("input:audio_sequence", (1, 4, 32))
        return official_sample(self.unet, self.identity[:1], audio, 12, noise_stream(name), stabilize_every)


def tables_of(schedule):
    """A schedule's tables by the release's names."""
    of_x_0, of_x_t = schedule.posterior_mean_weights()
    abar = schedule.alphas_cumprod
    return {
        "timesteps": torch.tensor(schedule.timesteps), "beta": schedule.betas, "alpha_bar": abar,
        "log_beta_tilde_clipped": schedule.posterior_variance.log(), "coef1_x0": (1 / abar).sqrt(),
        "coef2_x0": (1 / abar - 1).sqrt(), "coef1_q": of_x_0, "coef2_q": of_x_t,
    }  # fmt: skip


def report():
    """(what, largest absolute difference, relative difference, values that differ by more than 1e-5) of each fixture.

    The relative difference is ||ours - theirs|| / ||theirs||.
    """

    def compared(what, ours, theirs):
        ours, theirs = torch.as_tensor(ours).double(), torch.as_tensor(theirs).double()
        apart = (ours - theirs).abs()
        relative = (apart.norm() / theirs.norm()).item()
        return what, apart.max().item(), relative, int((apart > 1e-5).sum()), apart.numel()

    for name in NAMES:
        fixture = Fixture(name)
        yield compared(f"{name}, network forward", fixture.forward(), fixture.arrays["forward"])
        losses = fixture.losses()
        for term, theirs in fixture.facts["losses"].items():
            yield compared(f"{name}, loss {term}", losses[term], theirs)
        for stream, every in SAMPLES.items():
            yield compared(f"{name}, {stream}", fixture.sample(stream, every), fixture.arrays[stream])
    stored = np.load(FOLDER / "schedules.npz")
    for n_steps in (1000, 200, 100, 25):
        tables = tables_of(official_schedule(n_steps=n_steps))
        theirs = [torch.from_numpy(stored[f"{n_steps}/{table}"]) for table in tables]
        ours, theirs = (torch.cat([table.double() for table in each]) for each in (tables.values(), theirs))
        yield compared(f"schedule of {n_steps} steps, {len(tables)} tables", ours, theirs)


if __name__ == "__main__":
    print("| what | largest absolute difference | relative difference | more than 1e-5 apart |")
    print("| --- | --- | --- | --- |")
    for what, largest, relative, n_apart, n_all in report():
        print(f"| {what} | {largest:.1e} | {relative:.1e} | {n_apart} of {n_all:,} |")
