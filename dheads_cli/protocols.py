"""Contracts between the host and its components, and the letters that shapes are written in.

A contract is structural: a component needs these attributes and methods, not a base class, so a plugin imports
nothing of dheads. `dheads_cli.conformance` holds the tests that every component of a kind must pass.

Shape letters, used in docstrings and at line ends throughout:
    B batch        F frames of a clip      T audio samples    C channels    H, W height, width in px
    K audio window (2 m_y + 1 frames)      D audio embedding width          E time embedding width
    M motion frames (m_x)                  N windows, or sampler steps      t diffusion step, 0 ... n_timesteps - 1
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from dheads_cli.model.diffusion import Denoised, Schedule

    Frames = NDArray[np.uint8]  # [F, H, W, 3] RGB
    Landmarks = NDArray[np.float32]  # [F, 68, 2] (x, y) px, NaN where there is no face
    Sound = tuple[NDArray[np.float32], int]  # mono [T] in [-1, 1], and its rate, Hz

Denoise: TypeAlias = "Callable[[Tensor, int], Denoised]"  # (x_t [B, 3, H, W], t) -> the model"s view of x_t
Noise: TypeAlias = "Callable[[tuple[int, ...]], Tensor]"  # shape -> standard normal float32 on the CPU or run"s device


@runtime_checkable
class AudioEncoder(Protocol):
    """Turn speech into one embedding for each video frame.

    The host cuts speech into fixed windows of `stride_frames + 2 context_frames` video frames, window j beginning
    at frame `j stride_frames - context_frames` (silence beyond the ends), and keeps the middle `stride_frames` of
    each. Training, sampling and streaming all use these windows, so they see the same embeddings.

    Sound: the host resamples once, where it decodes a file, to `sample_rate`, and takes the mean of the channels. A
    preprocessed corpus whose sound was stored at another rate is refused: resampled twice, it would not be the sound
    that `animate` hears.

    Alignment: embedding k belongs to frame k, which lasts from k / fps to (k + 1) / fps: the response to a click is
    centred on the frame in which the click is, within half a frame (`conformance.audio_alignment`).

    Receptive field: of a trained encoder, frames k - context_frames ... k + context_frames; of a frozen one, its whole
    window, which lies from stride_frames + context_frames - 1 frames before frame k to as many after it at most; of a
    stateful one, all before and context_frames after.

    Latency: a stream gives an embedding once its window is known: context_frames after frame k has ended at the least,
    stride_frames + context_frames after it has begun at the most.

    An encoder that is an nn.Module with parameters that require gradients is trained with the model and saved in
    its checkpoint. It must be translation-equivariant: embedding k depends only on frames k - context_frames ...
    k + context_frames, because training calls it on short pieces. A frozen one may use the whole window. One that
    remembers more than that is a StatefulAudioEncoder.

    An encoder whose embeddings are the mouth's predicted positions says so with an attribute `predicts_mouth = True`:
    its response to a click may lie up to three frames beside it, as the mouth's does.

    A frozen encoder may say which network it is in a property `weights`: a line with the network, its file, the
    file's checksum and licence. `dheads components` shows it.
    """

    sample_rate: int  # Hz
    embed_dim: int  # D
    stride_frames: int
    context_frames: int

    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        """Encode windows.

        Args:
            waveform: float32 [N, T] in [-1, 1], spanning exactly n_frames video frames.
            n_frames: video frames F in each window.

        Returns:
            float32 [N, F, D]; embedding k belongs to frame k of the window.
        """
        ...


@runtime_checkable
class StatefulAudioEncoder(AudioEncoder, Protocol):
    """An audio encoder that hears a recording in order and remembers what came before, as a recurrent one does.

    Sampling and streaming go through a recording window by window with `continue_from` and carry the state along, so
    an embedding may depend on all sound before it, and on that of the context_frames after its frame. A plain call
    begins with a fresh state at its first frame: so training calls it, on pieces that begin context_frames before the
    first embedding that is used.
    """

    def continue_from(self, waveform: Tensor, n_frames: int, state: Any) -> tuple[Tensor, Any]:
        """Encode the middle of windows that follow those which gave the state.

        Args:
            waveform: float32 [N, T] in [-1, 1], spanning exactly n_frames video frames.
            n_frames: video frames F in each window, more than 2 context_frames.
            state: what the call for the windows before returned; None before a recording's first. It is only read.

        Returns:
            float32 [N, F - 2 context_frames, D], embeddings of frames context_frames ... F - context_frames - 1 of
            each window, and the state after the last of them.
        """
        ...


@runtime_checkable
class LandmarkDetector(Protocol):
    """Find the face's landmarks in the frames of one clip."""

    def __call__(self, frames: Frames) -> Landmarks:
        """uint8 RGB [F, H, W, 3] -> float32 [F, 68, 2] px (x, y) of the largest face; NaN where there is none."""
        ...

    def all_faces(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """uint8 RGB [H, W, 3] -> one float32 [68, 2] for each face, the largest first; empty where there is none."""
        ...


@runtime_checkable
class ClipLandmarks(LandmarkDetector, Protocol):
    """A landmark detector that looks at no frame: it has the landmarks of each clip of a corpus already."""

    def of_clip(self, clip_id: str, n_frames: int) -> Landmarks:
        """Landmarks of a clip by its id in the corpus, such as "s1/bbaf2n".

        Args:
            clip_id: the path of its video below the corpus, without suffix.
            n_frames: frames of the clip, at the frame rate it is preprocessed in.

        Returns:
            float32 [n_frames, 68, 2] px of the source's upright frames, NaN in frames without a face.

        Raises:
            UnusableClip: there are none for that clip, or not that many.
        """
        ...


@runtime_checkable
class MeshDetector(LandmarkDetector, Protocol):
    """A landmark detector that also finds the 478 points of MediaPipe's Face Mesh (its first 468, then the irises)."""

    @property
    def triangles(self) -> NDArray[np.int64]:
        """The mesh's triangles [T, 3]; mouth and eyes are holes."""
        ...

    def mesh(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """uint8 RGB [H, W, 3] -> float32 [478, 3] px (x right, y down, z away) of the largest face, or None."""
        ...

    def landmarks_of(self, mesh: NDArray[np.floating[Any]]) -> Landmarks:
        """The 68 landmarks among the points of meshes: [..., 478, 3] -> float32 [..., 68, 2]."""
        ...


@runtime_checkable
class Conditioning(Protocol):
    """How time and speech reach the U-Net's residual blocks."""

    def embed(self, n_window: int, audio_dim: int, time_dim: int) -> nn.Module:
        """Module, shared by all layers: audio window [B, K, D] -> what the layers take, [B, K', E] (K' >= 1)."""
        ...

    def layer(self, channels: int, time_dim: int, audio_dim: int) -> nn.Module:
        """Module with forward(h [B, C, H, W], time [B, E], audio [B, K', E]) -> [B, C, H, W].

        Stands where a residual block's second group norm stands, and equals GroupNorm(32, eps 1e-5) before training.
        """
        ...


@runtime_checkable
class AttentionConditioning(Conditioning, Protocol):
    """A conditioning that also chooses the attention: speech may be heard there too, or there alone."""

    def attention(self, channels: int, n_heads: int, size: int, audio_dim: int) -> nn.Module:
        """Module with forward(h [B, C, H, W], time [B, E], audio [B, K', E]) -> [B, C, H, W].

        Stands where the U-Net's self-attention stands, and returns h before training. H = W = size.
        """
        ...


@runtime_checkable
class Sampler(Protocol):
    """Draw x_0 from noise with a denoiser. It never sees the network, and all noise comes in from outside."""

    def __call__(self, denoise: Denoise, x_t: Tensor, schedule: Schedule, noise: Noise) -> Tensor:
        """Sample.

        Args:
            denoise: (x_t [B, 3, H, W], t) -> Denoised, with t an original step 0 ... schedule.n_timesteps - 1.
            x_t: a frame noised as the schedule's highest step says [B, 3, H, W]: at the top of a full schedule all but
                standard normal noise, on one that a warm start cut short mostly the frame.
            schedule: the float64 tables of the diffusion.
            noise: source of further standard normal draws.

        Returns:
            x_0 [B, 3, H, W] in [-1, 1].
        """
        ...


class Clip(Protocol):
    """One clip as a metric sees it. Everything is computed when first asked for, then kept."""

    id: str
    speaker: str  # whose face it shows
    fps: float

    @property
    def frames(self) -> Frames:
        """uint8 RGB [F, H, W, 3]."""
        ...

    @property
    def landmarks(self) -> Landmarks:
        """float32 [F, 68, 2] px in `frames`, NaN where no face is found."""
        ...

    @property
    def identity(self) -> NDArray[np.uint8]:
        """uint8 RGB [H, W, 3]: the identity frame the clip was (or, for a real clip, would be) made from."""
        ...

    @property
    def sound(self) -> Sound | None:
        """What is heard, from the beginning of the first frame on, at most as long as the clip; None without sound.

        A generated clip has the speech that it was made of, a shuffled one the other's.
        """
        ...

    @property
    def words(self) -> Sequence[str] | None:
        """What is said in its sound, word by word, in lower case; None where that is not known."""
        ...


@runtime_checkable
class Metric(Protocol):
    """Score generated clips, one after another, against the real ones they stand for."""

    def update(self, clip: Clip, reference: Clip) -> Mapping[str, float | str]:
        """Take one clip in; return its own values by name, or nothing where the metric is only of a whole set.

        Both clips have the same number of frames and the same size. A text among the values is a remark on the clip.
        """
        ...

    def compute(self) -> Mapping[str, float]:
        """Values over all clips, named with their unit, such as "mouth r" or "LMD [px]"."""
        ...

    @property
    def weights(self) -> str:
        """The network and weights the values depend on, or "" where there are none."""
        ...


@runtime_checkable
class MetricInParts(Metric, Protocol):
    """A metric whose update is in two parts, the costly one of which may be done in another process.

    update(clip, reference) is add(measure(clip, reference)).
    """

    def measure(self, clip: Clip, reference: Clip) -> Any:
        """What is needed of a clip, without tensors, so that it can be pickled; the values don't change by it."""
        ...

    def add(self, measured: Any) -> Mapping[str, float | str]:
        """Take in what was measured of a clip; returns what update does."""
        ...


@runtime_checkable
class LipReader(Protocol):
    """Read what a person says from the picture alone, for the metric `wer`."""

    def __call__(self, frames: Frames, landmarks: Landmarks, fps: float) -> Sequence[str]:
        """The words that are said in one clip, in their order; none where nothing can be read.

        Args:
            frames: uint8 RGB [F, H, W, 3].
            landmarks: float32 [F, 68, 2] px in them, NaN in frames without a face.
            fps: of the frames.
        """
        ...

    @property
    def vocabulary(self) -> Collection[str] | None:
        """The words it can tell, in lower case; a clip that says others is left out. None: it knows all."""
        ...

    @property
    def value_name(self) -> str:
        """What its word error rate is called: "WER" if it compares with published ones, else a name of its own."""
        ...

    @property
    def weights(self) -> str:
        """The network and weights that it reads with."""
        ...


@runtime_checkable
class MetricOverTime(Metric, Protocol):
    """A metric that can also follow one clip: `drift` is one."""

    def per_second(self, clip: Clip) -> Mapping[str, NDArray[np.float64]]:
        """Values of each whole second by name, float64 [S] each; empty for a clip that can't be measured."""
        ...


KINDS: dict[str, type[Any]] = {
    "audio_encoders": AudioEncoder,
    "landmark_detectors": LandmarkDetector,
    "conditioning": Conditioning,
    "samplers": Sampler,
    "metrics": Metric,
    "lip_readers": LipReader,
}
