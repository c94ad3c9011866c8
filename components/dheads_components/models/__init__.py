"""Trained models that ship with the package, each with its recipe inside. docs/MODEL_CARD.md tells what they can do."""

from __future__ import annotations

from pathlib import Path


def tiny() -> Path:
    """64 px, trained on GRID with recipes/tiny.yaml."""
    return Path(__file__).with_name("tiny.safetensors")


def small_grid() -> Path:
    """128 px: grown from tiny, trained on GRID alone; recipes/small-grid.yaml is its last stage."""
    return Path(__file__).with_name("small-grid.safetensors")


def small() -> Path:
    """128 px, the default: begun with small-grid, trained on GRID and synthetic speakers with recipes/small.yaml."""
    return Path(__file__).with_name("small.safetensors")
