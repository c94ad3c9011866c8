"""The package holds everything, declares everything, and keeps its one direction of imports."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

import dheads_cli
from dheads_cli.recipe_io import load_recipe

ROOT = Path(__file__).parents[1]
COMPONENTS = ROOT / "components" / "dheads_components"
HOST = sorted((ROOT / "dheads_cli").rglob("*.py"))
SOURCES = [*HOST, *sorted(COMPONENTS.rglob("*.py"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Declared for what another library does with it, not imported by name.
INDIRECT = {"tensorboard": "torch.utils.tensorboard"}
# Comes with another distribution, in the one version that fits.
PART_OF = {"pydantic-core": "pydantic"}


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names of the modules a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def normalised(requirement: str) -> str:
    """Distribution name in a requirement, as metadata compares it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]).lower()


def test_every_entry_point_loads() -> None:
    declared = {(group, name) for group, points in PROJECT["entry-points"].items() for name in points}
    points = [point for point in distribution("dheads").entry_points if point.group.startswith("dheads.")]
    assert {(point.group, point.name) for point in points} == declared, "install dheads again: pip install -e ."
    for point in points:
        assert callable(point.load())


def test_the_version_is_the_metadata_s() -> None:
    assert PROJECT["version"] == distribution("dheads").version == dheads_cli.__version__


@pytest.mark.parametrize("path", HOST, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_host_imports_no_component(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.split(".")[0] == "dheads_components"]


def test_what_is_imported_is_declared() -> None:
    providers = packages_distributions()
    extras = [
        requirement
        for extra, needs in PROJECT["optional-dependencies"].items()
        if extra != "test"
        for requirement in needs
    ]
    declared = {normalised(requirement) for requirement in [*PROJECT["dependencies"], *extras]}
    declared |= {part for part, whole in PART_OF.items() if whole in declared}
    own = {"dheads_cli", "dheads_components"}
    imported = {name.split(".")[0] for path in SOURCES for name in imports_of(path)} - own - sys.stdlib_module_names
    # A module that is not installed belongs to an extra, and a distribution named like it has to be declared.
    missing = {
        name
        for name in imported
        if not declared & {normalised(dist) for dist in providers.get(name, [name, f"{name}-bin"])}
    }
    assert not missing


def test_what_is_declared_is_imported() -> None:
    providers = packages_distributions()
    names = {name for path in SOURCES for name in imports_of(path)}
    used = {normalised(dist) for name in names for dist in providers.get(name.split(".")[0], [])}
    used |= {package for package, module in INDIRECT.items() if module in names}
    assert {normalised(requirement) for requirement in PROJECT["dependencies"]} <= used


def test_every_weights_file_has_its_checksum() -> None:
    lines = (COMPONENTS / "SHA256SUMS").read_text().splitlines()
    expected = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    files = [path for suffix in ("safetensors", "task") for path in COMPONENTS.rglob(f"*.{suffix}")]
    found = {str(path.relative_to(COMPONENTS)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert found == expected


def test_shipped_recipes_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe("tiny").recipe.name == "tiny"


def test_the_wheel_holds_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    expected = {str(path.relative_to(ROOT)) for path in HOST}
    expected |= {str(path.relative_to(ROOT / "components")) for path in COMPONENTS.rglob("*.py")}
    expected |= {f"dheads_components/{line.split('  ', 1)[1]}" for line in _lines(COMPONENTS / "SHA256SUMS")}
    expected |= {f"dheads_cli/_{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "recipes").rglob("*.yaml")}
    expected |= {f"{package}/py.typed" for package in ("dheads_cli", "dheads_components")}
    expected |= {"dheads_components/SHA256SUMS", "dheads_cli/run/doctor_face.jpg"}
    assert not expected - names
    licences = {name.split("/licenses/", 1)[1] for name in names if "/licenses/" in name}
    shipped = {str(path.relative_to(ROOT)) for path in COMPONENTS.rglob("LICENSE*")}
    assert licences == {"LICENSE", "NOTICE"} | shipped
    assert {name.split("/")[0] for name in names} == {
        "dheads_cli",
        "dheads_components",
        f"dheads-{dheads_cli.__version__}.dist-info",
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
