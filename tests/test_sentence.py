"""The likeliest sentence of a pattern: known answers, and the same as trying all sentences and alignments."""

import itertools

import numpy as np
import pytest

from dheads_cli.model.sentence import SILENCE, labels_of, likeliest

PATTERN = [["bin", "lay"], ["a", "b", "c"], ["now", "soon"]]
LABELS = labels_of(PATTERN)


def spoken(*path: str, sure: float = 0.9) -> np.ndarray:
    """Log-probabilities of frames that say `path`, "" being silence."""
    n_labels = 1 + len(LABELS)
    probabilities = np.full((len(path), n_labels), (1 - sure) / (n_labels - 1))
    for frame, word in enumerate(path):
        probabilities[frame, LABELS[word] if word else SILENCE] = sure
    return np.log(probabilities)


def test_words_are_read_with_or_without_silence_between() -> None:
    for path in (("", "lay", "lay", "", "c", "", "now", ""), ("lay", "c", "now"), ("lay", "c", "c", "c", "now", "now")):
        assert likeliest(spoken(*path), PATTERN) == ["lay", "c", "now"]


def test_a_word_in_a_place_where_it_can_t_stand_is_not_read() -> None:
    assert likeliest(spoken("soon", "lay", "b", "lay", "soon"), PATTERN) == ["lay", "b", "soon"]


def test_fewer_frames_than_places_are_no_sentence() -> None:
    assert likeliest(spoken("lay", "c"), PATTERN) == []
    assert likeliest(spoken(), PATTERN) == []


def best_by_trying(log_probs: np.ndarray) -> tuple[str, ...]:
    """The sentence with the best alignment, by trying all of both."""
    n, scores = len(log_probs), {}
    for words in itertools.product(*PATTERN):
        labels = [LABELS[word] for word in words]
        for cuts in itertools.combinations_with_replacement(range(n + 1), 6):
            spans = [(cuts[0], cuts[1]), (cuts[2], cuts[3]), (cuts[4], cuts[5])]
            if any(begin == end for begin, end in spans):
                continue
            path = np.full(n, SILENCE)
            for label, (begin, end) in zip(labels, spans, strict=True):
                path[begin:end] = label
            score = log_probs[np.arange(n), path].sum()
            scores[words] = max(scores.get(words, -np.inf), score)
    return max(scores, key=lambda words: scores[words])


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_best_of_all_sentences_and_alignments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((6, 1 + len(LABELS)))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert likeliest(log_probs, PATTERN) == list(best_by_trying(log_probs))
