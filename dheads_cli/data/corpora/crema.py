"""CREMA-D: 91 actors say twelve sentences; the picture is in VideoFlash, the sound beside it in AudioWAV."""

from __future__ import annotations

import re
from pathlib import Path

from dheads_cli.data.corpora.clips import ClipSource, Found
from dheads_cli.data.corpora.tree import File, Tree, list_tree

NAME = "CREMA-D (VideoFlash beside AudioWAV, names such as 1001_DFA_ANG_XX)"
CLIP_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z0-9]{2})", re.IGNORECASE)
SOUND_FOLDER = "AudioWAV"
TEST_ACTORS = {"1015", "1020", "1021", "1030", "1033", "1052", "1062", "1081", "1082", "1089"}
SENTENCES = {
    "IEO": "it's eleven o'clock",
    "TIE": "that is exactly what happened",
    "IOM": "i'm on my way to the meeting",
    "IWW": "i wonder what this is about",
    "TAI": "the airplane is almost full",
    "MTI": "maybe tomorrow it will be cold",
    "IWL": "i would like a new alarm clock",
    "ITH": "i think i have a doctor's appointment",
    "DFA": "don't forget a jacket",
    "ITS": "i think i've seen this before",
    "TSI": "the surface is slick",
    "WSI": "we'll stop in a couple of minutes",
}


def belongs(_: Tree, video: File) -> bool:
    """Whether a video is named as CREMA-D's are."""
    return CLIP_NAME.fullmatch(video.stem) is not None


def read(tree: Tree) -> Found:
    """CREMA-D's clips with the sound beside them; the authors' ten test actors are the test split.

    Without any .wav the sound in the videos is used. With some, a video whose .wav is missing keeps the path where it
    should be, and is skipped for it later.
    """
    found = Found([])
    sounds = _sounds(tree)
    for video in tree.videos:
        match = CLIP_NAME.fullmatch(video.stem)
        if match is None:
            found.others.append(tree.path(video))
            continue
        actor, path = match[1], tree.path(video)
        audio = sounds.get(video.stem.lower(), path.parent.parent / SOUND_FOLDER / f"{video.stem}.wav")
        found.clips.append(
            ClipSource(
                video.stem,
                path,
                actor,
                split_by=actor,
                audio=audio if sounds else None,
                text=SENTENCES.get(match[2].upper()),
                split="test" if actor in TEST_ACTORS else "",
            )
        )
    found.notes.extend(_notes(found.clips, sounds))
    return found


def _sounds(tree: Tree) -> dict[str, Path]:
    """Sound files by lower-case name, also of the folder beside when only the videos' folder was named."""
    trees = [tree]
    beside = tree.root.resolve().parent / SOUND_FOLDER
    if beside.is_dir() and not any(sound.suffix == ".wav" for sound in tree.sounds):
        trees.append(list_tree(beside))
    return {sound.stem.lower(): some.path(sound) for some in trees for sound in some.sounds if sound.suffix == ".wav"}


def _notes(clips: list[ClipSource], sounds: dict[str, Path]) -> list[str]:
    if not sounds:
        return [f"no .wav files ({SOUND_FOLDER}) are there: the sound in the videos is used"]
    names = {clip.video.stem.lower(): clip.id for clip in clips}
    notes = []
    if silent := sorted(names[name] for name in names.keys() - sounds.keys()):
        notes.append(f"videos without .wav, which will be skipped: {_some(silent)}")
    if unseen := sorted(path.name for name, path in sounds.items() if name not in names):
        notes.append(f"left out, .wav files without a video: {_some(unseen)}")
    return notes


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" ... ({len(names)})" if len(names) > 3 else "")
