"""Losses by noise level and by corpus: means over the samples of each quarter of the steps t, and of each corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

N_LEVELS = 4
SHARE = "share/"  # goes before a level's name: how much of a batch lies in it


def by_noise_level(losses: Mapping[str, Tensor], t: Tensor, weights: Tensor, n_timesteps: int) -> dict[str, Tensor]:
    """Weigh each sample's losses, and add what their means by noise level follow from.

    A level's mean is a ratio of two means, over all samples, whatever batches, steps and processes they are spread
    over: of the losses of those in the level, 0 elsewhere, and of the samples in it.

    Args:
        losses: terms by name, each [B].
        t: int64 [B].
        weights: of the samples [B].
        n_timesteps: T.

    Returns:
        The terms, and for each level of low to high t "TERM/LEVEL" and "share/LEVEL", all [B] and weighed; the added
        ones carry no gradient. `level_means` makes sense of their means.
    """
    device = next(iter(losses.values())).device
    weights = weights.to(device)
    names = level_names(n_timesteps)
    inside = F.one_hot(t * len(names) // n_timesteps, len(names)).to(device) * weights[:, None]  # [B, levels]
    weighed = {name: weights * values for name, values in losses.items()}
    for level, column in zip(names, inside.unbind(1), strict=True):
        weighed |= {f"{name}/{level}": column * values.detach() for name, values in losses.items()}
        weighed[SHARE + level] = column
    return weighed


def by_corpus(
    loss: Tensor, corpus: Tensor | None, names: Sequence[str], weights: Tensor | None = None
) -> dict[str, Tensor]:
    """What the loss's means over each corpus's samples follow from, as `by_noise_level` has it for the levels.

    Args:
        loss: [B], weighed.
        corpus: of each sample, int64 [B]; None where there is one.
        names: of the corpora.
        weights: of the samples [B]; None is 1.

    Returns:
        "loss/CORPUS" and "share/CORPUS" for each of several corpora, [B], without a gradient; `level_means` makes sense
        of their means.
    """
    if corpus is None:
        return {}
    found = {}
    inside = F.one_hot(corpus, len(names)).to(loss.device).float()  # [B, corpora]
    for name, column in zip(names, inside.unbind(1), strict=True):
        found[f"loss/{name}"] = column * loss.detach()
        found[SHARE + name] = column if weights is None else column * weights.to(loss.device)
    return found


def level_names(n_timesteps: int) -> list[str]:
    """The levels by their first and last step, such as t_000-249; fewer where there are fewer steps than levels."""
    n_levels, width = min(N_LEVELS, n_timesteps), len(str(n_timesteps - 1))
    first = [-(-level * n_timesteps // n_levels) for level in range(n_levels + 1)]
    return [f"t_{first[i]:0{width}}-{first[i + 1] - 1:0{width}}" for i in range(n_levels)]


def level_means(means: Mapping[str, float]) -> dict[str, float]:
    """Means as they are logged, from those of what `by_noise_level` and `by_corpus` give.

    A level or corpus without a sample is left out. What has neither stays as it is.
    """
    logged = {}
    for name, mean in means.items():
        level = name.rpartition("/")[2]
        share = means.get(SHARE + level)
        if share is None:
            logged[name] = mean
        elif share > 0 and not name.startswith(SHARE):
            logged[name] = mean / share
    return logged
