"""The conformance kit: what every component of a kind must do, tried on small known inputs.

`dheads components --check` runs it on all that is installed; a package's own tests run it as

    from dheads_cli.conformance import assert_conforms

    def test_my_sampler():
        assert_conforms("samplers", MySampler(steps=5))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from dheads_cli import downloads, registry
from dheads_cli.conformance import (
    audio_alignment,
    audio_encoders,
    conditioning,
    landmark_detectors,
    lip_readers,
    metrics,
    samplers,
)
from dheads_cli.errors import DheadsError

Test = Callable[[Any], Iterator[str]]  # a component -> what is wrong with it; its docstring is what must hold

TESTS: dict[str, tuple[Test, ...]] = {
    "audio_encoders": (*audio_encoders.TESTS, *audio_alignment.TESTS),
    "landmark_detectors": landmark_detectors.TESTS,
    "conditioning": conditioning.TESTS,
    "samplers": samplers.TESTS,
    "metrics": metrics.TESTS,
    "lip_readers": lip_readers.TESTS,
}


def check(kind: str, name: str, options: Mapping[str, Any] | None = None) -> list[str]:
    """What is wrong with a registered component; empty where it conforms. Nothing is downloaded for it.

    Raises:
        DheadsError: the component itself says that it needs something of the user, such as an optional package.
    """
    options = dict(options or {})
    if wrong := registry.option_errors(kind, name, options):
        return list(wrong.values())
    try:
        with downloads.none():
            component = registry.load(kind, name)(**options)
    except DheadsError:
        raise
    except Exception as error:  # a plugin may fail in any way
        return [f"can't be built: {type(error).__name__}: {error}"]
    return problems(kind, component)


def assert_conforms(kind: str, component: Any) -> None:
    """Fail, for pytest, with everything that is wrong with a component.

    Args:
        kind: one of TESTS.
        component: an instance, as a recipe would make it.
    """
    found = problems(kind, component)
    assert not found, "\n".join(f"{registry.label(kind)}: {problem}" for problem in found)


def problems(kind: str, component: Any) -> list[str]:
    """What is wrong with a component; empty where it conforms."""
    if missing := registry.missing_members(kind, component):
        return [f"it has no {', '.join(missing)}"]
    found: list[str] = []
    training = component.training if isinstance(component, nn.Module) else None
    if training:
        component.eval()
    state = torch.get_rng_state()
    for test in TESTS[kind]:
        torch.manual_seed(0)
        try:
            found += test(component)
        except Exception as error:  # a component may fail in any way
            found.append(f"{inspect.getdoc(test)} But it raises {type(error).__name__}: {error}")
    torch.set_rng_state(state)
    if training:
        component.train()
    return found
