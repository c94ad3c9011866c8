"""What the probe finds without an encoder: the log-mel spectrogram itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

COLUMNS, MELS = 4, 80  # a column each 10 ms at 25 fps


class LogMelColumns:
    """Four columns of an 80-bin log-mel spectrogram for each frame (25 ms windows), placed evenly over it: D = 320.

    It has nothing to learn, and its numbers are what an encoder must beat.

    Args:
        sample_rate: Hz.
    """

    embed_dim = COLUMNS * MELS
    stride_frames = 100
    context_frames = 1  # a window of the spectrogram reaches 12.5 ms beyond a column

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.hop = round(sample_rate / 400)  # 2.5 ms, so that columns lie where they should at any frame rate
        self.mel = MelSpectrogram(
            sample_rate, n_fft=round(sample_rate / 40), hop_length=self.hop, n_mels=MELS, pad_mode="constant"
        )

    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        """float32 [N, T] -> [N, F, 320]."""
        log_mel: Tensor = (self.mel.to(waveform.device)(waveform) + 1e-5).log10()  # [N, 80, T / hop + 1]
        places = (torch.arange(n_frames * COLUMNS, device=waveform.device) + 0.5) / (n_frames * COLUMNS)
        columns = (places * waveform.shape[1] / self.hop).round().long()
        return log_mel[:, :, columns].transpose(1, 2).reshape(len(waveform), n_frames, self.embed_dim)
