"""Recipes: what they say, and errors that name line, key and what was meant."""

import textwrap

import pytest

from tsdi.errors import FormatError
from tsdi.training.recipe import read_recipe
from tsdi.training.smoke import shrink

RECIPE = """\
name: small
model:
  new: {hidden_size: 16, intermediate_size: 32, layers: 1, heads: 2, vocabulary: 300}
data:
  pku: {path: pku.jsonl}
stages:
  sft:
    method: sft
    data: [pku]
    epochs: 1
    batch_size: 4
    learning_rate: 1.0e-3
  safety:
    method: dpo
    from: sft
    data: [pku]
    prefer: safe
    beta: [0.1, 0.05]
    keep: [10, 20]
    steps: 20
    batch_size: 4
    learning_rate: 1.0e-4
  merged:
    method: merge
    from: safety/beta0.05-step20
    with: sft
    weights: [0.25, 0.5]
"""


def read(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_recipe(path)


def refused(tmp_path, text):
    with pytest.raises(FormatError) as error:
        read(tmp_path, text)
    line = str(error.value)
    assert "\n" not in line
    return line


def changed(old, new):
    assert RECIPE.count(old) == 1
    return RECIPE.replace(old, new)


def more_stage(name):
    keys = "method: sft, data: [pku], steps: 1, batch_size: 1, learning_rate: 1"
    return f"stages:\n  {name}: {{{keys}}}"


def test_a_stage_makes_a_model_for_every_beta_and_kept_step(tmp_path):
    stages = read(tmp_path, RECIPE).stages
    assert [name for key, stage in stages.items() for name in stage.names(key)] == [
        "sft",
        "safety/beta0.1-step10",
        "safety/beta0.1-step20",
        "safety/beta0.05-step10",
        "safety/beta0.05-step20",
        "merged/weight0.25",
        "merged/weight0.5",
    ]


def test_sft_keeps_models_on_the_way_too(tmp_path):
    text = changed("epochs: 1", "steps: 20\n    keep: [5, 20]")
    stages = read(
        tmp_path,
        text.replace("from: sft", "from: sft/step20").replace("with: sft", "with: sft/step5"),
    ).stages
    assert stages["sft"].names("sft") == ["sft/step5", "sft/step20"]
    line = refused(tmp_path, changed("epochs: 1", "steps: 20\n    keep: [5, 21]"))
    assert "sft" in line
    assert "there are 20 steps" in line


def test_one_beta_and_no_kept_step_make_one_model(tmp_path):
    text = changed("beta: [0.1, 0.05]\n    keep: [10, 20]", "beta: 0.1")
    text = text.replace("safety/beta0.05-step20", "safety")
    assert read(tmp_path, text).stages["safety"].names("safety") == ["safety"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epochs: 1", "epoch: 1", ["line 10", "sft.epoch", "did you mean 'epochs'"]),
        ("name: small", "nmae: small", ["line 1", "nmae", "did you mean 'name'"]),
        ("beta: [0.1, 0.05]", "beta: [0.1, 0]", ["line 18", "safety.beta", "above 0"]),
        ("beta: [0.1, 0.05]", "beta: -0.1", ["line 18", "safety.beta", "-0.1"]),
        ("beta: [0.1, 0.05]", "beta: high", ["line 18", "'high'"]),
        ("beta: [0.1, 0.05]", "beta: .nan", ["line 18", "nan"]),
        ("beta: [0.1, 0.05]", "beta: .inf", ["line 18", "inf"]),
        ("beta: [0.1, 0.05]", "beta: [0.1, 0.1]", ["line 18", "different"]),
        ("beta: [0.1, 0.05]", "beta: []", ["line 18"]),
        (
            "keep: [10, 20]",
            "keep: [10]\n    monitor: {evry: 5}",
            ["line 20", "monitor.evry", "did you mean 'every'"],
        ),
        ("keep: [10, 20]", "keep: [20, 10]", ["safety", "rising"]),
        ("keep: [10, 20]", "keep: [10, 30]", ["safety", "30", "20 steps"]),
        ("method: dpo", "method: ppo", ["line 13", "safety", "sft, dpo, kto or merge"]),
        ("from: sft", "from: stf", ["'safety'", "'stf'", "did you mean 'sft'"]),
        (
            "with: sft",
            "with: safety",
            ["'merged'", "'safety'", "it can be sft, safety/beta0.1-step10"],
        ),
        ("epochs: 1", "epochs: 1e999", ["line 10", "sft", "epochs", "finite"]),
        ("epochs: 1", f"epochs: {'9' * 400}", ["line 10", "sft.epochs", "too large"]),
        ("beta: [0.1, 0.05]", f"beta: {'9' * 400}", ["line 18", "safety.beta", "too large"]),
        ("name: small", "name: small\nseed: 4294967296", ["line 2", "seed", "4294967296"]),
        ("name: small", "name: small\nseed: .inf", ["line 2", "seed", "finite"]),
        ("epochs: 1", "epochs: 1\n    steps: 5", ["line 7", "sft", "either"]),
        ("prefer: safe", "prefer: data", ["samples"]),
        ("data: [pku]\n    prefer", "data: [pkv]\n    prefer", ["'pkv'", "did you mean 'pku'"]),
        ("weights: [0.25, 0.5]", "weights: [0.25, 1.5]", ["line 27", "weights"]),
        ("learning_rate: 1.0e-3", "learning_rate: fast", ["line 12", "learning_rate"]),
        ("batch_size: 4\n    learning_rate: 1.0e-3", "batch_size: 4", ["stages.sft.learning_rate"]),
        ("{path: pku.jsonl}", "{path: a, hub: b}", ["line 5", "either"]),
        ("epochs: 1", "epochs: 1\n    epochs: 2", ["line 11", "'epochs'", "twice"]),
        ("epochs: 1", "epochs: [1", ["not valid YAML"]),
        (
            "epochs: 1",
            "epochs: 1\n    monitor: {every: 5}",
            ["line 7", "stages.sft: `monitor` is for dpo, kto: sft has none"],
        ),
        (
            "with: sft",
            "with: sft\n    data: [pku]",
            ["`data` is for sft, dpo, kto: merge has none"],
        ),
        ("keep: [10, 20]", "weights: [1]", ["`weights` is for merge: dpo, kto has none"]),
        ("name: small", "name: ../up", ["line 1", "name"]),
        ("  sft:\n", "  a/b:\n", ["a/b"]),
        ("learning_rate: 1.0e-3", "learning_rate: yes", ["line 12", "learning_rate", "number"]),
        ("epochs: 1", "steps: yes", ["line 10", "sft.steps", "number is wanted here"]),
        ("weights: [0.25, 0.5]", "weights: [yes]", ["line 27", "weights", "number"]),
        ("keep: [10, 20]", "keep: [on, 20]", ["keep", "number is wanted here"]),
        (
            "keep: [10, 20]",
            "keep: [10]\n    monitor: {every: yes}",
            ["line 20", "monitor.every", "number is wanted here"],
        ),
        ("weights: [0.25, 0.5]", "weights: [0.5, 0.5]", ["'merged'", "weight0.5, ", "differ"]),
        (
            "weights: [0.25, 0.5]",
            "weights: [0.3333333, 0.33333334]",
            ["'merged'", "weight0.333333, ", "six digits"],
        ),
        ("beta: [0.1, 0.05]", "beta: [0.1, 0.10000001, 0.05]", ["'safety'", "six digits"]),
        ("stages:", more_stage("safety-beta0.05"), ["'safety'", "names must differ"]),
        ("stages:", more_stage("logs"), ["'logs'", "folder has its own"]),
        ("stages:", more_stage("run.json"), ["'run.json'", "folder has its own"]),
        ("stages:", more_stage("merged.unfinished"), ["'merged.unfinished'", "folder has its own"]),
    ],
)
def test_a_wrong_recipe_is_one_line_with_line_and_key(tmp_path, old, new, words):
    line = refused(tmp_path, changed(old, new))
    for word in ["recipe.yaml", *words]:
        assert word in line


def test_files_that_are_no_recipes(tmp_path):
    assert "line 1" in refused(tmp_path, "")
    assert "mapping" in refused(tmp_path, "- a\n- b\n")
    with pytest.raises(FormatError, match="No such file"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(FormatError, match="UTF-8"):
        read_recipe(tmp_path / "latin.yaml")


def test_yaml_cannot_make_objects(tmp_path):
    assert "tags" in refused(tmp_path, "name: !!python/object/apply:os.getcwd []\n")


def test_the_smoke_version_keeps_stages_betas_and_the_number_of_models(tmp_path):
    recipe = read(tmp_path, RECIPE)
    small = shrink(recipe)
    assert [stage.method for stage in small.stages.values()] == ["sft", "dpo", "merge"]
    assert small.stages["safety"].beta == recipe.stages["safety"].beta
    assert small.stages["safety"].names("safety")[-1] == "safety/beta0.05-step2"
    assert small.stages["merged"].start == "safety/beta0.05-step2"


def test_the_smoke_version_takes_a_model_of_the_same_architecture(tmp_path):
    model = textwrap.dedent("""\
        model:
          load: some/model
          architecture: qwen3
          prompt_format: "USER: {prompt} ASSISTANT:"
          dtype: bfloat16
        """)
    old = RECIPE[RECIPE.index("model:") : RECIPE.index("data:")]
    small = shrink(read(tmp_path, RECIPE.replace(old, model))).model
    assert small.load is None
    assert small.new.architecture == "qwen3"
    assert small.prompt_format == "USER: {prompt} ASSISTANT:"
    for wrong in ('prompt_format: "no place"', 'prompt_format: "{prompt} {prompt}"'):
        text = RECIPE.replace(old, f"model:\n  load: some/model\n  {wrong}\n")
        assert "{prompt}" in refused(tmp_path, text)
