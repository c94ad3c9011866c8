"""What the documents say is so: commands, options, files, and the plugin of the README."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from dheads_cli.cli import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PLUGIN = ROOT / "tests" / "data" / "plugin"


def blocks(text: str, language: str = "") -> list[str]:
    """Contents of the fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Every `dheads ...` of a document: lines of code blocks, parts of chained and piped lines, and inline code."""
    inline = re.findall(r"`((?:\.venv/bin/)?dheads [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [part for block in blocks(text) for line in block.splitlines() for part in re.split(r"&&| \| ", line)]
    found = [re.sub(r"\s+#.*", "", line).strip().removeprefix(".venv/bin/") for line in [*lines, *inline]]
    return sorted({line for line in found if line.startswith("dheads ")})


CASES = [pytest.param(line, id=f"{path.name}: {line}") for path in DOCUMENTS for line in commands(path.read_text())]


@pytest.mark.parametrize("line", CASES)
def test_every_command_exists_with_its_options(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    if "|" in line:  # `dheads recipe show|check|schema` names three commands
        words = [word.split("|")[0] for word in words]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    known |= {"--help", "-"}  # a lone dash is standard input or output
    assert not {word.split("=")[0] for word in words if word.startswith("-")} - known


def test_the_readme_s_set_up_commands_are_where_ci_looks_for_them() -> None:
    text = README.read_text()
    for heading in ("## Install", "## Tests"):
        assert heading in (ROOT / ".ci" / "run").read_text()
        section = text.split(f"\n{heading}\n")[1].split("\n## ")[0]
        assert blocks(section)[0].startswith("python3 -m venv .venv && .venv/bin/pip install ")


@pytest.mark.parametrize(("language", "suffix"), [("python", ".py"), ("toml", ".toml")])
def test_the_readme_s_plugin_is_the_one_that_is_tested(language: str, suffix: str) -> None:
    shown = blocks(README.read_text().split("\n## Your own component\n")[1].split("\n## ")[0], language)
    assert shown
    tested = {path.read_text() for path in PLUGIN.rglob(f"*{suffix}")}
    assert set(shown) <= tested


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    here = [target for target in targets if not target.startswith(("http:", "https:"))]
    assert not [target for target in here if not (path.parent / target).exists()]


def test_every_source_file_is_found_from_the_architecture() -> None:
    """By its name, by that of a few alike (`bench_*`), or in a folder that is named."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    folders = {folder for name in re.findall(r"([\w/]+)/(?=[\s(`,]|$)", text) for folder in name.split("/")}
    folders -= {"dheads_cli", "data", "model", "run", "dheads_components"}  # whose files are named one by one
    names, alike = set(re.findall(r"\w+", text)), tuple(re.findall(r"(\w+_)\*", text))
    files = [path for folder in ("dheads_cli", "components") for path in (ROOT / folder).rglob("*.py")]
    assert not [
        path
        for path in files
        if not (path.stem in names or path.stem.startswith(("__", *alike)) or path.parent.name in folders)
    ]


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`((?:data|model|run)/[\w/]+(?:\.py|/))`", text)
    assert len(named) > 50
    assert not [name for name in named if not (ROOT / "dheads_cli" / name).exists()]
    in_layout = set(re.findall(r"\b[a-z]+_\w*", blocks(text)[0])) - {"dheads_cli"}  # prose has no such words
    assert len(in_layout) > 50
    stems = {path.stem for folder in ("dheads_cli", "components") for path in (ROOT / folder).rglob("*")}
    begun = {stem[: stem.index("_") + 1] for stem in stems if "_" in stem}  # `bench_*`
    assert not sorted(in_layout - stems - begun)


def test_files_in_the_readme_s_commands_exist() -> None:
    named = re.findall(r"\b(?:examples|recipes)/[\w./-]+\w", README.read_text())
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]
