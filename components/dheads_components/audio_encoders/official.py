"""The audio encoder of the authors' release, in checkpoints imported from it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from dheads_cli import trust
from dheads_cli.errors import DheadsError
from dheads_components.audio_encoders.waveform_gru import N_LAYERS, WINDOW, WaveformGRU, cut_middle, cut_windows

STATE_DIM = 256  # width of the GRU's state


def official(script: str | None = None, sha256: str | None = None) -> WaveformGRU | ScriptedEncoder:
    """The encoder of the authors' release, as a network of the known architecture or as the TorchScript they gave.

    A TorchScript archive can run any code when it is opened: that takes --trust on the command line.

    Args:
        script: path of the TorchScript archive; a relative one counts from the working directory. None is the known
            architecture, `waveform_gru` with its 1,490,896 parameters, whose weights come from the checkpoint.
        sha256: checksum that the archive must have, hexadecimal.

    Raises:
        DheadsError: the archive is not there, is another one, is not trusted, or is no such encoder.
    """
    if script is not None:
        path = Path(script)
        return ScriptedEncoder(trust.open_torchscript(path, "the release's audio encoder", sha256), path)
    if sha256 is not None:
        raise DheadsError("audio encoder 'official': sha256 is a script's checksum, but no script is given")
    return WaveformGRU()


class ScriptedEncoder(nn.Module):
    """The release's TorchScript, frozen and stateful.

    It is called for one window of one recording at a time, `model(window [1, 1, 3200], lengths=[3200],
    init_state=hidden [2, 1, 256]) -> (embedding [1, D], anything, hidden [2, 1, 256])`, where windows lie as those of
    `waveform_gru`; a fresh hidden state is zeros. D is read from its answer to silence.

    Args:
        model: the opened archive.
        path: where it came from, for errors.

    Raises:
        DheadsError: it can't be called so.
    """

    sample_rate = WaveformGRU.sample_rate
    stride_frames = WaveformGRU.stride_frames
    context_frames = 12  # enough for the windows of 60 fps

    def __init__(self, model: nn.Module, path: Path) -> None:
        super().__init__()
        self.model = model
        self.eval()
        for parameter in model.parameters():  # requires_grad_ is not there for TorchScript
            parameter.requires_grad = False
        try:
            embedding, hidden = self.step(torch.zeros(WINDOW), torch.zeros(N_LAYERS, 1, STATE_DIM))
            shapes = tuple(embedding.shape), tuple(hidden.shape)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
            raise DheadsError(f"{path}: not the release's audio encoder: a window of silence gives: {why}") from error
        if len(shapes[0]) != 2 or shapes != ((1, shapes[0][1]), (N_LAYERS, 1, STATE_DIM)):
            raise DheadsError(
                f"{path}: not the release's audio encoder: for one window it gives shapes {shapes[0]} and {shapes[1]}, "
                f"not (1, D) and {(N_LAYERS, 1, STATE_DIM)}"
            )
        self.embed_dim = shapes[0][1]

    def forward(self, waveform: Tensor, n_frames: int) -> Tensor:
        """float32 [N, T] -> [N, F, D], from a fresh state, with silence around."""
        return self.steps(cut_windows(waveform, n_frames, 0, n_frames), None)[0]

    def continue_from(self, waveform: Tensor, n_frames: int, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """float32 [N, T] of F frames, state [2, N, 256] -> [N, F - 2 context_frames, D], state after them."""
        return self.steps(cut_middle(waveform, n_frames, self.context_frames), state)

    @torch.no_grad()
    def steps(self, windows: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Window after window of each recording: [N, F, 3200], [2, N, 256] -> [N, F, D], [2, N, 256]."""
        if state is None:
            state = torch.zeros(N_LAYERS, len(windows), STATE_DIM, device=windows.device)
        embeddings, states = [], []
        with torch.autocast(windows.device.type, enabled=False):
            for recording, hidden in zip(windows.float(), torch.split(state, 1, dim=1), strict=True):
                for window in recording:
                    embedding, hidden = self.step(window, hidden)
                    embeddings.append(embedding)
                states.append(hidden)
        return torch.cat(embeddings).view(*windows.shape[:2], -1), torch.cat(states, dim=1)

    def step(self, window: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """One call of the script: [3200], [2, 1, 256] -> [1, D], [2, 1, 256]."""
        embedding, _, hidden = self.model(window[None, None], lengths=[WINDOW], init_state=hidden)
        return embedding, hidden
