"""Word error rate of what a lip-reader reads: do the lips say the words that are heard?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torchmetrics.functional.text import word_error_rate

from dheads_cli import registry

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip, LipReader


class WER:
    """Word error rate of a lip-reader on clips whose words are known: 0 where all are read, about 0.81 by chance.

    All wrong, missing and added words over all words that are said. The words are those that are heard in the clip: of
    a shuffled one, the other sentence's. `... of other words` takes those of the real clip that it stands for, where
    they are others: what lips score that say something else.

    The value is called as the lip-reader says, "lips-grid WER" with the one that ships. "WER" alone is for networks
    whose values compare with published ones.

    Args:
        reader: a lip-reader by its name, of the entry points `dheads.lip_readers`.
        weights: handed to the lip-reader as its option `weights`; None hands it nothing.
        options: other options of the lip-reader.
        device: handed to a lip-reader that takes one.
    """

    def __init__(
        self,
        reader: str = "grid",
        weights: str | None = None,
        options: dict[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        takes_device = "device" in registry.signature_of(registry.load("lip_readers", reader))
        given = ({"device": device} if takes_device else {}) | ({} if weights is None else {"weights": weights})
        self.reader: LipReader = registry.build("lip_readers", reader, given | (options or {}))
        self._own: list[tuple[str, str]] = []  # what is read of each clip, and what is said
        self._other: list[tuple[str, str]] = []

    @property
    def weights(self) -> str:
        """Those of the lip-reader."""
        return self.reader.weights

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """One clip's values; a remark where its words are not known, or not to the lip-reader."""
        name, known = self.reader.value_name, self.reader.vocabulary
        words = clip.words
        if not words:
            return {f"{name} note": "it is not known which words are said: left out"}
        if known is not None and set(words) - set(known):
            return {f"{name} note": "words are said that the lip-reader does not know: left out"}
        read = list(self.reader(clip.frames, clip.landmarks, clip.fps))
        self._own.append((" ".join(read), " ".join(words)))
        values: dict[str, float | str] = {name: _rate(self._own[-1:])}
        if reference.words and list(reference.words) != list(words):
            self._other.append((" ".join(read), " ".join(reference.words)))
            values[f"{name} of other words"] = _rate(self._other[-1:])
        return values if read else {**values, f"{name} note": "no word is read, as where no face is found"}

    def compute(self) -> dict[str, float]:
        """Over the words of all clips."""
        name = self.reader.value_name
        values = {name: self._own, f"{name} of other words": self._other}
        return {name: _rate(pairs) for name, pairs in values.items() if pairs}


def _rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Word error rate of (what is read, what is said)."""
    read, said = zip(*pairs, strict=True)
    n_said = sum(len(words.split()) for words in said)
    return round(float(word_error_rate(list(read), list(said))) * n_said) / n_said  # a whole number over another
