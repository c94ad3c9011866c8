"""A log-mel encoder that trains with the model and needs no weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram

WINDOW_S = 0.2  # each embedding sees this much sound, centred on its frame (the paper's window)


class LogMel(nn.Module):
    """80-bin log-mel of the 0.2 s around each frame, through a small MLP.

    Embedding k depends only on the frames whose sound lies within 0.1 s of frame k's middle and one window of the
    spectrogram: context_frames = 4 covers it at up to 30 fps.

    Args:
        embed_dim: D.
        hidden_dim: width of the MLP.
    """

    sample_rate = 16000
    stride_frames = 100
    context_frames = 4

    def __init__(self, embed_dim: int = 256, hidden_dim: int = 512) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.n_columns = round(WINDOW_S * 100)
        self.mel = MelSpectrogram(
            self.sample_rate, n_fft=400, hop_length=160, n_mels=80, center=True, pad_mode="constant"
        )
        self.mlp = nn.Sequential(
            nn.Linear(80 * self.n_columns, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, embed_dim)
        )

    def forward(self, waveform: Tensor, n_frames: int) -> Tensor:
        """float32 [N, T] -> [N, F, D]."""
        with torch.autocast(waveform.device.type, enabled=False):
            log_mel = (self.mel(waveform.float()) + 1e-5).log10() / 2 + 1  # [N, 80, T / 160 + 1], about -1.5 ... 2
        # Columns n_columns / 2 either side of each frame's middle, in steps of 10 ms.
        per_frame = (log_mel.shape[-1] - 1) / n_frames
        half = self.n_columns // 2
        padded = F.pad(log_mel, (half, half), value=float(torch.log10(torch.tensor(1e-5)) / 2 + 1))
        first = ((torch.arange(n_frames, device=waveform.device) + 0.5) * per_frame).round().long()
        columns = first[:, None] + torch.arange(self.n_columns, device=waveform.device)  # [F, columns]
        windows = padded[:, :, columns].permute(0, 2, 1, 3).flatten(2)  # [N, F, 80 * columns]
        embeddings: Tensor = self.mlp(windows)
        return embeddings
