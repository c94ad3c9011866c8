"""The page of a Turing test, whole in one file: films, script and style. It knows nothing of the truth."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib.resources import files

from dheads_cli.run.page_parts import whole_page

SCRIPT, STYLE_SHEET = "turing_page.js", "turing_page.css"
TITLE = "Real or not?"
MAIN = """<main>
<section id="start">
<p>You will see <b id="count"></b> short films of people speaking. Some are recordings; in others a computer made the
picture, and only the sound is recorded. For each, say which you think it is. Please use headphones or loudspeakers.</p>
<p>Each film plays once before you can answer, and again as often as you like. <span class="keys">Keys:
<kbd>R</kbd> real, <kbd>N</kbd> not real, <kbd>Space</kbd> play again, <kbd>B</kbd> back.</span></p>
<p>Nothing is sent anywhere. At the end you save a file with your answers and hand it to whoever gave you this page.</p>
<button id="begin" class="wide">Begin</button>
</section>
<section id="trial" hidden>
<div class="bar"><progress id="progress" value="0"></progress><span id="place" aria-live="polite"></span></div>
<video id="film" playsinline disablepictureinpicture disableremoteplayback></video>
<p id="hint" role="status"></p>
<div class="answers"><button id="real" disabled>Real <kbd>R</kbd></button>
<button id="fake" disabled>Not real <kbd>N</kbd></button></div>
<div class="minor"><button id="again">Play again <kbd>Space</kbd></button>
<button id="back">Back <kbd>B</kbd></button></div>
</section>
<section id="end" hidden>
<p><b>Thank you.</b> Save your answers and hand the file to whoever gave you this page.</p>
<button id="save" class="wide">Save the answers</button>
<p id="saved" role="status"></p>
<details><summary>Can't save a file? Copy this text instead</summary><textarea id="text" readonly rows="6"></textarea>
</details>
<div class="minor"><button id="back-end">Back <kbd>B</kbd></button>
<button id="next" hidden>Next person: begin anew</button></div>
</section>
<p id="trouble" role="alert"></p>
</main>
"""


def page_text(page_id: str, films: Mapping[str, bytes], size: tuple[int, int]) -> str:
    """The whole page, HTML.

    Args:
        page_id: goes into the answers, so that they are scored by the right key.
        films: mp4 by number.
        size: (width, height) px of all films.
    """
    clips = [
        {"id": label, "film": f"data:video/mp4;base64,{base64.b64encode(film).decode()}"}
        for label, film in films.items()
    ]
    data = json.dumps({"page": page_id, "clips": clips}).replace("</", "<\\/")
    script = (files(__package__) / SCRIPT).read_text(encoding="utf-8")
    style = (files(__package__) / STYLE_SHEET).read_text(encoding="utf-8")
    shape = f"#film {{ aspect-ratio: {size[0]} / {size[1]}; }}\n"
    body = f'{MAIN}<script type="application/json" id="data">{data}</script>\n<script>\n{script}</script>\n'
    return whole_page(
        TITLE, [], body, head=f"\n<style>\n{style}{shape}</style>", policy="; script-src 'unsafe-inline'"
    )
