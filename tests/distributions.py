"""Made-up installed packages: what an installer leaves behind, without the installer."""

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, package: str, version: str, points: Mapping[str, str], modules: Mapping[str, str]) -> None:
    """Write a package and its metadata into a folder that is, or will be, on sys.path.

    Args:
        site: the folder.
        package: distribution name.
        version: its version.
        points: entry points, such as {"samplers/loud": "module:Class"}.
        modules: source by module name.
    """
    info = site / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = []
    for place, target in points.items():
        kind, name = place.split("/")
        lines.append(f"[dheads.{kind}]\n{name} = {target}\n")
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module, source in modules.items():
        (site / f"{module}.py").write_text(source)
