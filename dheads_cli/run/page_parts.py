"""Parts of a page that stands alone: tables, pictures, figures and films, everything inline."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dheads_cli.data.media import VideoWriter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dheads_cli.protocols import Frames

INK = "#2b3036"  # of text and axes; the page takes its own text colour in its place
BLUE, ORANGE, GRAY = "#3d7fc1", "#dd7a26", "#8b929a"  # told apart on white and on black
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "dheads",
} | dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
STYLE_SHEET = "page.css"
FACE_PX, JPEG_QUALITY = 192, 82
NOTHING_FETCHED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data: blob:"
NUMBER = re.compile(r"[-+]?[\d,.]+(e[-+]\d+)?( [MG]B)?|-")


def whole_page(title: str, facts: Sequence[str], body: str, *, head: str = "", policy: str = "") -> str:
    """A page that fetches nothing, and that its browser lets fetch nothing.

    Args:
        title: of the page.
        facts: short ones, shown below the title.
        body: HTML of its main part and what follows it.
        head: HTML for the end of <head>, such as a style of the page's own.
        policy: what the page may use beside its own styles, pictures and films, as a Content-Security-Policy.
    """
    style = (files(__package__) / STYLE_SHEET).read_text(encoding="utf-8")
    chips = "".join(f"<li>{escaped(fact)}</li>" for fact in facts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{NOTHING_FETCHED}{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escaped(title)}</title>\n'
        f"<style>\n{style}</style>{head}</head>\n<body>"
        f'<header><h1>{escaped(title)}</h1><ul class="facts">{chips}</ul></header>\n{body}</body></html>\n'
    )


def section(title: str, body: str) -> str:
    """A part of the page under its heading; nothing where there is no body."""
    return f"<section><h2>{escaped(title)}</h2>{body}</section>\n" if body else ""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: bool = False) -> str:
    """A table; columns of numbers are set to the right, unless all cells are `texts`."""
    kinds = [
        ' class="n"' if rows and not texts and all(NUMBER.fullmatch(row[place]) for row in rows) else ""
        for place in range(len(columns))
    ]
    head = "".join(f"<th{kind}>{escaped(column)}</th>" for kind, column in zip(kinds, columns, strict=True))
    lines = ("".join(f"<td{kind}>{escaped(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def captioned(picture: NDArray[np.uint8], name: str, said: str) -> str:
    """A picture [H, W, 3] with its name and a remark below."""
    caption = f"<figcaption>{escaped(name)}<br><small>{escaped(said)}</small></figcaption>"
    return f'<figure><img src="{jpeg(picture)}" alt="{escaped(name)}">{caption}</figure>'


def note(text: str) -> str:
    """A paragraph of plain text."""
    return f'<p class="note">{escaped(text)}</p>'


def escaped(text: str) -> str:
    """Text as HTML."""
    return html.escape(text)


def count(n: int, noun: str) -> str:
    """So many of something."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A face [H, W, 3] at FACE_PX."""
    return np.asarray(Image.fromarray(picture).resize((FACE_PX, FACE_PX), Image.Resampling.BICUBIC))


def jpeg(picture: NDArray[np.uint8]) -> str:
    """A picture [H, W, 3] as an image's address."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def png(draw: Callable[[Axes], None]) -> str:
    """A drawing without axes as an image's address."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(2, 2), dpi=FACE_PX)
        draw(figure.add_axes((0, 0, 1, 1)))
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def svg(draw: Callable[[Axes], None], size_in: tuple[float, float]) -> str:
    """A drawing as inline SVG, its ink the colour of the page's text."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=size_in, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        title = axes.get_title(loc="left")
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(INK, "currentColor")
    drawn = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', f' role="img" aria-label="{escaped(title)}"', drawn, count=1)
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", drawn)


def film(frames: Frames, fps: float, sound: NDArray[np.float32] | None, sample_rate: int, crf: int) -> bytes:
    """A clip as an mp4.

    Args:
        frames: uint8 RGB [F, H, W, 3], of even sides.
        fps: frames a second.
        sound: float32 [T] mono in [-1, 1]; None for a silent film.
        sample_rate: Hz of the sound.
        crf: quality, lower is better.
    """
    with TemporaryDirectory() as folder:
        path, size = Path(folder) / "film.mp4", (frames.shape[2], frames.shape[1])
        with VideoWriter(path, fps, size, audio=sound, sample_rate=sample_rate, crf=crf) as writer:
            for frame in frames:
                writer.write(frame)
        return path.read_bytes()
