"""Parts of a page that stands alone: tables, pictures and figures as HTML text, everything inline."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dheads_cli.run.data_stats import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FACE_PX, JPEG_QUALITY = 192, 82
NUMBER = re.compile(r"[-+]?[\d,.]+(e[-+]\d+)?( [MG]B)?|-")


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
    with rc_context(figures.STYLE):
        figure = Figure(figsize=(2, 2), dpi=FACE_PX)
        draw(figure.add_axes((0, 0, 1, 1)))
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def svg(draw: Callable[[Axes], None], size_in: tuple[float, float]) -> str:
    """A drawing as inline SVG, its ink the colour of the page's text."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with rc_context(figures.STYLE):
        figure = Figure(figsize=size_in, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        title = axes.get_title(loc="left")
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(figures.INK, "currentColor")
    drawn = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', f' role="img" aria-label="{escaped(title)}"', drawn, count=1)
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", drawn)
