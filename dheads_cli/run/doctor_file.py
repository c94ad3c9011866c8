"""`dheads doctor FILE`: does a file say that dheads made it?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from dheads_cli import console
from dheads_cli.data.provenance import read_provenance


def doctor_file(path: Path) -> dict[str, Any]:
    """Tell what a file's metadata says of its making.

    Returns:
        {"file", "says_synthetic", "version", "model", "seed", "inputs"}, the last four None where the file says
        nothing; also printed under --json.

    Raises:
        DheadsError: there is no such file, or it is neither video nor picture.
    """
    found = read_provenance(path)
    if found:
        console.text(f"{path}: {found.statement()}")
    else:
        console.text(
            f"{path} does not say that dheads made it. It may still be: metadata is lost when a file is encoded anew."
        )
    facts = asdict(found) if found else {"version": None, "model": None, "seed": None, "inputs": None}
    report = {"file": str(path), "says_synthetic": found is not None, **facts}
    console.result(report)
    return report
