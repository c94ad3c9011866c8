"""What a video of `dheads animate` is made from, by checksums short enough to stand in its metadata."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dheads_cli.files import sha256_of
from dheads_cli.run.animate_clip import Artist, Look

DIGITS = 12


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
        "face": sha256_of(face)[:DIGITS],
        "speech": sha256_of(speech)[:DIGITS],
        "weights": artist.digest[:DIGITS],
        "settings": hashlib.sha256(settings.encode()).hexdigest()[:DIGITS],
    }
