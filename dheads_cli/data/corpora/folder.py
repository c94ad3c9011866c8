"""Any folder of videos: who lies in one folder is one speaker; sound may lie beside a video under the same name."""

from __future__ import annotations

from dheads_cli.data.corpora.clips import ClipSource, Found
from dheads_cli.data.corpora.tree import Tree

NAME = "a folder of videos, one speaker per folder"


def read(tree: Tree) -> Found:
    """All videos below a folder."""
    sounds = {(*sound.parts[:-1], sound.stem): sound for sound in reversed(tree.sounds)}
    found = Found([])
    for video in tree.videos:
        place = (*video.parts[:-1], video.stem)
        speaker = "/".join(video.parts[:-1]) or tree.above[-1]
        sound = sounds.get(place)
        audio = tree.path(sound) if sound else None
        found.clips.append(ClipSource("/".join(place), tree.path(video), speaker, split_by=speaker, audio=audio))
    if n_paired := sum(clip.audio is not None for clip in found.clips):
        found.notes.append(f"sound files beside videos, of the same name and used as their sound: {n_paired}")
    return found
