"""What a training run tells of itself: lines of log.jsonl, TensorBoard's scalars and pictures, means between lines."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from dheads_cli.files import write_atomically
from dheads_cli.run.device_speed import Speed


@dataclass(frozen=True)
class Drawn:
    """What is logged of what was drawn: values in the log and in TensorBoard, PNG or GIF files in TensorBoard alone."""

    values: dict[str, float]
    pictures: dict[str, bytes]


@dataclass
class Meter:
    """Means since the last line of the log."""

    sums: dict[str, float] = field(default_factory=dict)
    n_steps: int = 0
    wait_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def add(self, values: dict[str, float], wait_s: float) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.n_steps += 1
        self.wait_s += wait_s

    def means(self, batch_size: int, speed: Speed | None = None) -> dict[str, float]:
        """The means, the samples a second, the share of the time that a batch was waited for, and that of the peak."""
        elapsed = time.monotonic() - self.began
        samples_per_s = self.n_steps * batch_size / elapsed
        return {
            **{name: total / self.n_steps for name, total in self.sums.items()},
            "samples_per_s": samples_per_s,
            "wait_share": self.wait_s / elapsed,
            **({} if speed is None else {"share_of_peak": speed.share(samples_per_s)}),
        }


def in_words(means: Mapping[str, float]) -> str:
    """What the progress says: the loss, and what the time went into."""
    said = f"loss {means['loss']:.4f}, {means['wait_share']:.0%} waiting for data"
    return said + (f", {means['share_of_peak']:.0%} of the peak" if "share_of_peak" in means else "")


@contextmanager
def open_log(run_dir: Path, step: int) -> Iterator[Any]:
    """A function that logs one line of values to log.jsonl and TensorBoard; lines after `step` are dropped first.

    It also takes pictures, PNG or GIF by their tag, for TensorBoard: a GIF moves there.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary  # slow to import, and only training needs them
    from torch.utils.tensorboard import SummaryWriter

    path = run_dir / "log.jsonl"
    whole, _, _ = (path.read_text() if path.exists() else "").rpartition("\n")  # a kill may leave half a line
    kept = [line for line in whole.splitlines() if json.loads(line)["step"] <= step]
    write_atomically(path, "".join(line + "\n" for line in kept))
    board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1)
    with open(path, "a", encoding="utf-8") as file:

        def log(values: dict[str, float], pictures: Mapping[str, bytes] | None = None) -> None:
            file.write(json.dumps(values) + "\n")
            file.flush()
            for name, value in values.items():
                if name != "step":
                    board.add_scalar(name, value, int(values["step"]))
            for tag, encoded in (pictures or {}).items():
                with Image.open(io.BytesIO(encoded)) as picture:
                    width, height = picture.size
                image = Summary.Image(encoded_image_string=encoded, width=width, height=height, colorspace=3)
                assert board.file_writer is not None  # it is, until the writer is closed
                board.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), values["step"])
            board.flush()  # of a run that is killed, TensorBoard shows as much as the log

        try:
            yield log
        finally:
            board.close()
