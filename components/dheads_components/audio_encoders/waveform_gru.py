"""The paper's audio encoder: convolutions over the raw waveform, and a GRU that remembers the recording so far."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dheads_cli.errors import DheadsError

RATE_HZ = 16000
WINDOW, BEFORE = 3200, 1280  # samples of an embedding's window (0.2 s), and how many of them come before its frame
REACH_FRAMES = 3  # that a window extends beyond its frame on either side at up to 30 fps; at 25 it is 2

# filters, kernel, stride, padding; a window's lengths are 3200, 200, 100, 50, 25, 5, 1
CONVS = (
    (16, 80, 16, 32),
    (32, 4, 2, 1),
    (64, 4, 2, 1),
    (128, 4, 2, 1),
    (256, 10, 5, 3),
    (256, 5, 5, 0),
)
N_LAYERS = 2  # of the GRU


class WaveformGRU(nn.Module):
    """Raw sound to one embedding a frame, with a memory of all sound before; trains with the model, needs no weights.

    Embedding k comes from the 0.2 s of 16 kHz sound that begin 1280 samples before frame k (silence beyond the
    recording's ends): six convolutions, each but the last with batch norm and ReLU, make one vector of it, and that is
    the k-th step of a GRU of two layers. At 25 fps windows are 640 samples apart, as in the authors' release; at
    another rate frame k begins at sample round(k / fps * 16000), and the window keeps its 0.2 s. With embed_dim 256
    there are 1,490,896 parameters.

    The encoder is stateful (`dheads_cli.protocols.StatefulAudioEncoder`): through a recording the GRU's state is
    carried from frame to frame, so streaming equals batch. Training sees short pieces, each from a fresh state, that
    begin context_frames (history_frames + 3) before the first frame whose embedding is used, in silence where that is
    before the clip.

    Keys: convs.0 ... convs.5, norms.0 ... norms.4 (of the first five), gru.

    Args:
        embed_dim: D, the GRU's width.
        history_frames: frames that training lets the GRU hear before those whose embeddings are used, beyond the 3
            that a window may reach; 9 are 0.36 s at 25 fps. Each more costs a training sample two windows.
    """

    sample_rate = RATE_HZ
    stride_frames = 60  # with 12 of context a whole number of samples at 24, 25, 30, 50 and 60 fps

    def __init__(self, embed_dim: int = 256, history_frames: int = 9) -> None:
        super().__init__()
        if embed_dim < 1 or history_frames < 0:
            raise ValueError(
                f"embed_dim must be from 1 and history_frames from 0, not {embed_dim} and {history_frames}"
            )
        self.embed_dim = embed_dim
        self.context_frames = history_frames + REACH_FRAMES
        widths = [1, *(filters for filters, *_ in CONVS)]
        self.convs = nn.ModuleList(
            nn.Conv1d(width, filters, kernel, stride, padding)
            for width, (filters, kernel, stride, padding) in zip(widths, CONVS, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(filters) for filters in widths[1:-1])
        self.gru = nn.GRU(widths[-1], embed_dim, N_LAYERS, batch_first=True)

    def forward(self, waveform: Tensor, n_frames: int) -> Tensor:
        """float32 [N, T] -> [N, F, D], from a fresh state, with silence around."""
        return self.steps(cut_windows(waveform, n_frames, 0, n_frames), None)[0]

    def continue_from(self, waveform: Tensor, n_frames: int, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """float32 [N, T] of F frames, state [2, N, D] -> [N, F - 2 context_frames, D] of the middle, state after it."""
        return self.steps(cut_middle(waveform, n_frames, self.context_frames), state)

    def steps(self, windows: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """One GRU step a window: [N, F, 3200], [2, N, D] -> [N, F, D], [2, N, D]; None is zeros."""
        with torch.autocast(windows.device.type, enabled=False):
            h = windows.float().flatten(0, 1)[:, None]  # [N F, 1, 3200]
            for conv, norm in zip(self.convs, self.norms, strict=False):
                h = F.relu(norm(conv(h)))
            vectors = self.convs[-1](h).view(*windows.shape[:2], -1)  # [N, F, 256]
            embeddings, state = self.gru(vectors, state)
        assert state is not None
        return embeddings, state


def cut_windows(waveform: Tensor, n_frames: int, first: int, count: int) -> Tensor:
    """The 0.2 s of each of some frames; silence beyond the ends.

    Args:
        waveform: [N, T] at 16 kHz, spanning n_frames video frames.
        n_frames: video frames F in it.
        first: the first frame wanted.
        count: frames wanted.

    Returns:
        [N, count, 3200]; a window begins 1280 samples before its frame.
    """
    per_frame = waveform.shape[1] / n_frames
    begins = torch.tensor([round(k * per_frame) for k in range(first, first + count)], device=waveform.device)
    padded = F.pad(waveform, (BEFORE, WINDOW - BEFORE))
    return padded[:, begins[:, None] + torch.arange(WINDOW, device=waveform.device)]


def cut_middle(waveform: Tensor, n_frames: int, context_frames: int) -> Tensor:
    """cut_windows of all frames but the context_frames at either end, which hold the sound that windows reach into.

    Raises:
        DheadsError: a frame is so short that windows reach further.
    """
    per_frame = waveform.shape[1] / n_frames
    reach = math.ceil(max(BEFORE, WINDOW - BEFORE - per_frame) / per_frame)
    if context_frames < reach:
        raise DheadsError(
            f"at {RATE_HZ / per_frame:.4g} fps the audio encoder's windows reach {reach} frames beyond their own, but "
            f"its context_frames is {context_frames}: add {reach - context_frames} to its history_frames, or lower fps"
        )
    return cut_windows(waveform, n_frames, context_frames, n_frames - 2 * context_frames)
