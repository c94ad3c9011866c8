"""A log-mel encoder that trains with the model and needs no weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram

N_FFT, HOP, N_MELS = 400, 160, 80
N_COLUMNS = 20  # of the spectrogram for each frame: 0.2 s, the paper's window
REACH = (N_COLUMNS - 1) * HOP + N_FFT  # samples that a frame's columns are made of, 0.215 s
FLOOR = 1e-5


class LogMel(nn.Module):
    """80-bin log-mel of the 0.2 s around each frame, through a small MLP.

    Embedding k is made of 20 columns, 10 ms apart, of which the eleventh is centred on the middle of frame k: of the
    sound from 112.5 ms before that middle to 102.5 ms after it, silence beyond the window. context_frames = 7 covers
    it at up to 60 fps. Columns lie from the frame's middle and not on a grid of their own, so that an embedding is the
    same wherever a piece of the recording begins, at any frame rate.

    Args:
        embed_dim: D.
        hidden_dim: width of the MLP.
    """

    sample_rate = 16000
    stride_frames = 100
    context_frames = 7

    def __init__(self, embed_dim: int = 256, hidden_dim: int = 512) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.mel = MelSpectrogram(self.sample_rate, n_fft=N_FFT, hop_length=HOP, n_mels=N_MELS, center=False)
        self.mlp = nn.Sequential(
            nn.Linear(N_MELS * N_COLUMNS, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, embed_dim)
        )

    def forward(self, waveform: Tensor, n_frames: int) -> Tensor:
        """float32 [N, T] -> [N, F, D]."""
        before = N_COLUMNS // 2 * HOP + N_FFT // 2
        per_frame = waveform.shape[1] / n_frames
        middles = ((torch.arange(n_frames, dtype=torch.float64) + 0.5) * per_frame).round().long().to(waveform.device)
        padded = F.pad(waveform, (before, REACH - before))
        pieces = padded[:, middles[:, None] + torch.arange(REACH, device=waveform.device)]  # [N, F, REACH]
        with torch.autocast(waveform.device.type, enabled=False):
            log_mel = (self.mel(pieces.float()) + FLOOR).log10() / 2 + 1  # [N, F, 80, 20], about -1.5 ... 2
        embeddings: Tensor = self.mlp(log_mel.flatten(2))
        return embeddings
