"""Before training with a frozen audio encoder: all clips' embeddings in one pass, kept beside the shards."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from torch import Tensor

from dheads_cli import console, registry
from dheads_cli.data.embedding_cache import EmbeddingCache, encoder_record, open_caches
from dheads_cli.data.hearing import Hearing, Versions
from dheads_cli.data.shards import ClipRef
from dheads_cli.protocols import AudioEncoder
from dheads_cli.recipe_tasks import AnyRecipe, HearingRecipe

READERS = 2  # threads that decode and augment sound ahead of the encoder


class HeardClips(Protocol):
    """A task's training or validation set."""

    hearing: Hearing
    clips: list[ClipRef]


def versions_of(recipe: AnyRecipe) -> Versions:
    """The augmented versions of the training clips that a recipe asks for."""
    settings = recipe.train.augment
    kinds = settings.active()
    return Versions(settings.variants if kinds else 0, kinds, recipe.seed)


def embedding_caches(
    recipe: HearingRecipe, encoder: AudioEncoder, versions: Versions, corpus: Path
) -> tuple[EmbeddingCache, ...]:
    """Where a corpus's embeddings of version 0, 1 ... are kept.

    None where the recipe or the encoder (no nn.Module) forbids it.
    """
    component = recipe.model.audio_encoder
    entry = registry.find("audio_encoders", component.use)
    owner = f"{entry.name} of {entry.package} {entry.version} ({entry.target})"
    if recipe.data.embeddings == "off" or not (record := encoder_record(encoder, owner, component.options)):
        return ()
    sounds = (versions.made_of(version) for version in range(1 + versions.n))
    return open_caches(corpus, record, sounds, encoder.embed_dim)


def encode_ahead(data: HeardClips, n_samples: int) -> None:
    """Compute what is not kept yet, where a run draws so many samples that it is worth it; else clips come as needed.

    Broken off, it goes on with the first shard that is not there. A folder that may not be written is said once;
    training does the same without, and slower.
    """
    shards = shards_of(data)
    todo = [(version, shard) for version, cache in enumerate(data.hearing.caches) for shard in cache.look(shards)]
    n_clips = sum(len(shards[shard]) for _, shard in todo)
    if not todo or n_samples < n_clips:
        return
    with console.progress("encode speech", total=n_clips, unit="clips") as bar:
        for version, cache in enumerate(data.hearing.caches):
            with ExitStack() as stack:
                try:
                    stack.enter_context(cache.writing(lambda: bar.note("waiting for another run that writes them")))
                except OSError as error:
                    console.info(
                        f"{data.hearing.corpus.folder}: embeddings can't be kept there ({error.strerror or error}); "
                        "they are computed whenever a clip is read, which is slower"
                    )
                    return
                for shard in cache.look(shards):  # again: another run may have made it meanwhile
                    embeddings = {}
                    for ref, embedding in _embed(data.hearing, shards[shard], version):
                        embeddings[ref.key] = embedding
                        bar.advance(1)
                    cache.write(shard, embeddings)


def shards_of(data: HeardClips) -> dict[str, list[ClipRef]]:
    """Every shard that holds clips of the set, with all its clips, chosen for it or not."""
    corpus = data.hearing.corpus
    wanted = {ref.shard for ref in data.clips}
    shards: dict[str, list[ClipRef]] = {shard: [] for shard in sorted(wanted)}
    for split in corpus.splits:
        for ref in corpus.clips(split):
            if ref.shard in wanted:
                shards[ref.shard].append(ref)
    return shards


def _embed(hearing: Hearing, clips: list[ClipRef], version: int) -> Iterator[tuple[ClipRef, Tensor]]:
    with ThreadPoolExecutor(READERS, thread_name_prefix="sound") as pool:
        waveforms = pool.map(lambda ref: hearing.waveform(ref, version), clips)
        for ref, waveform in zip(clips, waveforms, strict=True):
            yield ref, hearing.embed(ref, waveform)
