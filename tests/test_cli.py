import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import dheads
from distributions import install

from dheads_cli import __version__
from dheads_cli.recipe_io import load_recipe

HEAVY = ("torch", "numpy", "cv2", "av", "mediapipe", "yaml", "PIL", "dheads_components", "dheads_cli.recipe")


def process(*words: str, folder: Path | None = None, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", **({"PYTHONPATH": str(site)} if site else {})}
    command = [sys.executable, "-m", "dheads_cli", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = [
    "animate", "preprocess", "train", "sample", "eval", "ablate", "components", "doctor", "bench", "drift",
    "turing-test",
]  # fmt: skip


WORDS = [
    [],
    *[[name] for name in COMMANDS],
    *[["data", "stats"], ["bench", "train"]],
    *[["recipe", name] for name in ("show", "check", "schema")],
]

SHOW_HELP = """
import contextlib, io, json, sys
known = {*sys.modules, *sys.stdlib_module_names}  # with what an environment loads at each start
from dheads_cli.cli import app
for words in json.loads(sys.argv[1]):
    sys.argv = ["dheads", *words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            app()
        except SystemExit as ending:
            assert not ending.code
    loaded = [name for name in sys.modules if not {name, name.split(".")[0]} & known]
    print(json.dumps([words, shown.getvalue(), loaded]))
"""


def test_help_imports_nothing_heavy_and_no_plugin(tmp_path: Path) -> None:
    install(tmp_path, "dheads-loud", "1.0", {"samplers/loud": "loud_module:Loud"}, {"loud_module": "1 / 0\n"})
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # One process shows all of them: what it has loaded only grows, so the first to load too much is told.
    command = [sys.executable, "-c", SHOW_HELP, json.dumps(WORDS)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [words for words, _, _ in shown] == WORDS
    for words, text, loaded in shown:
        assert not {*HEAVY, "loud_module"} & set(loaded), words
        assert not words or words[-1] in ("doctor",) or "Example" in text
    # To a command's parameters Typer takes pydantic; `dheads --help` does without.
    assert "pydantic" not in {name.split(".")[0] for name in shown[0][2]}


def test_help_answers_at_once() -> None:
    def cpu_s(*command: str) -> float:
        """The least of three times, in seconds of the processor, which a busy machine hardly changes."""
        seconds = []
        for _ in range(3):
            before = os.times()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            after = os.times()
            seconds.append(sum(after[2:4]) - sum(before[2:4]))
        return min(seconds)

    # 0.3 s on an idle machine; on a slower one, as many times slower as Python's own start, 0.02 s, has become.
    assert cpu_s("-m", "dheads_cli", "--help") < 0.3 * max(1, cpu_s("-c", "") / 0.02)


def test_without_words_it_shows_its_help() -> None:
    bare, helped = process(), process("--help")
    assert bare.returncode == 0
    assert bare.stdout.strip() == helped.stdout.strip()
    for command in COMMANDS:
        assert f"\n  {command} " in helped.stdout
    assert "..." not in helped.stdout.split("Commands:")[1]


def test_version() -> None:
    assert process("--version").stdout == f"dheads {__version__}\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "tiny", "--bogus"], "No such option: --bogus"),
        (["sample", "x", "--limit", "many"], "Invalid value for '--limit'"),
        (["animate", "a", "b", "--face", "0"], "Invalid value for '--face'"),
    ],
)
def test_a_wrong_command_line_exits_with_2(words: list[str], text: str) -> None:
    done = dheads(*words)
    assert done.code == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_recipe_with_five_mistakes_is_told_all_of_them_and_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        "name: x\ntrain:\n  lrr: 1e-4\n  steps: ten\nmodel:\n  patch_size: 3\n  conditioning: adgn\nseed: -1\n"
    )
    done = process("recipe", "check", "x.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: x.yaml:3:3: train.lrr: unknown key; did you mean 'lr'?",
        "x.yaml:4:10: train.steps: must be a whole number, not 'ten'",
        "x.yaml:6:15: model.patch_size: must be 1, 2 or 4, not 3",
        "x.yaml:7:17: model.conditioning: no conditioning is called 'adgn'; did you mean 'adagn'? "
        "Available: adagn, adagn_summed, audio_scale, cross_attention, cross_attention_official.",
        "x.yaml:8:7: seed: must be at least 0, not -1",
    ]


@pytest.mark.parametrize("words", [["train"], ["recipe", "show"], ["recipe", "check"]])
def test_an_unknown_recipe_exits_with_2(words: list[str], folder: Path) -> None:
    done = dheads(*words, "tini")
    assert done.code == 2
    assert done.stderr.startswith("error: no recipe is called 'tini'; did you mean 'tiny'?")


def test_an_unknown_component_on_the_command_line_exits_with_2(folder: Path) -> None:
    done = dheads("sample", "runs/x", "--sampler", "dim")
    assert done.code == 2
    assert done.stderr.startswith("error: --sampler dim: no sampler is called 'dim'; did you mean 'ddim'?")
    done = dheads("eval", "--metrics", "mouth,ldm")
    assert done.code == 2
    assert done.stderr.startswith("error: --metrics mouth,ldm: no metric is called 'ldm'; did you mean 'lmd'?")


def test_recipe_show_is_a_recipe(folder: Path) -> None:
    shown = dheads("recipe", "show", "tiny", "--set", "seed=3")
    assert shown.code == 0
    assert "seed: 3  " in shown.stdout
    assert shown.stdout.count("# --set") == 1
    (folder / "again.yaml").write_text(shown.stdout)
    assert load_recipe(str(folder / "again.yaml")).recipe == load_recipe("tiny", ["seed=3"]).recipe
    as_json = dheads("recipe", "show", "tiny", "--set", "seed=3", "--json")
    assert json.loads(as_json.stdout)["origins"]["seed"] == "--set"


def test_recipe_check_says_what_a_recipe_takes(folder: Path) -> None:
    words = ["--set", "model.channels=32", "--set", "train.batch_size=1", "--set", "evaluate.metrics=[lmd]"]
    done = dheads("recipe", "check", "tiny", *words, "--json")
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["components"]["sample.sampler"] == "ddim"
    assert report["data"].startswith("not there yet; make it with: dheads preprocess CORPUS -o ")
    assert report["n_parameters"] > 1e5
    assert report["forward_gflop"] > 0.01
    assert 0 < report["train_memory_gib"] < 1
    assert report["hours"] > 0


def test_recipe_check_builds_the_components(folder: Path) -> None:
    done = dheads("recipe", "check", "tiny", "--set", "sample.sampler.steps=0")
    assert done.code == 2
    assert done.stderr.endswith("sample.sampler: sampler 'ddim': steps must be at least 1, not 0\n")


def test_recipe_schema_is_that_of_the_shipped_recipes(folder: Path) -> None:
    done = dheads("recipe", "schema", "-o", "recipe.schema.json")
    assert done.code == 0
    schema = json.loads((folder / "recipe.schema.json").read_text())
    by_task = {case["if"]["properties"]["task"]["const"]: case for case in schema["allOf"]}
    assert list(by_task) == schema["properties"]["task"]["enum"] == ["video", "words", "sync", "lips"]
    assert "required" not in by_task["video"]["if"]  # a recipe that names no task is one of a video
    for case in by_task.values():
        recipe = schema["$defs"].pop(case["then"]["$ref"].removeprefix("#/$defs/"))
        assert recipe["additionalProperties"] is False
        assert "name" in recipe["required"]
        assert recipe["properties"]["base"]["type"] == "string"
    sampler = schema["$defs"]["Sample"]["properties"]["sampler"]
    assert "ddim" in sampler["anyOf"][0]["enum"]
    assert schema["$defs"]["Sample"]["properties"]["draft_sampler"]["anyOf"] == [*sampler["anyOf"], {"type": "null"}]
    for section in schema["$defs"].values():
        assert all("description" in field for field in section["properties"].values())
    assert dheads("recipe", "schema").stdout == (folder / "recipe.schema.json").read_text()
    refused = dheads("recipe", "schema", "-o", "no/such/folder.json")
    assert refused.code == 2
    assert refused.stderr == "error: no/such/folder.json: can't be written: No such file or directory\n"


def test_an_unknown_kind_gets_a_suggestion() -> None:
    done = dheads("components", "--kind", "sampler")
    assert done.code == 2
    assert done.stderr.startswith("error: --kind sampler: no such kind; did you mean 'samplers'?")


def test_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-m", "dheads_cli", "recipe", "schema"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(60) in (0, 1)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_says_so_and_exits_with_130(tmp_path: Path) -> None:
    slow = "import os, signal\ndef slow():\n    os.kill(os.getpid(), signal.SIGINT)\n"
    install(tmp_path, "dheads-slow", "1.0", {"samplers/slow": "slow_module:slow"}, {"slow_module": slow})
    (tmp_path / "x.yaml").write_text("name: x\nsample: {sampler: slow}\n")
    done = process("recipe", "check", "x.yaml", folder=tmp_path, site=tmp_path)
    assert done.returncode == 130 == 128 + signal.SIGINT
    assert done.stderr.endswith("error: stopped by Ctrl-C\n")
    assert "Traceback" not in done.stderr


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom dheads_cli.cli import app, main\n"
        "@app.command()\ndef crash() -> None:\n    raise KeyError('bug')\n"
        "sys.argv = ['dheads', 'crash']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "KeyError: 'bug'" in done.stderr


@pytest.mark.parametrize(
    ("given", "count"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, None)],
)
def test_threads_do_not_spin_long_unless_the_user_says_so(given: dict[str, str], count: str | None) -> None:
    program = (
        "import os, sys, dheads_cli.cli as cli; sys.argv = ['dheads', '--version']\n"
        "try: cli.main()\nexcept SystemExit: print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=plain | given, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == str(count)
