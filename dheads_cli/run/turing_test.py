"""`dheads turing-test`: the paper's user study as a page that stands alone. "Real or not?", clip by clip."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dheads_cli
from dheads_cli import console
from dheads_cli.data.samples import read_settings
from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically
from dheads_cli.run.turing_clips import Candidate, Candidates, candidates_of, choose, film_of
from dheads_cli.run.turing_page import page_text

REAL = "real clips"
MOST_METHODS = 3
PAGE, KEY_ENDING = "index.html", "-key.json"


def turing_test(
    samples: Sequence[str],
    out: Path,
    *,
    reference: Path | None = None,
    clips: int = 10,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make the page, and beside its folder the key that says which clips are real.

    Args:
        samples: samples folders, FOLDER or NAME=FOLDER, one for each method.
        out: folder of the page.
        reference: folder of the real videos, paired by name; None takes the clips that the samples point at.
        clips: of each method, and real ones.
        seed: of which clips are shown, and under which numbers.
        overwrite: replace a page and a key that are there.

    Returns:
        Paths, the page's id and the methods; also printed under --json.
    """
    methods = {name: candidates_of(folder, reference) for name, folder in named(samples).items()}
    folder = out if out.name not in ("", "..") else out.resolve()
    page, key = folder / PAGE, folder.with_name(f"{folder.name}{KEY_ENDING}")
    if not overwrite and (there := [path for path in (page, key) if path.exists()]):
        raise DheadsError(f"{there[0]} exists: choose another folder with -o, or pass --overwrite.")
    if out.exists() and not out.is_dir():
        raise DheadsError(f"{out} is a file: name a folder with -o.")
    real: dict[str, Candidate] = {}
    sizes = _sizes(methods)
    for name in sorted(methods, key=lambda name: -sizes[name][0] * sizes[name][1]):  # the largest pictures first
        real = {content: Candidate(content, clip.load_real, None) for content, clip in methods[name].items()} | real
    pools: dict[str, Candidates] = {**methods, REAL: real}
    chosen = choose({name: list(pool) for name, pool in pools.items()}, clips, seed)
    shown = [(name, pools[name][content]) for name, contents in chosen.items() for content in contents]
    random.Random(f"order {seed}").shuffle(shown)
    size, first = max(sizes.values(), key=lambda sides: sides[0] * sides[1]), shown[0][1].load_real()
    films = {}
    with console.progress("turing-test", total=len(shown), unit="clips") as bar:
        for number, (_, candidate) in enumerate(shown, 1):
            films[f"{number:02d}"] = film_of(candidate, size, first.fps, first.sample_rate)
            bar.advance()
    page_id = page_id_of(films)
    key_text = json.dumps(_key(page_id, shown, films, clips, seed), indent=1, ensure_ascii=False) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(page, page_text(page_id, films, size))
    write_atomically(key, key_text)
    _tell(page, key, sizes, size, len({candidate.content for _, candidate in shown}) < len(shown))
    told = {"page": str(page), "key": str(key), "id": page_id, "methods": list(methods), "clips_each": clips}
    console.result(told)
    return told


def named(samples: Sequence[str]) -> dict[str, Path]:
    """Method's name -> its folder; a folder without a name is called by its recipe and its own name.

    Raises:
        DheadsError: none or too many are given, one is missing, or two share a name.
    """
    if not 1 <= len(samples) <= MOST_METHODS:
        raise DheadsError(f"{len(samples)} samples folders: name one to {MOST_METHODS}, a method each.")
    found: dict[str, Path] = {}
    for text in samples:
        name, equals, path = text.partition("=")
        folder = Path(path if equals and not Path(text).exists() else text)
        if not folder.is_dir():
            raise DheadsError(f"{folder}: no such samples folder. Make one with `dheads sample`.")
        if folder == Path(text):
            recipe = read_settings(folder).get("recipe")
            name = f"{recipe} {folder.resolve().name}" if recipe else folder.resolve().name
        if not name or name == REAL or name in found:
            raise DheadsError(f"{text}: the method's name {name!r} is taken: give another, NAME={folder}.")
        found[name] = folder
    return found


def _sizes(methods: Mapping[str, Candidates]) -> dict[str, tuple[int, int]]:
    """Width and height of each method's films, px: its first real clip's, made even."""
    found = {}
    for name, pool in methods.items():
        if not pool:
            raise DheadsError(f"{name} has no clip with its own speech: make some with `dheads sample`.")
        height, width = next(iter(pool.values())).load_real().frames.shape[1:3]
        found[name] = (width + width % 2, height + height % 2)
    return found


def page_id_of(films: Mapping[str, bytes]) -> str:
    """What tells this page from all others: of its films, which say nothing of the truth."""
    digest = hashlib.sha256()
    for label, film in films.items():
        digest.update(label.encode() + hashlib.sha256(film).digest())
    return digest.hexdigest()[:16]


def _key(
    page_id: str, shown: Sequence[tuple[str, Candidate]], films: Mapping[str, bytes], clips: int, seed: int
) -> dict[str, Any]:
    return {
        "page": page_id,
        "seed": seed,
        "clips_each": clips,
        "version": dheads_cli.__version__,
        "clips": {
            label: {
                "method": name,
                "clip": candidate.content,
                "file": None if candidate.video is None else str(candidate.video),
                "film_sha256": hashlib.sha256(films[label]).hexdigest(),
            }
            for label, (name, candidate) in zip(films, shown, strict=True)
        },
    }


def _tell(page: Path, key: Path, sizes: Mapping[str, tuple[int, int]], size: tuple[int, int], repeats: bool) -> None:
    for name, own in sizes.items():
        if own != size:
            console.warn(f"{name} is of {own[0]} x {own[1]} px: shown enlarged to {size[0]} x {size[1]}, as all are.")
    if repeats:
        console.warn("too few clips for all to be different: some sentences are shown by more than one method.")
    console.info(f"{page}: the page; whoever has it can take part. It needs no network and keeps no secret.")
    console.info(f"{key}: the key. Keep it to yourself until all have answered; then")
    console.info(f"dheads turing-test --score answers/*.json --key {key}")
