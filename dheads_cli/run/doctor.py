"""`dheads doctor`: try, on this machine, everything that `dheads animate` needs, and say what to do where it fails."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dheads_cli import console, registry
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of
from dheads_cli.run.doctor_metrics import metric_networks

FACE = Path(__file__).with_name("doctor_face.jpg")
CHECKSUMS = "SHA256SUMS"  # in the components' package; the format of sha256sum
MIN_FREE_GB = 2.0
CACHE = Path("~/.cache/dheads")  # where components keep the networks that they fetch
REINSTALL = "install dheads again, in a fresh virtual environment, as under Install in README.md"


@dataclass(frozen=True)
class Check:
    """What was found of one thing: `remedy` is empty where all is well, `numbers` is for scripts."""

    name: str
    found: str
    remedy: str = ""
    needed: bool = True
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing to mend."""
        return not self.remedy


def doctor() -> dict[str, Any]:
    """Check this machine and print a line for each check.

    Returns:
        {"ok": bool, "checks": [{"name", "ok", "found", "remedy", "needed", "numbers"}]}; also printed under --json.

    Raises:
        DheadsError: something that `animate` needs is missing.
    """
    machine = [_python(), _torch(), _device(), _bf16(), _codecs(), disk(Path.cwd(), CACHE)]
    networks = [Check(*row, needed=False) for row in metric_networks()]
    return report([*machine, _detector(), weights(components_folder()), speed(), *networks])


def report(checks: list[Check]) -> dict[str, Any]:
    """Show what the checks found; returns and raises as `doctor` does."""
    broken = [check for check in checks if check.needed and not check.ok]
    found = {"ok": not broken, "checks": [asdict(check) | {"ok": check.ok} for check in checks]}
    states = {True: "missing", False: "see below"}  # by whether it is needed
    rows = [[check.name, "ok" if check.ok else states[check.needed], check.found] for check in checks]
    todo = "\n".join(f"{check.name}: {check.remedy}" for check in checks if not check.ok)
    if not broken:
        todo += ("\n" if todo else "") + "All that `dheads animate` needs is here."
    console.table("dheads doctor", ["what", "state", "found"], rows, footer=todo)
    console.result(found)
    if broken:
        names = ", ".join(check.name for check in broken)
        raise DheadsError(f"`dheads animate` can't run here for want of {names}; the report above says what to do.")
    return found


def _python() -> Check:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    return Check("Python", found, "" if fits else "make a virtual environment with Python 3.11, 3.12 or 3.13")


def _torch() -> Check:
    """torch and torchaudio must be of one release: torchaudio's compiled part fits no other torch."""
    try:
        versions = {name: version(name) for name in ("torch", "torchaudio")}
        import torch  # noqa: F401
        import torchaudio  # noqa: F401
    except (PackageNotFoundError, ImportError, OSError) as error:
        return Check("torch, torchaudio", f"{type(error).__name__}: {error}", REINSTALL)
    found = ", ".join(f"{name} {number}" for name, number in versions.items())
    releases = {tuple(number.split("+")[0].split(".")[:2]) for number in versions.values()}
    return Check("torch, torchaudio", found, "" if len(releases) == 1 else REINSTALL)


def _device() -> Check:
    try:
        import torch
    except (ImportError, OSError):
        return Check("device", "unknown without torch", REINSTALL)
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        memory_gb = card.total_memory / 2**30
        return Check("device", f"cuda: {card.name}, {memory_gb:.0f} GiB; {torch.cuda.device_count()} in all")
    n_threads, instructions = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    return Check("device", f"cpu: {n_threads} thread{'s' * (n_threads != 1)}, {instructions}; no CUDA")


def _bf16() -> Check:
    """Arithmetic on the CPU: what it has for bf16, and what a convolution gains by it."""
    try:
        import torch
    except (ImportError, OSError):
        return Check("bf16 on the CPU", "unknown without torch", REINSTALL, needed=False)
    has = torch.cpu.get_capabilities()
    units = [name for name in ("avx512_bf16", "amx_bf16") if has.get(name)] or ["no bf16 instructions"]
    gain = convolution_seconds(torch.float32) / convolution_seconds(torch.bfloat16)
    return Check("bf16 on the CPU", f"{', '.join(units)}; a convolution runs {gain:.1f} x as fast as in float32")


def convolution_seconds(dtype: Any, n_repeats: int = 5) -> float:
    """Fastest of a few runs of a 3x3 convolution, 128 channels [8, 128, 32, 32], channels last, on the CPU."""
    import torch

    weight = torch.zeros(128, 128, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
    h = torch.zeros(8, 128, 32, 32, dtype=dtype).to(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(n_repeats):
            begun = time.perf_counter()
            torch.nn.functional.conv2d(h, weight, padding=1)
            times.append(time.perf_counter() - begun)
    return min(times)


def _codecs() -> Check:
    """Write and read back a moment of each format that dheads writes, with the code that writes it."""
    try:
        import numpy as np

        from dheads_cli.data import media
    except (ImportError, OSError) as error:
        return Check("codecs", f"{type(error).__name__}: {error}", REINSTALL)
    frames = np.full((5, 64, 64, 3), 128, dtype=np.uint8)
    waveform = np.zeros(3200, dtype=np.float32)  # 5 frames of 25 a second at 16 kHz

    def video(suffix: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"clip{suffix}"
            with media.VideoWriter(path, 25, (64, 64), waveform, 16000) as writer:
                for frame in frames:
                    writer.write(frame)
            media.read_video(path, 25)
            media.read_audio(path, 16000)

    trials: dict[str, Callable[[], object]] = {
        "H.264 with AAC": lambda: video(".mp4"),
        "VP9 with Opus": lambda: video(".webm"),
        "H.264 4:4:4": lambda: media.decode_clip_mp4(media.encode_clip_mp4(frames, 25)),
        "FLAC": lambda: media.decode_flac(media.encode_flac(waveform, 16000)),
    }
    failed = []
    for name, trial in trials.items():
        try:
            trial()
        except (DheadsError, OSError, ValueError, TypeError) as error:  # TypeError: PyAV of another release
            failed.append(f"{name}: {error}")
    return Check("codecs", "; ".join(failed) or ", ".join(trials), REINSTALL if failed else "")


def _detector() -> Check:
    """Find the face in a small picture that ships with dheads, with the default landmark detector."""
    from dheads_cli.recipe import Preprocess

    name = Preprocess().detector.use
    label = f"landmark detector {name}"
    begun = time.perf_counter()
    try:
        from dheads_cli.data import media

        faces = registry.build("landmark_detectors", name).all_faces(media.read_image(FACE))
    except (DheadsError, ImportError, OSError, RuntimeError) as error:
        return Check(label, f"{type(error).__name__}: {error}", REINSTALL)
    if len(faces) != 1:
        return Check(label, f"{len(faces)} faces in a picture of one", REINSTALL)
    return Check(label, f"finds the face; start and first picture {time.perf_counter() - begun:.2f} s")


def weights(folder: Path | None) -> Check:
    """Compare the weights that ship in the components' folder with their checksums."""
    if folder is None or not (folder / CHECKSUMS).is_file():
        return Check("shipped weights", f"no {CHECKSUMS} in {folder or 'the components'}", REINSTALL)
    expected = [line.split("  ", 1) for line in (folder / CHECKSUMS).read_text().splitlines()]
    wrong, n_bytes = [], 0
    for digest, name in expected:
        path = folder / name
        if not path.is_file():
            wrong.append(f"{path} is not there")
            continue
        n_bytes += path.stat().st_size
        if sha256_of(path) != digest:
            wrong.append(f"{path} is damaged")
    found = "; ".join(wrong) or f"{len(expected)} files, {n_bytes / 1e6:.0f} MB, checksums right"
    return Check("shipped weights", found, REINSTALL if wrong else "")


def components_folder() -> Path | None:
    """Folder of the package that registers the default audio encoder, found without importing it."""
    from dheads_cli.recipe_model import Model

    try:
        target = registry.find("audio_encoders", Model().audio_encoder.use).target
    except DheadsError:
        return None
    spec = importlib.util.find_spec(target.split(".")[0])
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def disk(outputs: Path, cache: Path, least_gb: float = MIN_FREE_GB) -> Check:
    """Room where videos are written and where fetched networks are kept."""
    free, short = {}, []
    for folder, what in ((outputs, "videos are written there"), (cache.expanduser(), "networks are kept there")):
        there = next(place for place in (folder, *folder.parents) if place.is_dir())
        free[str(folder)] = shutil.disk_usage(there).free / 2**30
        if free[str(folder)] < least_gb:
            short.append(f"{folder}: {what}")
    found = ", ".join(f"{free_gb:.1f} GiB free in {folder}" for folder, free_gb in free.items())
    remedy = f"free at least {least_gb:.0f} GiB ({'; '.join(short)})" if short else ""
    return Check("disk", found, remedy, needed=False, numbers={"free_gb": free})


def speed() -> Check:
    """Draw a few frames with the model that `dheads animate` takes, and say how long a short clip will take."""
    try:
        from dheads_cli.run.animate_clip import DEFAULT_MODEL
        from dheads_cli.run.doctor_speed import seconds_of_a_clip

        numbers = seconds_of_a_clip(registry.load("models", DEFAULT_MODEL)(), FACE)
    except (DheadsError, ImportError, OSError, RuntimeError) as error:
        return Check("speed", f"{type(error).__name__}: {error}", REINSTALL, needed=False)
    found = (
        f"a {numbers['clip_s']:g} s clip takes about {numbers['takes_s']:.0f} s with {numbers['model']} on "
        f"{numbers['device']} ({numbers['frames']} frames measured, {numbers['frame_s']:.3f} s each)"
    )
    return Check("speed", found, needed=False, numbers=numbers)
