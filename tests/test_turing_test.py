"""`dheads turing-test`: a page that keeps its secret, a key that tells it, and a score with known answers."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from commands import dheads
from corpus import make_corpus
from sample_folder import make_samples, write_film

from dheads_cli.errors import DheadsError
from dheads_cli.run.turing_clips import choose
from dheads_cli.run.turing_score import over_people, score_answers, wilson
from dheads_cli.run.turing_test import REAL, named, turing_test


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with page/index.html and page-key.json: 2 clips each of two methods, and 2 real ones."""
    folder = tmp_path_factory.mktemp("turing")
    corpus = make_corpus(folder / "corpus", {"test": 6})
    for name, darker in (("samples-one", 20), ("samples-two", 60)):
        make_samples(folder / name, corpus, darker=darker)
    samples = [folder / "samples-one", f"Second={folder / 'samples-two'}"]
    ended = dheads("turing-test", *samples, "-o", folder / "page", "--clips", "2", "--seed", "5", "-q")
    assert (ended.code, ended.stderr) == (0, "")
    return folder


def data_of(folder: Path) -> dict[str, Any]:
    page = (folder / "page" / "index.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    return dict(json.loads(found[1]))


def film(clip: dict[str, str]) -> bytes:
    return base64.b64decode(clip["film"].removeprefix("data:video/mp4;base64,"))


def key_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "page-key.json").read_text()))


def test_the_key_has_so_many_clips_of_each_and_no_sentence_twice(made: Path) -> None:
    clips = key_of(made)["clips"]
    assert list(clips) == [clip["id"] for clip in data_of(made)["clips"]] == [f"{i:02d}" for i in range(1, 7)]
    assert Counter(clip["method"] for clip in clips.values()) == {"murky samples-one": 2, "Second": 2, REAL: 2}
    assert len({clip["clip"] for clip in clips.values()}) == 6
    assert [clip["method"] for clip in clips.values()] != sorted(clip["method"] for clip in clips.values())


def test_nothing_on_the_page_tells_the_truth(made: Path) -> None:
    page = re.sub(r"base64,[A-Za-z0-9+/=]*", "", (made / "page" / "index.html").read_text()).encode()
    contents = [clip["clip"] for clip in key_of(made)["clips"].values()]
    secrets = ["murky", "Second", "samples-", "corpus", *contents, *(name.replace("/", "_") for name in contents)]
    for text in (page, *(film(clip) for clip in data_of(made)["clips"])):
        assert not [secret for secret in secrets if secret.encode() in text]
    assert [path.name for path in (made / "page").iterdir()] == ["index.html"]


def test_films_are_alike_but_for_their_pictures(made: Path) -> None:
    facts = set()
    for clip in data_of(made)["clips"]:
        with av.open(io.BytesIO(film(clip))) as container:
            video, sound = container.streams.video[0], container.streams.audio[0]
            facts.add((
                video.width, video.height, video.frames, video.average_rate, video.codec_context.pix_fmt, sound.rate,
                sound.duration, str(container.metadata), str(video.metadata), str(sound.metadata),
            ))  # fmt: skip
    assert len(facts) == 1


def test_the_page_fetches_nothing_and_asks_to_be_allowed_nothing(made: Path) -> None:
    page = (made / "page" / "index.html").read_text()
    assert not re.search(r"https?://|@import|url\(", page.split('id="data"')[0])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'")
    assert "connect-src" not in policy[1]


def test_a_screen_without_a_keyboard_is_told_no_keys(made: Path) -> None:
    page = (made / "page" / "index.html").read_text()
    keys = re.search(r'<span class="keys">(.*?)</span>', page, re.DOTALL)
    assert keys
    assert keys[1].startswith("Keys:")
    assert keys[1].count("<kbd>") == 4
    assert "@media (hover: none) { kbd, .keys { display: none; } }" in page


def test_the_seed_decides_the_page(made: Path, tmp_path: Path) -> None:
    samples = [str(made / "samples-one"), f"Second={made / 'samples-two'}"]
    shown = []
    for seed in (5, 6):
        key = json.loads(Path(turing_test(samples, tmp_path / str(seed), clips=2, seed=seed)["key"]).read_text())
        shown.append([(clip["method"], clip["clip"]) for clip in key["clips"].values()])
    assert shown[0] == [(clip["method"], clip["clip"]) for clip in key_of(made)["clips"].values()]
    assert shown[0] != shown[1]


def test_a_page_that_is_there_is_kept(made: Path) -> None:
    with pytest.raises(DheadsError, match="exists"):
        turing_test([str(made / "samples-one")], made / "page", clips=1)


def test_too_few_clips_are_told_and_leave_nothing(made: Path, tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match="has 6 clips, 7 are asked for"):
        turing_test([str(made / "samples-one")], tmp_path / "page", clips=7)
    assert not list(tmp_path.iterdir())


def test_contents_are_shared_only_when_there_are_too_few() -> None:
    chosen = choose({"a": list("uvwxyz"), "b": list("uvwxyz"), REAL: list("uvwxyz")}, 2, seed=0)
    assert sorted(content for contents in chosen.values() for content in contents) == list("uvwxyz")
    assert chosen != choose({"a": list("uvwxyz"), "b": list("uvwxyz"), REAL: list("uvwxyz")}, 2, seed=1)
    shared = choose({"a": list("xyz"), "b": list("xyz")}, 2, seed=0)
    assert {content for contents in shared.values() for content in contents} == set("xyz")


def test_methods_need_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DheadsError, match="is taken"):
        named([f"x={tmp_path / 'a'}", f"x={tmp_path / 'a'}"])
    with pytest.raises(DheadsError, match="no such samples folder"):
        named([str(tmp_path / "b")])
    with pytest.raises(DheadsError, match="one to 3"):
        named([str(tmp_path / "a")] * 4)


def answer(made: Path, path: Path, person: str, real: dict[str, list[bool]], **changes: Any) -> Path:
    """A file of answers: for each method, what is said of its clips in the key's order."""
    left = {method: list(said) for method, said in real.items()}
    answers = [
        {"clip": label, "real": left[clip["method"]].pop(0), "ms": 9, "plays": 1}
        for label, clip in key_of(made)["clips"].items()
        if left.get(clip["method"])
    ]
    path.write_text(json.dumps({"page": key_of(made)["page"], "person": person, "answers": answers} | changes))
    return path


def test_shares_are_counted_by_method(made: Path, tmp_path: Path) -> None:
    never = {"murky samples-one": [False, False]}
    files = [
        answer(made, tmp_path / "1.json", "1", {"Second": [True, True], REAL: [True, True]} | never),
        answer(made, tmp_path / "2.json", "2", {"Second": [True, False]} | never),
    ]
    ended = dheads("turing-test", "--score", *files, "--key", made / "page-key.json", "--json", "-q")
    assert ended.code == 0
    methods = json.loads(ended.stdout)["methods"]
    assert list(methods) == ["Second", "murky samples-one", REAL]
    assert [methods[name]["judged_real"] for name in methods] == [0.75, 0, 1]
    assert [methods[name]["n_answers"] for name in methods] == [4, 4, 2]
    assert methods["Second"]["over_people"] == [0.5, 1.0]
    assert methods[REAL]["over_people"] is None  # one person
    assert json.loads(ended.stdout)["complete"] == 1


def test_the_key_is_found_beside_the_answers(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "answers").mkdir()
    score_answers([answer(made, made / "answers" / "1.json", "1", {REAL: [True, False]})])
    shown = capsys.readouterr().out
    assert "50.00 %" in shown
    assert re.search(r"paper: Diffused Heads +68.72 %", shown)


def test_answers_of_another_page_or_of_one_person_twice_are_all_told(made: Path, tmp_path: Path) -> None:
    good = {REAL: [True, False]}
    files = [
        answer(made, tmp_path / "good.json", "1", good),
        answer(made, tmp_path / "twice.json", "1", good),
        answer(made, tmp_path / "other.json", "2", good, page="f00"),
        answer(made, tmp_path / "unknown.json", "3", good, answers=[{"clip": "77", "real": True}]),
        answer(made, tmp_path / "maybe.json", "4", good, answers=[{"clip": "01", "real": "maybe"}]),
        answer(made, tmp_path / "none.json", "5", good, answers=[]),
    ]
    with pytest.raises(DheadsError) as told:
        score_answers(files, made / "page-key.json")
    lines = str(told.value).splitlines()
    assert [Path(line.split(":")[0]).stem for line in lines] == ["twice", "other", "unknown", "maybe", "none"]
    with pytest.raises(DheadsError, match="no key of a Turing test"):
        score_answers(files[:1], files[0])


def test_wilson_s_interval_is_the_known_one() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert wilson(20, 20)[1] == 1


def test_people_who_agree_make_a_narrow_interval() -> None:
    assert over_people(np.array([[5, 10]] * 8)) == (0.5, 0.5)
    low, high = over_people(np.array([[0, 10], [10, 10]] * 8)) or (0, 0)
    assert (low, high) == pytest.approx((0.25, 0.75), abs=0.07)


def test_real_clips_of_two_frame_rates_are_refused(tmp_path: Path) -> None:
    for name, fps in (("a", 25), ("b", 50)):
        write_film(tmp_path / "real" / f"{name}.mp4", [9] * 5, fps)
        write_film(tmp_path / "ours" / f"{name}.mp4", [7] * 5, fps)
    with pytest.raises(DheadsError, match="the rate tells who is who"):
        turing_test([str(tmp_path / "ours")], tmp_path / "page", reference=tmp_path / "real", clips=1)
    assert not (tmp_path / "page").exists()


def test_folders_of_any_tool_make_a_page_too(tmp_path: Path) -> None:
    for name in "ab":
        write_film(tmp_path / "real" / f"{name}.mp4", [9] * 5, size=(48, 32))
        write_film(tmp_path / "ours" / f"{name}.mp4", [200] * 9, size=(64, 64))
    turing_test([str(tmp_path / "ours")], tmp_path / "page", reference=tmp_path / "real", clips=1)
    key = json.loads((tmp_path / "page-key.json").read_text())["clips"]
    for clip in data_of(tmp_path)["clips"]:
        with av.open(io.BytesIO(film(clip))) as container:
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert [picture.shape for picture in pictures] == [(32, 48, 3)] * 5  # the real clip's size and length
        assert pictures[0].mean() == pytest.approx(9 if key[clip["id"]]["method"] == REAL else 200, abs=4)
