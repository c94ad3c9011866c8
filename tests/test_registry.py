from collections.abc import Iterator
from pathlib import Path

import pytest
from distributions import install

from dheads_cli import registry
from dheads_cli.errors import DheadsError

MODULE = """
from typing import Literal

class Loud:
    def __init__(self, gain: float = 1.0, mode: Literal["soft", "hard"] = "soft", taps: tuple[int, ...] = ()):
        if gain < 0:
            raise ValueError(f"gain must be at least 0, not {gain}")
        self.gain, self.taps = gain, taps

    def __call__(self, denoise, x_t, schedule, noise):
        return x_t

class NeedsPath:
    def __init__(self, path):
        raise OSError("disk on fire")

def nothing():
    return object()

def anything(**options):
    return lambda denoise, x_t, schedule, noise: x_t

constant = 3
"""
POINTS = {
    "samplers/loud": "loud_module:Loud",
    "samplers/needs-path": "loud_module:NeedsPath",
    "samplers/nothing": "loud_module:nothing",
    "samplers/anything": "loud_module:anything",
    "samplers/constant": "loud_module:constant",
    "samplers/gone": "loud_module:Gone",
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    install(tmp_path, "dheads-loud", "1.2", POINTS, {"loud_module": MODULE})
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.entries.cache_clear()
    yield tmp_path
    registry.entries.cache_clear()


def message(kind: str, name: str, options: dict[str, object] | None = None) -> str:
    with pytest.raises(DheadsError) as caught:
        registry.build(kind, name, options)
    return str(caught.value)


def test_a_component_is_built_from_its_name_and_options(site: Path) -> None:
    assert registry.build("samplers", "loud", {"gain": 2, "taps": [1, 2]}).gain == 2


def test_an_unknown_name_gets_a_suggestion_and_the_names(site: Path) -> None:
    text = message("samplers", "lod")
    assert text.startswith("no sampler is called 'lod'; did you mean 'loud'? Available: ")
    assert "ddim" in text
    assert registry.nearest("zzzz", ["ddim"]) == "."


def test_all_wrong_options_are_told_at_once(site: Path) -> None:
    options = {"gian": 1, "mode": "loud", "taps": ["x"], "gain": "high"}
    wrong = registry.option_errors("samplers", "loud", options)
    assert wrong["gian"] == "loud has no option 'gian'; did you mean 'gain'? Options: gain, mode, taps."
    assert wrong["mode"] == "must be 'soft' or 'hard', not 'loud'"
    assert wrong["taps"] == "must be a whole number, not ['x']"
    assert wrong["gain"] == "must be a number, not 'high'"


def test_a_needed_option_is_named(site: Path) -> None:
    assert message("samplers", "needs-path") == "path: needs-path needs the option 'path'."


def test_a_component_that_takes_any_option_gets_them(site: Path) -> None:
    assert callable(registry.build("samplers", "anything", {"what": 1}))


def test_a_refused_value_says_which_component(site: Path) -> None:
    assert message("samplers", "loud", {"gain": -1}) == "sampler 'loud': gain must be at least 0, not -1"


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("needs-path", {"path": "x"}, "can't be built: OSError: disk on fire"),
        ("constant", {}, "is neither a class nor a function"),
        ("nothing", {}, "is no sampler: it has no __call__"),
        ("gone", {}, "can't be imported: AttributeError"),
    ],
)
def test_a_broken_component_is_blamed_on_its_package(
    site: Path, name: str, options: dict[str, object], what: str
) -> None:
    text = message("samplers", name, options)
    assert f"sampler {name!r} of dheads-loud 1.2 (loud_module:" in text
    assert what in text


def test_two_packages_with_one_name_are_both_named(site: Path) -> None:
    install(site, "other-heads", "3.0", {"samplers/loud": "other_module:Loud"}, {"other_module": MODULE})
    registry.entries.cache_clear()
    text = message("samplers", "loud")
    assert "dheads-loud 1.2 (loud_module:Loud)" in text
    assert "other-heads 3.0 (other_module:Loud)" in text
    assert "uninstall all but one" in text


def test_the_same_distribution_listed_twice_is_one(site: Path) -> None:
    install(site / "again", "dheads-loud", "1.2", POINTS, {})
    registry.entries.cache_clear()
    assert len(registry.entries("samplers")["loud"]) == 1


def test_discovery_imports_nothing(site: Path) -> None:
    import sys

    sys.modules.pop("loud_module", None)
    assert "loud" in registry.entries("samplers")
    assert registry.find("samplers", "loud").package == "dheads-loud"
    assert "loud_module" not in sys.modules
