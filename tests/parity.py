"""Weights, inputs and noise of the parity fixtures, regenerated from names."""

import zlib

import numpy as np
import torch


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
