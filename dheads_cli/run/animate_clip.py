"""One clip of `dheads animate`: what is drawn, what it is drawn from, and the clip while it is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dheads_cli import console, registry
from dheads_cli.data import outputs
from dheads_cli.data.provenance import Provenance, made_here
from dheads_cli.files import sha256_of
from dheads_cli.model.build import choose_device
from dheads_cli.model.checkpoint import Trained, load_model
from dheads_cli.model.generate import Drawer, NoiseStreams, from_uint8, to_uint8
from dheads_cli.model.speech import spoken_windows
from dheads_cli.recipe import Sample
from dheads_cli.recipe_section import Component
from dheads_cli.run.animate_checks import BrokenUp, Checks
from dheads_cli.run.control_files import ChosenControls
from dheads_cli.run.frames import Quality, chosen_settings, controls_for, drawer_of
from dheads_cli.run.identity import Identity, find_face, read_identity
from dheads_cli.run.kept_frames import Inputs, KeptFrames
from dheads_cli.run.look import Look, Show, way_to_show
from dheads_cli.run.preview import Preview
from dheads_cli.run.recording import Recording

DEFAULT_MODEL = "small"
CHECKSUM_DIGITS = 12  # short enough for a file's metadata
SOUND_RATE = 48000  # Hz of the video's sound; the network hears the speech at its encoder's rate


@dataclass(frozen=True)
class Artist:
    """A model that is ready to draw.

    Attributes:
        trained: the model.
        settings: how it draws.
        device: where.
        drawer: draws a frame.
        digest: sha256 of the model's file as it was loaded: a training run may remove it meanwhile.
    """

    trained: Trained
    settings: Sample
    device: torch.device
    drawer: Drawer
    digest: str

    @property
    def rate(self) -> int:
        """Hz that the network hears speech at."""
        return self.trained.parts.audio_encoder.sample_rate


def ready(
    model: str | None,
    device: str,
    sampler: Component | None,
    motion_noise: float | None,
    sets: Sequence[str],
    quality: Quality,
    controls: ChosenControls | None = None,
) -> Artist:
    """The model that draws, see animate.

    Raises:
        DheadsError: there is no such model or device, or a setting is wrong.
    """
    target = choose_device(device)
    trained = load_model(model or registry.load("models", DEFAULT_MODEL)(), target)
    settings = chosen_settings(trained, sampler, motion_noise, sets, quality, controls)
    drawer = drawer_of(trained.recipe, trained.parts, settings)
    return Artist(trained, settings, target, drawer, sha256_of(trained.path))


@dataclass(frozen=True)
class Clip:
    """What is to be drawn.

    Attributes:
        out: the video's place.
        title: of the video.
        crop: the face, uint8 RGB [S, S, 3].
        recording: the speech.
        seed: of the random draws.
        show: makes a frame of the video of a drawn one.
        size: (width, height) of the video, px.
        inputs: checksums of what it is made from, see checksums.
    """

    out: str
    title: str
    crop: NDArray[np.uint8]
    recording: Recording
    seed: int
    show: Show
    size: tuple[int, int]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The video's place, for what is said."""
        return "the stream" if self.out == outputs.STDOUT else self.out

    def made_by(self, artist: Artist) -> Provenance:
        """What the video says of itself."""
        return made_here(artist.trained.recipe.name, self.seed, self.inputs)


def identity_of(face: Path, artist: Artist, face_index: int | None, frame: int | None = None) -> Identity:
    """Who speaks in what an artist draws, see animate."""
    recipe, closing = artist.trained.recipe, artist.settings.close_mouth
    picture = read_identity(face, recipe.preprocess, frame)
    return find_face(picture, face, recipe.preprocess, recipe.model.size, face_index, closing=closing)


def clip_of(
    out: str,
    face: Path,
    identity: Identity,
    recording: Recording,
    artist: Artist,
    look: Look,
    seed: int,
    *,
    face_index: int | None = None,
    frame: int | None = None,
) -> Clip:
    """What is to be drawn, see animate."""
    show, size = way_to_show(identity, artist.trained.recipe, look)
    inputs = checksums(face, recording.path, artist, look, face_index=face_index, frame=frame)
    return Clip(out, f"{face.stem} speaking", identity.crop, recording, seed, show, size, inputs)


def checksums(
    face: Path, speech: Path, artist: Artist, look: Look, *, face_index: int | None = None, frame: int | None = None
) -> dict[str, str]:
    """Checksums of all that decides how a video looks and sounds, but for its seed and dheads itself.

    Args:
        face, speech: their files.
        artist: with which model, and how it draws; how many frames at a time hardly matters, so it is left out.
        look: of the video.
        face_index, frame: see animate.

    Returns:
        The first 12 digits of the sha256 of "face", "speech" and "weights", as `sha256sum` has it, and of "settings".

    Raises:
        OSError: a file can't be read.
    """
    sampling = artist.settings.model_dump_json(exclude={"batch_size"})
    longest = look.longest_px(artist.trained.recipe.model.size)
    settings = repr((sampling, longest, look.paste_back, look.mark, face_index or 1, frame))
    return {
        "face": sha256_of(face)[:CHECKSUM_DIGITS],
        "speech": sha256_of(speech)[:CHECKSUM_DIGITS],
        "weights": artist.digest[:CHECKSUM_DIGITS],
        "settings": hashlib.sha256(settings.encode()).hexdigest()[:CHECKSUM_DIGITS],
    }


class Drawing:
    """A clip while it is drawn; a context manager that leaves all of its video or, but for frames kept, nothing.

    Args:
        clip: what is drawn.
        artist: by whom.
        resume: go on after the frames that a run that was broken off has left.
        overwrite: replace what is at the video's place.
        previews: are shown each frame that is drawn, and before those that were kept.

    Attributes:
        identity: [1, 3, S, S].
        past: what the next frame is drawn from.
        noise: of the clip.
        checks: what was measured of its frames.
        controls: what each frame that is still to be drawn is to show besides its speech, [1, n_controls].
    """

    def __init__(
        self,
        clip: Clip,
        artist: Artist,
        *,
        resume: bool = False,
        overwrite: bool = False,
        previews: Sequence[Preview] = (),
    ) -> None:
        self.clip, self.artist, self._overwrite, self._previews = clip, artist, overwrite, previews
        self.identity = from_uint8(torch.from_numpy(clip.crop[None]).to(artist.device))
        self.past = artist.drawer.begin(self.identity)
        self.noise = NoiseStreams([clip.seed], artist.device)
        inputs = Inputs(clip.crop, clip.recording.path, artist.trained, artist.digest, artist.settings, clip.seed)
        self._keeper = None if clip.out == outputs.STDOUT else KeptFrames(clip.out, inputs)
        self._resume, self._kept = resume, self._keeper.load() if resume and self._keeper else None
        if self._kept:
            self.past = self._kept.past
            self.noise.generators[0].set_state(self._kept.noise)
        self.n_before = self.past.n_frames
        recipe = artist.trained.recipe
        self.checks = Checks(clip.crop, clip.recording, recipe.preprocess.detector, artist.settings.max_stray)
        self.controls = controls_for(recipe, artist.settings, [clip.seed], artist.device, self.n_before)
        self._stack = ExitStack()

    def windows(self) -> Iterator[Tensor]:
        """The audio windows [1, K, D] of the frames that are still to be drawn, encoded when they are asked for."""
        artist, recording = self.artist, self.clip.recording
        heard = recording.heard(artist.settings.speech_dbfs)
        return spoken_windows(
            artist.trained.parts.audio_encoder,
            (torch.from_numpy(piece).to(artist.device) for piece in heard),
            recording.n_frames,
            recording.fps,
            artist.trained.recipe.model.audio_context,
            self.n_before,
        )

    def take(self, frame: Tensor) -> None:
        """The next frame [1, 3, S, S] is drawn."""
        self.past = self.past.then(frame)
        drawn = to_uint8(frame)[0].numpy()
        self._check(drawn)
        self._video.write(self.clip.show(drawn))
        if self._keeper:
            self._keeper.keep(drawn, self.past, self.noise)
        self._preview(drawn)

    def _check(self, drawn: NDArray[np.uint8]) -> None:
        try:
            self.checks.see(drawn)
        except BrokenUp as error:
            raise BrokenUp(f"{self.clip.place}: {error}") from None

    def _preview(self, drawn: NDArray[np.uint8]) -> None:
        for preview in self._previews:
            preview.show(drawn)

    def __enter__(self) -> Self:
        clip, recording = self.clip, self.clip.recording
        tags = clip.made_by(self.artist).tags(clip.title)
        if self._keeper:  # no other run makes this video, see kept_frames.alone_at
            outputs.remove_parts(clip.out)
        video = outputs.open_output(
            clip.out, recording.fps, clip.size, recording.sound(SOUND_RATE), SOUND_RATE,
            tags=tags, overwrite=self._overwrite,
        )  # fmt: skip
        with ExitStack() as stack:
            self._video = stack.enter_context(video)
            if self._kept:
                with console.progress("frames kept", total=self.n_before, unit="frames") as bar:
                    for drawn in self._kept.frames:
                        self._check(drawn)
                        self._video.write(clip.show(drawn))
                        self._preview(drawn)
                        bar.advance(1)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole = False
        try:
            self._stack.__exit__(kind, error, trace)
            whole = kind is None
        finally:  # the video may fail to end as well, such as on a full disk
            if self._keeper and self._keeper.n_frames and isinstance(error, BrokenUp):
                self._keeper.remove()  # going on would break up again
            elif self._keeper and self._keeper.n_frames and not whole:
                console.info(f"{self.clip.out}: {self._keeper.n_frames} frames are kept; --resume goes on with them")
        if whole and self._keeper:
            self._keeper.remove()
        for doubt in self.checks.doubts if whole else ():
            console.warn(f"{self.clip.place}: {doubt}")
        for preview in self._previews if whole else ():
            preview.finish()
