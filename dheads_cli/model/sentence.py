"""The likeliest sentence of a fixed pattern, such as GRID's six words, from what each frame looks like (Viterbi)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SILENCE = 0  # the label of frames in which nothing is said; words have 1, 2 ... in the order of the pattern


def labels_of(sentence: Sequence[Sequence[str]]) -> dict[str, int]:
    """The label of each word of a pattern: a list of the words that can stand in each place."""
    return {word: label for label, word in enumerate((word for place in sentence for word in place), start=1)}


def likeliest(log_probs: NDArray[np.float64], sentence: Sequence[Sequence[str]]) -> list[str]:
    """The sentence of the pattern whose best alignment with the frames has the largest product of probabilities.

    Each word has one frame or more, in one piece; before, between and after them may be silence.

    Args:
        log_probs: [F, 1 + words], of SILENCE and of each word.
        sentence: for each place the words that can stand there.

    Returns:
        A word for each place; none where there are fewer frames than places.
    """
    n_frames = len(log_probs)
    if n_frames < len(sentence):
        return []
    gain = log_probs - log_probs[:, [SILENCE]]  # of a word's frame over silence, which any frame may be
    # before[f]: most that the words so far gain over silence in frames 0 ... f - 1; choices: how each word got there.
    before = np.zeros(n_frames + 1)
    label, steps = 1, []
    for words in sentence:
        best = np.full((n_frames + 1, len(words)), -np.inf)  # that end before frame f, of each word of this place
        begins = np.zeros((n_frames + 1, len(words)), dtype=np.int64)
        for f in range(n_frames):
            longer = best[f] >= before[f]  # the word goes on, or begins here
            best[f + 1] = np.where(longer, best[f], before[f]) + gain[f, label : label + len(words)]
            begins[f + 1] = np.where(longer, begins[f], f)
        ends = np.arange(n_frames + 1)
        after = best.max(axis=1)
        for f in range(1, n_frames + 1):  # silence after the word
            if after[f - 1] > after[f]:
                after[f], ends[f] = after[f - 1], ends[f - 1]
        steps.append((best.argmax(axis=1), begins, ends))
        before, label = after, label + len(words)
    said, f = [], n_frames
    for words, (chosen, begins, ends) in zip(reversed(sentence), reversed(steps), strict=True):
        end = int(ends[f])
        word = int(chosen[end])
        said.append(words[word])
        f = int(begins[end, word])
    return said[::-1]
