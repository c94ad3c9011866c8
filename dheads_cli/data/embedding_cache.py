"""A frozen encoder's embeddings kept beside the shards, so that they are computed once.

embeddings/<key>/<shard>.safetensors   float16 [F, D] of each clip of that shard, by the clip's key
embeddings/<key>/made-of.json          what the key is the checksum of

The key covers all that decides an embedding: the encoder's name, package, options, source file and weights, the
windows, the corpus, and what was done to its sound. A changed encoder has another key and reads nothing of the old.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dheads_cli.data.manifest import EMBEDDINGS, MANIFEST
from dheads_cli.data.shards import ClipRef
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of, write_atomically
from dheads_cli.model.speech import device_of
from dheads_cli.protocols import AudioEncoder

RECORD = "made-of.json"
FORMAT = 1


def weights_digest(encoder: nn.Module) -> str:
    """sha256 over all parameters and buffers: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted([*encoder.named_parameters(), *encoder.named_buffers()]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        if tensor.numel():
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def encoder_record(encoder: AudioEncoder, owner: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """What decides an encoder's embeddings of a given sound; None where its weights can't be seen (no nn.Module).

    Args:
        encoder: with the weights it has in training.
        owner: its name, package and version.
        options: it was built with; where one names a file, the file's checksum counts.
    """
    if not isinstance(encoder, nn.Module):
        return None
    files = [Path(value) for value in options.values() if isinstance(value, str) and Path(value).is_file()]
    source = inspect.getsourcefile(type(encoder))
    return {
        "encoder": owner,
        "options": dict(options),
        "files": [sha256_of(path) for path in files],
        "source": sha256_of(Path(source)) if source else "",
        "weights": weights_digest(encoder),
        "windows": [encoder.sample_rate, encoder.stride_frames, encoder.context_frames, encoder.embed_dim],
        "torch": torch.__version__,
        "device": device_of(encoder).type,
        "dheads": version("dheads"),
    }


def open_caches(
    corpus: Path, encoder: Mapping[str, Any], sounds: Iterable[Mapping[str, Any]], embed_dim: int
) -> tuple[EmbeddingCache, ...]:
    """A corpus's embeddings by one encoder, of one version of the sound after another.

    Args:
        corpus: folder of shards.
        encoder: its `encoder_record`.
        sounds: what was done to the sound, for each version.
        embed_dim: D.
    """
    made_of = {**encoder, "manifest": sha256_of(corpus / MANIFEST)}
    return tuple(EmbeddingCache(corpus, {**made_of, "sound": dict(sound)}, embed_dim) for sound in sounds)


class EmbeddingCache:
    """The embeddings of a corpus's clips as one encoder hears them, in one file for each shard.

    Args:
        corpus: folder of shards.
        made_of: all that decides the embeddings, JSON-able.
        embed_dim: D.
    """

    def __init__(self, corpus: Path, made_of: Mapping[str, Any], embed_dim: int) -> None:
        self.record = json.dumps({"format": FORMAT, **made_of}, sort_keys=True, indent=1)
        self.key = hashlib.sha256(self.record.encode()).hexdigest()[:24]
        self.folder, self.embed_dim = corpus / EMBEDDINGS / self.key, embed_dim
        self.whole: set[str] = set()  # shards whose file was looked at and is good

    def path(self, shard: str) -> Path:
        """The file of a shard's embeddings."""
        return self.folder / f"{shard.removesuffix('.tar')}.safetensors"

    def look(self, shards: Mapping[str, Sequence[ClipRef]]) -> list[str]:
        """Which shards' files are missing, cut short, or not of these clips (all of a shard's); the rest can be read.

        Only headers are read: bytes flipped later are not noticed.
        """
        self.whole = {shard for shard, clips in shards.items() if self._is_whole(shard, clips)}
        return [shard for shard in shards if shard not in self.whole]

    def _is_whole(self, shard: str, clips: Sequence[ClipRef]) -> bool:
        try:
            with safe_open(self.path(shard), framework="pt") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
                return shapes == {ref.key: [ref.n_frames, self.embed_dim] for ref in clips}
        except (OSError, SafetensorError):
            return False

    def read(self, ref: ClipRef) -> Tensor | None:
        """float16 [F, D] of a clip, or None where they are not kept."""
        if ref.shard not in self.whole:
            return None
        try:
            with safe_open(self.path(ref.shard), framework="pt") as file:
                kept: Tensor = file.get_tensor(ref.key)
                return kept.clone()  # its own memory, not the file's
        except (OSError, SafetensorError):  # removed or spoilt since `look`
            self.whole.discard(ref.shard)
            return None

    @contextmanager
    def writing(self, waits: Callable[[], object]) -> Iterator[None]:
        """Hold the folder for this process, once another that writes there is done; `waits` is called before waiting.

        Raises:
            OSError: it can't be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK):  # a disk that has become read-only, with some of the files on it
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waits()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            record = self.folder / RECORD
            if not record.is_file() or record.read_text(encoding="utf-8") != self.record:
                record.write_text(self.record, encoding="utf-8")
            yield
        finally:
            os.close(descriptor)

    def write(self, shard: str, embeddings: Mapping[str, Tensor]) -> None:
        """Keep a shard's embeddings, float16 [F, D] by the clips' keys.

        Raises:
            DheadsError: the disk is full.
        """
        payload = save({key: tensor.contiguous() for key, tensor in embeddings.items()})
        try:
            write_atomically(self.path(shard), payload)
        except DheadsError as error:
            raise DheadsError(f"{error} Make room, or train with --set data.embeddings=off") from error
        self.whole.add(shard)
