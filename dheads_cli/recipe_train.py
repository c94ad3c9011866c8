"""The recipe's section `train`: the optimiser, which every task has, and the objective of a talking head."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from dheads_cli.recipe_section import Component, Fraction, Positive, Section


class Augmentation(Section):
    """How often and how strongly one kind of waveform augmentation is applied."""

    probability: Fraction = Field(0.5, description="Share of the augmented versions that have it.")
    strength: Fraction = Field(0.5, description="Each draw is uniform in 0 (unchanged) ... this; 1 is strong.")


class Augment(Section):
    """Other voices, rooms and lines for the training clips' sound, which stays in step; null is off.

    What a description says holds at strength 1.
    """

    variants: Positive = Field(
        4, description="Augmented versions of each clip; a sample hears one of them or the clean clip, each as often."
    )
    gain: Augmentation | None = Field(None, description="20 dB softer or louder; never clips.")
    noise: Augmentation | None = Field(None, description="White, pink, brown or babble at 0 dB SNR (near 0: 40 dB).")
    reverb: Augmentation | None = Field(None, description="A room of RT60 1 s, its echoes as strong as the voice.")
    pitch: Augmentation | None = Field(None, description="Pitch 4 semitones lower or higher.")
    formants: Augmentation | None = Field(None, description="Another vocal tract: formants 20 % lower or higher.")
    speed: Augmentation | None = Field(
        None, description="The rate wanders by 15 %; no sound moves by more than half a frame (20 ms)."
    )
    codec: Augmentation | None = Field(
        None, description="MP3, AAC or Opus at 8 kb/s (near 0: 64); from 0.5 on also telephone (mu-law, AMR)."
    )
    band: Augmentation | None = Field(None, description="Equaliser: each octave up to 15 dB softer or louder.")
    clipping: Augmentation | None = Field(None, description="Cut off 24 dB below the peak.")

    def active(self) -> dict[str, tuple[float, float]]:
        """Kinds that happen: name -> (probability, strength)."""
        kinds = {name: kind for name, kind in self if isinstance(kind, Augmentation)}
        return {name: (kind.probability, kind.strength) for name, kind in kinds.items() if kind.probability}


class Optimisation(Section):
    """The optimiser, and what a run keeps; the same for every task."""

    steps: Positive = Field(200_000, description="Optimiser steps.")
    batch_size: Positive = Field(16, description="Samples in a step, over all processes.")
    lr: float = Field(1e-4, gt=0, description="AdamW's learning rate after warm-up.")
    lr_final: Fraction = Field(1.0, description="Learning rate at the last step, as a share of lr (cosine decay).")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    grad_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    accumulate: Positive = Field(
        1,
        description="Parts a process's share of a batch is cut into and computed one after another: the same gradient "
        "in less memory.",
    )
    max_bad_steps: Positive = Field(
        5, description="Steps in a row whose loss or gradient is not finite (they are left out) that end the run."
    )
    divergence: float | None = Field(
        None,
        gt=1,
        description="The run ends when its smoothed loss is more than this times the lowest it had; None never.",
    )
    ema_decay: Fraction = Field(0.999, description="Decay of the moving average of weights that samples use.")
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="Arithmetic of the forward pass; auto is bf16 where the device is faster with it."
    )
    log_every: Positive = Field(50, description="Steps between lines of the log.")
    checkpoint_every: Positive = Field(2000, description="Steps between checkpoints.")
    keep_checkpoints: Positive = Field(3, description="How many of the newest checkpoints stay.")
    threads: int = Field(
        0, ge=0, description="CPU threads of each process; 0 takes OMP_NUM_THREADS, else one for each core."
    )
    weights: str | None = Field(
        None,
        description="Run, checkpoint or shipped model whose weights training begins with (fine-tuning), its moving "
        "average as sampled from; None begins anew.",
    )
    augment: Augment = Field(Augment(), description="Waveform augmentation of the training clips.")


class HearingOptimisation(Optimisation):
    """The same of a task whose model has an audio encoder."""

    audio_encoder_weights: str | None = Field(
        None,
        description="Run, checkpoint or shipped model whose audio encoder training begins with; None begins anew, or "
        "with that of `weights`.",
    )
    freeze_audio_encoder: bool = Field(False, description="Keep the audio encoder as it is: train the rest alone.")

    @field_validator("freeze_audio_encoder")
    @classmethod
    def _freezes_what_was_learned(cls, freeze: bool, info: ValidationInfo) -> bool:
        given = {info.data.get(key, "") for key in ("weights", "audio_encoder_weights")}
        if freeze and given == {None}:
            text = "needs audio_encoder_weights or weights: what is frozen must have been learned before"
            raise PydanticCustomError("misfit", text)
        return freeze


class Train(HearingOptimisation):
    """The objective and the optimiser."""

    snr_weight_max: float = Field(
        0.0, ge=0, description="Weight of the squared error is 1 + min(SNR, this); 0 is the paper's plain mean."
    )
    vlb_weight: float = Field(1e-4, ge=0, description="Weight of L_vlb, where the variance is learned.")
    lip_sync_weight: float = Field(0.2, ge=0, description="Weight of L_ls, the squared error inside the mouth box.")
    mouth_margin: Fraction = Field(5 / 128, description="Growth of the mouth box on each side, share of the width.")
    motion_noise_max: float = Field(0.0, ge=0, description="Noise on motion frames: sigma in 0 ... this (GameNGen).")
    motion_noise_levels: Literal["uniform", "low", "log_normal"] = Field(
        "uniform",
        description="How sigma is drawn: uniform (GameNGen), low (max u^2: small ones more often), or log_normal "
        "(about max / 4, after EDM).",
    )
    motion_patch_drop: Fraction = Field(
        0.0, description="Share of the squares of each motion frame that are set to zero, i.e. grey (Hallo2)."
    )
    motion_patch_px: Positive = Field(4, description="Side of such a square, px.")
    rollout_share: Fraction = Field(
        0.0,
        description="Share of the steps whose motion frames the network draws itself (Self-Forcing, DIAMOND). Such a "
        "step costs rollout_frames x the sampler's steps forward passes more; a plain one is worth about three.",
    )
    rollout_frames: Positive = Field(4, description="Frames it draws, one after another, before the target.")
    rollout_from_step: int = Field(0, ge=0, description="The first step that may; before it, all are plain.")
    rollout_sampler: Component = Field(
        Component(use="ddim", steps=2), description="Sampler it draws them with; sample.motion_noise is on them."
    )
    motion_drop: Fraction = Field(0.0, description="Share of samples whose motion frames are all the identity frame.")
    audio_drop: Fraction = Field(
        0.0, description="Share of samples without audio (zeros), so that sample.guidance.audio can be had."
    )
    identity_drop: Fraction = Field(
        0.0,
        description="Share of samples without the identity frame (gray in its place), for sample.guidance.identity.",
    )
    control_drop: Fraction = Field(
        0.1, description="Share of samples without each of model.controls, so that it need not be given in sampling."
    )
    flip: Fraction = Field(0.0, description="Share of samples mirrored, all frames alike.")
    colour_jitter: Fraction = Field(0.0, description="Strength of random colour changes, the same in all frames.")
    warp: Fraction = Field(
        0.0, description="Strength of random deformations (size, proportions, turn, place, bends), alike in all frames."
    )
    mouth_warp: Fraction = Field(
        0.0,
        description="Strength of random deformations of the mouth in the identity frame alone (wider, more open, "
        "smiling, teeth painted in half of them), so that what the mouth does comes from the sound.",
    )
    clutter: Fraction = Field(
        0.0,
        description="Share of samples with random shapes painted about the face, alike in all frames: backgrounds and "
        "clothes that the corpus lacks.",
    )
    timesteps: Literal["uniform", "stratified", "loss_aware"] = Field(
        "uniform",
        description="How a batch's steps t are drawn: each by itself; spread evenly; or spread, and more of them where "
        "the loss is large, which then weighs less. The objective is the same.",
    )
    recompute_activations: bool = Field(
        False,
        description="Keep only what each block of the network is given, and compute the rest again in the backward "
        "pass: the same gradient in less memory and about a third more time.",
    )
    compile: bool = Field(
        False,
        description="Compile the network (torch.compile): steps take less time, the first one minutes. It needs a C++ "
        "compiler.",
    )
    sample_every: int = Field(
        5000, ge=0, description="Steps between sample grids and talking clips of held-out speech; 0 draws none."
    )
    watch_clips: int = Field(
        4,
        ge=0,
        description="Held-out clips drawn then, with their own sound and with another's, whose mouths are measured; "
        "0 draws the grid alone.",
    )
    watch_s: float = Field(2.0, ge=0.4, description="How much is drawn of each, from its beginning, s.")
    watch_steps: Positive = Field(
        25, description="Most steps a frame then, where sample.sampler has an option `steps` that is larger."
    )
