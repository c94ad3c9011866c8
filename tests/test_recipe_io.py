from collections.abc import Callable
from pathlib import Path

import pytest

from dheads_cli.errors import DheadsError
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_files import shipped_recipes
from dheads_cli.recipe_io import (
    any_recipe_from_json,
    component_from_text,
    components_from_text,
    load_any_recipe,
    load_recipe,
    overridden,
    recipe_from_json,
    recipe_to_yaml,
)
from dheads_cli.recipe_words import WordsRecipe


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        Path("x.yaml").write_text(text)
        return "x.yaml"

    return write


def mistakes(ref: str, *overrides: str) -> list[str]:
    with pytest.raises(DheadsError) as caught:
        load_recipe(ref, overrides)
    return str(caught.value).splitlines()


def test_every_shipped_recipe_loads_and_reads_back_the_same() -> None:
    assert "tiny" in shipped_recipes()
    for name in shipped_recipes():
        recipe = load_any_recipe(name).recipe
        assert any_recipe_from_json(recipe.model_dump_json()) == recipe


def test_yaml_reads_back_the_same(write: Callable[[str], str]) -> None:
    path = write(
        'name: "1e5"\ndescription: "on: # two\\nlines"\npreprocess: {test_speakers: ["1e3", "no", "010"]}\n'
        "train: {lr: 1e-7}\nsample: {sampler: {use: ddim, steps: 7, eta: 0.5}}\nmodel: {n_heads: 4}\n"
        "evaluate: {metrics: [{use: mouth, max_lag: 3}, lmd]}\n"
    )
    recipe = load_recipe(path).recipe
    assert recipe.train.lr == 1e-7
    again = write(recipe_to_yaml(recipe))
    assert load_recipe(again).recipe == recipe


def test_all_mistakes_come_at_once_each_with_its_place(write: Callable[[str], str]) -> None:
    path = write(
        "name: bad\n"
        "train:\n"
        "  lrr: 1e-4\n"
        "  steps: ten\n"
        "  lr: 1e-4\n"
        "  lr: 2e-4\n"
        "model:\n"
        "  size: 66\n"
        "  patch_size: 2\n"
        "  conditioning: adgn\n"
        "sample:\n"
        "  sampler: {use: ddim, stps: 10, eta: high}\n"
        "lr: 3\n"
    )
    assert mistakes(path, "train.flip=2") == [
        "x.yaml:3:3: train.lrr: unknown key; did you mean 'lr'?",
        "x.yaml:4:10: train.steps: must be a whole number, not 'ten'",
        "x.yaml:6:3: train.lr: given twice; the first is at x.yaml:5:3",
        "x.yaml:8:9: model.size: must be a multiple of 8 (patch_size x 2^(levels - 1)), not 66",
        "x.yaml:10:17: model.conditioning: no conditioning is called 'adgn'; did you mean 'adagn'? "
        "Available: adagn, adagn_summed, audio_scale, cross_attention, cross_attention_official.",
        "x.yaml:12:30: sample.sampler.stps: ddim has no option 'stps'; did you mean 'steps'? Options: steps, eta.",
        "x.yaml:12:39: sample.sampler.eta: must be a number, not 'high'",
        "x.yaml:13:1: lr: unknown key; did you mean 'train.lr'?",
        "--set train.flip=2: train.flip: must be at most 1, not 2",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [a\n", "x.yaml:2:1: not valid YAML: "),
        ("name: a\ntrain:\n\tlr: 1\n", "x.yaml:3:1: a tab; YAML indents with spaces"),
        ("name: a\n- b\n", "x.yaml:2:1: not valid YAML: "),
        ("name: \x07\n", "x.yaml:1:7: the character U+0007 is not allowed in YAML"),
        ("- a\n", "x.yaml: a recipe is made of `key: value` lines"),
        ("", "x.yaml: name: is needed but not given"),
        ("name: a\n---\nname: b\n", "x.yaml:2:1: not valid YAML: "),
        ("name: &a x\ndescription: *a\n", "x.yaml:2:14: not valid YAML: aliases"),
        ("name: !!python/name:os.system x\n", "x.yaml:1:7: name: the tag !!python/name:os.system is not read"),
        ("name: a\ntrain:\n  lr:\n", "x.yaml:3:6: train.lr: has no value; it must be a number"),
        ("name: a\ntrain: fast\n", "x.yaml:2:8: train: must be a section of `key: value` lines, not 'fast'"),
        ("name: a\nmodel: {conditioning: 3}\n", "x.yaml:2:23: model.conditioning: must be a component: NAME, or"),
        ("name: a\nmodel: {conditioning: {a: 3}}\n", "x.yaml:2:23: model.conditioning.use: is needed but not given"),
        (
            "name: a\nmodel: {noised_motion: yes}\n",
            "x.yaml:2:24: model.noised_motion: must be true or false, not 'yes'",
        ),
        ("name: a\nmodel: {patch_size: 3}\n", "x.yaml:2:21: model.patch_size: must be 1, 2 or 4, not 3"),
        (
            "name: a\nmodel: {channels: 32, channel_mult: [1], head_dim: 64}\n",
            "x.yaml:2:52: model.head_dim: 64 does not divide the 32 channels of a level with attention",
        ),
        (
            "name: a\nmodel: {n_heads: 5}\n",
            "x.yaml:2:18: model.n_heads: 5 does not divide the 768 channels of a level with attention",
        ),
        ("name: a\nmodel: {channel_mult: []}\n", "x.yaml:2:23: model.channel_mult: must name at least one level"),
        (
            "name: a\nmodel: {attention_levels: [1, 3]}\n",
            "x.yaml:2:27: model.attention_levels: [3] do not exist: there are levels 0 to 2",
        ),
        ("name: a\ntrain: {lr: .inf}\n", "x.yaml:2:13: train.lr: must be a finite number, not .inf"),
        ("name: a\ntrain: {steps: 1e5}\n", "x.yaml:2:16: train.steps: must be a whole number, not 100000.0"),
        ("name: a/b\n", "x.yaml:1:7: name: must be letters, digits"),
        ("name: a\npreprocess: {test_speakers: [7]}\n", 'must be text, not 7; in quotes it is text: "7"'),
        ("name: a\ntrain: {1: 2}\n", "x.yaml:2:9: train.1: unknown key"),
        ("name: a\n? [b]\n: c\n", "x.yaml:2:3: a key must be a plain word"),
    ],
)
def test_a_mistake_is_told_in_plain_words_and_with_its_place(
    write: Callable[[str], str], text: str, expected: str
) -> None:
    found = mistakes(write(text))
    assert len(found) == 1
    assert expected in found[0]


def test_every_tab_is_shown(write: Callable[[str], str]) -> None:
    found = mistakes(write("name: a\ntrain:\n\tlr: 1\n \tsteps: 2\n"))
    assert [line.split(": ")[0] for line in found] == ["x.yaml:3:1", "x.yaml:4:2"]


def test_numbers_follow_yaml_1_2(write: Callable[[str], str]) -> None:
    recipe = load_recipe(
        write("name: 'on'\ndescription: 2024-01-01\ntrain: {lr: 1e-4, weight_decay: 1E2, steps: 200_000}\n")
    ).recipe
    assert recipe.description == "2024-01-01"
    assert (recipe.train.lr, recipe.train.weight_decay, recipe.train.steps) == (1e-4, 100.0, 200_000)


def test_one_corpus_or_several_with_their_weights(write: Callable[[str], str]) -> None:
    several = "name: x\ndata:\n  path:\n    - {path: a/g, weight: 3}\n    - b/g\n"
    data = load_recipe(write(several)).recipe.data
    assert (data.paths, data.shares, data.corpus_names) == ([Path("a/g"), Path("b/g")], [0.75, 0.25], ["g", "g-2"])
    loaded = load_recipe("x.yaml")
    assert load_recipe(write(recipe_to_yaml(loaded.recipe))).recipe == loaded.recipe
    assert recipe_from_json(loaded.recipe.model_dump_json()) == loaded.recipe
    assert loaded.origins["data.path"] == "x.yaml:4:5"
    plain = load_recipe(write("name: x\ndata: {path: c}\n")).recipe
    assert load_recipe(write("name: x\ndata: {path: [{path: c, weight: 2}]}\n")).recipe == plain
    assert load_recipe(write(several), ["data.path=c"]).recipe == plain
    assert load_recipe("x.yaml", ["data.path=[c, {path: d, weight: 3}]"]).recipe.data.shares == [0.25, 0.75]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("[]", "x.yaml:2:14: data.path: "),
        ("[a, b, ./a]", "x.yaml:2:21: data.path[2]: "),
        ("[a, {path: b, weight: 0}]", "x.yaml:2:36: data.path[1].weight: must be above 0"),
        ("[a, {path: b, weigth: 1}]", "x.yaml:2:28: data.path[1].weigth: unknown key; did you mean 'weight'?"),
        ("[a, {weight: 1}]", "x.yaml:2:18: data.path[1].path: "),
        ("[a, 5]", "x.yaml:2:18: data.path[1]: "),
        ("{path: a}", "x.yaml:2:14: data.path: "),
    ],
)
def test_a_mistake_in_a_list_of_corpora_has_its_place(
    write: Callable[[str], str], path: str, expected: str
) -> None:
    found = mistakes(write(f"name: x\ndata: {{path: {path}}}\n"))
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_a_word_recogniser_takes_one_corpus(write: Callable[[str], str]) -> None:
    with pytest.raises(DheadsError, match=r"x\.yaml:3:14: data\.path: must be text"):
        load_any_recipe(write("name: x\ntask: words\ndata: {path: [a, b]}\n"))


def test_values_know_where_they_come_from(write: Callable[[str], str]) -> None:
    path = write("name: a\ntrain:\n  lr: 1e-4\nsample:\n  sampler: ddim\n")
    origins = load_recipe(path, ["train.steps=7", "sample.sampler.steps=5"]).origins
    assert origins["train.lr"] == "x.yaml:3:7"
    assert origins["train.steps"] == origins["sample.sampler.steps"] == "--set"
    assert origins["sample.sampler.use"] == "x.yaml:5:12"
    assert origins["train.batch_size"] == origins["model.conditioning.use"] == "default"


def test_the_shown_recipe_has_every_value_and_its_origin(write: Callable[[str], str]) -> None:
    loaded = load_recipe(write("name: a\ntrain: {lr: 1e-4}\n"), ["train.flip=0.5"])
    shown = recipe_to_yaml(loaded.recipe, loaded.origins)
    values = [line for line in shown.splitlines() if "#" in line]
    assert len(values) == len(loaded.origins)
    assert {line.index("#") for line in values} == {values[0].index("#")}
    assert next(line for line in values if " lr: " in line).endswith("# x.yaml:2:13")
    assert load_recipe(write(shown)).recipe == loaded.recipe


@pytest.mark.parametrize(
    ("base", "overrides", "expected"),
    [
        ("", ["sample.sampler=ddim"], "ddim"),
        ("", ["sample.sampler.steps=5"], {"use": "ddpm", "steps": 5}),
        ("sample: {sampler: ddim}", ["sample.sampler.steps=5"], {"use": "ddim", "steps": 5}),
        (
            "sample: {sampler: {use: ddim, eta: 1.0}}",
            ["sample.sampler.steps=5"],
            {"use": "ddim", "eta": 1.0, "steps": 5},
        ),
        ("sample: {sampler: {use: ddim, eta: 1.0}}", ["sample.sampler=ddpm"], "ddpm"),
        ("", ["sample.sampler={use: ddim, steps: 3}", "sample.sampler.steps=4"], {"use": "ddim", "steps": 4}),
    ],
)
def test_overrides_reach_into_components(
    write: Callable[[str], str], base: str, overrides: list[str], expected: object
) -> None:
    recipe = load_recipe(write(f"name: a\n{base}\n"), overrides).recipe
    assert recipe.sample.sampler.model_dump() == expected


def test_overrides_replace_lists_and_the_last_one_wins(write: Callable[[str], str]) -> None:
    recipe = load_recipe(write("name: a\n"), ["train.lr=1", "train.lr=2e-5", "evaluate.metrics=[mouth, lmd]"]).recipe
    assert recipe.train.lr == 2e-5
    assert [metric.use for metric in recipe.evaluate.metrics] == ["mouth", "lmd"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("foo", "--set foo: write it as KEY=VALUE"),
        ("=3", "--set =3: write it as KEY=VALUE"),
        ("train..lr=3", "--set train..lr=3: write it as KEY=VALUE"),
        ("train={lr: 1}", "--set train={lr: 1}: train is a section; set one of its keys: --set train.steps=..."),
        ("train.lr=[", "--set train.lr=[: not valid YAML"),
        ("train.lr=", "--set train.lr=: train.lr: has no value; it must be a number"),
        ("train.lrr=1", "--set train.lrr=1: train.lrr: unknown key; did you mean 'lr'?"),
        ("train.lr.x=1", "--set train.lr.x=1: train.lr has no keys"),
        ("evaluate.metrics.0=lmd", "--set evaluate.metrics.0=lmd: evaluate.metrics has no keys; set it whole"),
        ("trian.lr=1", "--set trian.lr=1: trian: unknown key; did you mean 'train'?"),
        ("sample.sampler=dim", "--set sample.sampler=dim: sample.sampler: no sampler is called 'dim'"),
        (
            "train.augment.nois.strength=1",
            "--set train.augment.nois.strength=1: train.augment.nois: unknown key; did you mean 'noise'?",
        ),
        (
            "train.augment.noise.strenth=1",
            "--set train.augment.noise.strenth=1: train.augment.noise.strenth: unknown key; did you mean 'strength'?",
        ),
        ("train.augment.noise=loud", "--set train.augment.noise=loud: train.augment.noise: must be a section"),
        ("sample.sampler.steps=few", "--set sample.sampler.steps=few: sample.sampler.steps: must be a whole number"),
    ],
)
def test_a_wrong_override_is_shown_as_it_was_written(write: Callable[[str], str], override: str, expected: str) -> None:
    found = mistakes(write("name: a\n"), override)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_a_section_in_a_section_is_read_shown_and_set(write: Callable[[str], str]) -> None:
    path = write("name: a\ntrain:\n  augment:\n    noise: {probability: 1}\n")
    loaded = load_recipe(path, ["train.augment.codec.strength=0.25", "train.augment.variants=2"])
    assert loaded.recipe.train.augment.active() == {"noise": (1.0, 0.5), "codec": (0.5, 0.25)}
    origins = {path.removeprefix("train.augment."): origin for path, origin in loaded.origins.items()}
    assert origins["noise.probability"] == "x.yaml:4:26"
    assert (origins["noise.strength"], origins["codec.strength"], origins["gain"]) == ("default", "--set", "default")
    assert load_recipe(write(recipe_to_yaml(loaded.recipe))).recipe == loaded.recipe


def test_an_unknown_recipe_gets_a_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert mistakes("tini")[0].startswith("no recipe is called 'tini'; did you mean 'tiny'? Shipped recipes: ")
    Path("mine.yaml").write_text("name: mine\n")
    assert mistakes("mne.yaml")[0].startswith("mne.yaml: no such file; did you mean 'mine.yaml'?")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("name: mine\n")
    assert mistakes("./run") == ["./run: is a folder, not a recipe; its recipe is run/recipe.yaml"]


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"name: a\ndescription: \xff\n")
    assert mistakes(str(path)) == [f"{path}:2: not UTF-8 text; save the recipe as UTF-8"]
    path.write_bytes(b"\xef\xbb\xbfname: a\n")
    assert load_recipe(str(path)).recipe.name == "a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "a.safetensors: its recipe is not JSON"),
        ("[]", "a.safetensors: its recipe is not a recipe"),
        ('{"name": "a", "train": {"lrr": 1}}', "a.safetensors: train.lrr: unknown key; did you mean 'lr'?"),
    ],
)
def test_a_checkpoint_s_wrong_recipe_names_the_checkpoint(text: str, expected: str) -> None:
    with pytest.raises(DheadsError) as caught:
        recipe_from_json(text, "a.safetensors")
    assert str(caught.value).startswith(expected)


def test_defaults_are_a_whole_recipe() -> None:
    recipe = Recipe(name="a")
    assert recipe_from_json(recipe.model_dump_json()) == recipe


def test_components_from_the_command_line() -> None:
    assert component_from_text("samplers", "{use: ddim, steps: 5}", "--sampler").options == {"steps": 5}
    names = [component.use for component in components_from_text("metrics", "mouth, lmd,{use: ssim}", "--metrics")]
    assert names == ["mouth", "lmd", "ssim"]
    with pytest.raises(DheadsError, match=r"--metrics mouth,ldm: no metric is called 'ldm'; did you mean 'lmd'\?"):
        components_from_text("metrics", "mouth,ldm", "--metrics")
    with pytest.raises(DheadsError, match="--metrics ,: "):
        components_from_text("metrics", ",", "--metrics")


def test_a_checkpoint_s_recipe_can_be_told_how_to_draw_and_nothing_else() -> None:
    recipe = load_recipe("tiny").recipe
    changed = overridden(recipe, ["sample.warm_start=0.5", "sample.sampler.steps=7"], "sample")
    assert (changed.sample.warm_start, changed.sample.sampler.options) == (0.5, {"steps": 7})
    assert changed.model == recipe.model
    assert overridden(recipe, [], "sample") is recipe
    with pytest.raises(DheadsError) as error:
        overridden(recipe, ["model.channels=96", "sample.warm_start=2", "sample.sampler=dim"], "sample")
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert "--set model.channels=96: only sample.KEY can be set here" in str(error.value)
    assert "--set sample.warm_start=2: sample.warm_start: must be at most 1, not 2" in lines
    assert "did you mean 'ddim'" in str(error.value)


def test_a_recipe_s_task_decides_what_may_be_in_it(write: Callable[[str], str]) -> None:
    path = write("task: words\nname: a\nmodel: {audio_encoder: logmel}\n")
    recipe = load_any_recipe(path, ["model.n_frames=9"]).recipe
    assert isinstance(recipe, WordsRecipe)
    assert (recipe.model.audio_encoder.use, recipe.model.n_frames) == ("logmel", 9)
    again = write(recipe_to_yaml(recipe))
    assert load_any_recipe(again).recipe == recipe
    assert load_any_recipe(write("name: a\n")).recipe.task == "video"


def test_mistakes_in_any_task_s_recipe_have_their_place(write: Callable[[str], str]) -> None:
    path = write(
        "task: words\n"
        "name: bad\n"
        "model:\n"
        "  n_frames: 11\n"
        "  pooled_frames: 4\n"
        "  audio_encoder: {use: logmel, embed: 3}\n"
        "train: {lrr: 1, freeze_audio_encoder: true}\n"
        "sample: {motion_noise: 0.2}\n"
    )
    with pytest.raises(DheadsError) as caught:
        load_any_recipe(path, ["train.flip=0.5", "train={}", "model.audio_encoder.hidden=3"])
    assert str(caught.value).splitlines() == [
        "x.yaml:5:18: model.pooled_frames: must leave as many of the 11 frames before as after, not 4",
        "x.yaml:6:39: model.audio_encoder.embed: logmel has no option 'embed'; did you mean 'embed_dim'? "
        "Options: embed_dim, hidden_dim.",
        "x.yaml:7:9: train.lrr: unknown key; did you mean 'lr'?",
        "x.yaml:7:39: train.freeze_audio_encoder: needs audio_encoder_weights or weights: what is frozen must have "
        "been learned before",
        "x.yaml:8:1: sample: unknown key; it belongs to recipes whose task is 'video'",
        "--set train={}: train is a section; set one of its keys: --set train.steps=...",
        "--set train.flip=0.5: train.flip: unknown key; the keys here are steps, batch_size, lr, lr_final, "
        "warmup_steps, weight_decay, grad_clip, accumulate, max_bad_steps, divergence, ema_decay, precision, "
        "log_every, checkpoint_every, keep_checkpoints, threads, weights, augment, audio_encoder_weights, "
        "freeze_audio_encoder, jitter_frames, gain_db, noise_max",
        "--set model.audio_encoder.hidden=3: model.audio_encoder.hidden: logmel has no option 'hidden'; did you mean "
        "'hidden_dim'? Options: embed_dim, hidden_dim.",
    ]


def test_an_unknown_task_is_the_one_mistake(write: Callable[[str], str]) -> None:
    assert mistakes(write("name: a\ntask: wrds\ntrain: {jitter_frames: 2}\n")) == [
        "x.yaml:2:7: task: must be 'video', 'words', 'sync' or 'lips', not 'wrds'; did you mean 'words'?"
    ]
    assert mistakes(write("name: a\ntask: 3\n")) == [
        "x.yaml:2:7: task: must be 'video', 'words', 'sync' or 'lips', not 3"
    ]


def test_what_makes_videos_takes_no_other_task(write: Callable[[str], str]) -> None:
    path = write("task: words\nname: a\n")
    assert mistakes(path) == [
        "x.yaml: its task is 'words', but this takes a talking-head model, whose task is 'video'"
    ]
    with pytest.raises(DheadsError, match=r"a\.safetensors: its task is 'words'"):
        recipe_from_json(load_any_recipe(path).recipe.model_dump_json(), "a.safetensors")
