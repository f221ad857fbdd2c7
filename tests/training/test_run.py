"""Recipes, run: SFT to DPO to KTO, folders that are used, data that is held out, bad input."""

import itertools
import json
import math
import textwrap

import pytest
from peft import PeftModel
from tokenizers.processors import TemplateProcessing

import tsdi as library
from tests import tiny
from tests.cli.conftest import tsdi
from tests.training.made import PAIRS, STAGES, recipe_file
from tsdi.files import parse_json
from tsdi.models.chat import ChatFormat, encode_chat
from tsdi.models.load import load_model, load_tokenizer
from tsdi.suites.prompts import read_prompts
from tsdi.training.recipe import Model, Recipe, read_recipe
from tsdi.training.sources import Data
from tsdi.training.start import set_template


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the recipe `made.STAGES`, run by the command line."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = recipe_file(folder, STAGES)
    result = tsdi("train", recipe, "--out", folder / "out", "--json")
    assert result.exit_code == 0, result.output
    (folder / "stdout.json").write_text(result.stdout)
    return folder


def refused(result, *words):
    """Asserts one clear line and exit code 2."""
    assert result.exit_code == 2, result.output
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    for word in words:
        assert word in line, line


def test_every_model_of_the_recipe_is_there_and_can_be_loaded(trained):
    models = json.loads((trained / "stdout.json").read_text())["models"]
    assert models == [
        "sft",
        "helpful",
        "safety/beta0.2-step1",
        "safety/beta0.2-step3",
        "safety/beta0.1-step1",
        "safety/beta0.1-step3",
        "kto",
    ]
    for name in models:
        model = load_model(str(trained / "out" / name))
        assert all(weight.isfinite().all() for weight in model.state_dict().values())
        tokenizer = load_tokenizer(str(trained / "out" / name))
        assert tokenizer.chat_template
        assert not list((trained / "out" / name).glob("*.bin"))


def test_stages_change_the_model_and_betas_differ(trained):
    weights = [
        load_model(str(trained / "out" / name)).get_input_embeddings().weight
        for name in ("start", "sft", "helpful", "safety/beta0.2-step3", "safety/beta0.1-step3")
    ]
    for one, other in itertools.pairwise(weights):
        assert not one.equal(other)


DIVERGING = {
    "the loss became nan in step 4": "steps: 4\n    learning_rate: 1.0e+20",
    "After step 1: The tensor": (
        "steps: 1\n    warmup: 0\n    learning_rate: 1.0e+38\n    trainer: {weight_decay: 1.0e+5}"
    ),
}


@pytest.mark.parametrize("said", DIVERGING)
def test_a_training_that_diverges_ends_in_one_line_and_keeps_nothing(tmp_path, said):
    stage = f"  s:\n    method: sft\n    data: [pairs]\n    batch_size: 4\n    {DIVERGING[said]}\n"
    recipe = recipe_file(tmp_path, stage)
    for more in ([], ["--resume"]):
        result = tsdi("train", recipe, "--out", tmp_path / "out", *more)
        refused(result, said, "smaller learning rate")
        assert not [*tmp_path.glob("out/s"), *tmp_path.glob("out/s.*")]
        assert not list(tmp_path.glob("out/logs/*"))


def first_loss(trained, run):
    log = parse_json((trained / f"out/logs/{run}.json").read_bytes())
    return next(entry["loss"] for entry in log["history"] if "loss" in entry)


def test_dpo_and_kto_begin_at_the_loss_of_a_model_that_is_its_own_reference(trained):
    for name in ("safety-beta0.2", "safety-beta0.1"):
        assert first_loss(trained, name) == pytest.approx(math.log(2), abs=1e-4)
    assert first_loss(trained, "kto") == pytest.approx(0.5, abs=1e-4)


def test_the_record_says_how_it_was_made(trained):
    record = parse_json((trained / "out/run.json").read_bytes())
    assert record["seed"] == 5
    assert set(record["versions"]) >= {"tsdi", "torch", "trl", "transformers"}
    assert len(record["data"]["pairs"]) == 64
    assert record["recipe"]["stages"]["safety"]["beta"] == [0.2, 0.1]


def test_own_samples_are_kept_and_rejected(trained):
    lines = (trained / "out/data/helpful.pairs.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    chosen = {row["chosen"] for row in PAIRS} | {row["rejected"] for row in PAIRS}
    assert len(rows) == 6
    assert all(row["chosen"] in chosen and row["rejected"] not in chosen for row in rows)


def test_held_out_prompts_are_prompt_files_and_no_stage_sees_them(trained):
    held_out = {
        p.messages[0]["content"] for p in read_prompts(trained / "out/data/pairs.test.jsonl")
    }
    prompts = {row["prompt"] for row in PAIRS}
    assert held_out < prompts
    assert all(p.kind == "harmless" for p in read_prompts(trained / "out/data/pairs.test.jsonl"))
    log = parse_json((trained / "out/logs/safety-beta0.1.json").read_bytes())
    assert log["examples"] == len(prompts - held_out)


def test_the_monitor_watches_preference_stages_unless_told_not_to(trained):
    logs = sorted(path.name for path in (trained / "out/logs").glob("*.monitor.jsonl"))
    assert logs == [
        "kto.monitor.jsonl",
        "safety-beta0.1.monitor.jsonl",
        "safety-beta0.2.monitor.jsonl",
    ]


def test_the_helps_example_runs_as_it_stands(tmp_path, monkeypatch):
    text = tsdi("train", "--help").stdout
    monkeypatch.chdir(tmp_path)
    for name, following in (("mine.yaml", "mine.jsonl:"), ("mine.jsonl", "Several devices")):
        lines = text.partition(f"{name}:\n")[2].partition(following)[0]
        (tmp_path / name).write_text(textwrap.dedent(lines.rstrip(" ")))
    result = tsdi("train", "mine.yaml", "--out", "models")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "models/sft/model.safetensors").exists()


def test_answers_are_learnt_once_or_as_often_as_they_are_there(tmp_path):
    path = recipe_file(tmp_path, STAGES, pairs=[*PAIRS, *PAIRS[:5]], hold_out="{}")
    for more, number in (("", len(PAIRS)), ("keep_duplicates: true", len(PAIRS) + 5)):
        text = path.read_text().replace("kind: harmless", f"kind: harmless, {more}")
        (tmp_path / "changed.yaml").write_text(text)
        recipe = read_recipe(tmp_path / "changed.yaml")
        data = Data(recipe, tmp_path, smoke=False)
        assert len(data.rows(recipe.stages["sft"])) == number


def test_python_trains_what_the_command_trains(trained, tmp_path):
    recipe = trained / "recipe.yaml"
    again = library.train(recipe, trained / "out", resume=True)
    shown = json.loads((trained / "stdout.json").read_text())
    assert json.loads(json.dumps(again.to_dict())) == shown
    library.train(recipe, tmp_path / "out", stage="sft")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        both = [(folder / "out/sft" / name).read_bytes() for folder in (trained, tmp_path)]
        assert both[0] == both[1]


def test_a_used_folder_is_refused_and_with_resume_nothing_is_trained_again(trained):
    recipe, out = trained / "recipe.yaml", trained / "out"
    refused(tsdi("train", recipe, "--out", out), "already holds files", "--resume")
    before = (out / "kto/model.safetensors").stat().st_mtime_ns
    result = tsdi("train", recipe, "--out", out, "--resume")
    assert result.exit_code == 0, result.output
    assert (out / "kto/model.safetensors").stat().st_mtime_ns == before
    assert "safety/beta0.2" in result.stdout


@pytest.mark.parametrize(("arguments", "word"), [(["--seed", "6"], "seed"), (["--smoke"], "smoke")])
def test_another_run_does_not_go_on_in_the_folder(trained, arguments, word):
    recipe = trained / "recipe.yaml"
    refused(tsdi("train", recipe, "--out", trained / "out", "--resume", *arguments), word)


def test_a_changed_data_file_is_noticed(trained, tmp_path):
    recipe = recipe_file(tmp_path, STAGES, pairs=PAIRS[1:])
    result = tsdi("train", recipe, "--out", trained / "out", "--resume")
    refused(result, "another data")


def test_a_stage_can_be_run_alone_and_needs_the_one_before(tmp_path):
    recipe = recipe_file(tmp_path, STAGES)
    refused(tsdi("train", recipe, "--out", tmp_path / "out", "--stage", "none"), "'none'", "sft")
    result = tsdi("train", recipe, "--out", tmp_path / "out", "--stage", "safety/beta0.1")
    refused(result, "helpful is not there yet")
    result = tsdi("train", recipe, "--out", tmp_path / "out", "--stage", "sft", "--resume")
    assert result.exit_code == 0, result.output
    assert "sft" in result.stdout


def test_stages_with_adapters_leave_whole_models_and_the_adapters_beside_them(tmp_path):
    stages = STAGES.replace("    max_length: 48\n", "    max_length: 48\n    lora: {rank: 2}\n")
    stages += "  merged: {method: merge, from: safety/beta0.1-step3, with: kto, weights: [0.5]}\n"
    out = tmp_path / "out"
    result = tsdi("train", recipe_file(tmp_path, stages), "--out", out)
    assert result.exit_code == 0, result.output
    for before, after in (
        ("start", "sft"),
        ("sft", "helpful"),
        ("helpful", "safety/beta0.1-step3"),
    ):
        base, whole = load_model(str(out / before)), load_model(str(out / after))
        adapted = PeftModel.from_pretrained(base, str(out / after / "adapter")).merge_and_unload()
        first = load_model(str(out / before)).state_dict()
        assert not all(weight.equal(first[name]) for name, weight in whole.state_dict().items())
        for name, weight in adapted.state_dict().items():
            assert weight.equal(whole.state_dict()[name])
    assert (out / "merged/weight0.5/model.safetensors").exists()


SAFETY = """
  safety:
    method: dpo
    data: [pairs]
    prefer: safe
    beta: 0.1
    steps: 2
    batch_size: 4
    learning_rate: 1.0e-3
"""
EQUAL = [*PAIRS[:3], PAIRS[0] | {"rejected": PAIRS[0]["chosen"]}, *PAIRS[3:]]


@pytest.mark.parametrize(
    ("stages", "pairs", "words"),
    [
        (SAFETY, [{"prompt": "a", "chosen": "b"}], ["pairs.jsonl, line 1", "'rejected'"]),
        (SAFETY, EQUAL, ["pairs.jsonl, line 4", "equal"]),
        (SAFETY, [], ["'pairs'", "empty"]),
        (SAFETY + "    precision: float16\n", PAIRS, ["float16", "the CPU", "float32"]),
        (SAFETY + "    keep: [3]\n", PAIRS, ["line 7, stages.safety: ", "there are 2 steps"]),
        (SAFETY + "    cleanse: {}\n", PAIRS, ["chosen_safety"]),
        (SAFETY + "    trainer: {beta: 1}\n", PAIRS, ["'beta'", "recipe"]),
        (SAFETY + "    trainer: {lerning_rate: 1}\n", PAIRS, ["'lerning_rate'", "Did you mean"]),
        (SAFETY + "    device_batch_size: 3\n", PAIRS, ["batch of 4", "3"]),
    ],
)
def test_bad_input_is_one_line(tmp_path, stages, pairs, words):
    recipe = recipe_file(tmp_path, stages, pairs=pairs, hold_out="{}")
    refused(tsdi("train", recipe, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()  # mended, the same command runs


def test_what_is_wrong_with_a_late_stage_is_said_before_the_first_is_trained(tmp_path):
    for change, word in (("precision: float16", "float16"), ("trainer: {epoch: 1}", "'epoch'")):
        recipe = recipe_file(tmp_path, f"{STAGES}    {change}\n")
        refused(tsdi("train", recipe, "--out", tmp_path / "out"), "'kto'", word)
        assert not (tmp_path / "out").exists()


def test_a_model_without_chat_template_is_refused_until_told_how_it_is_asked(trained, tmp_path):
    bare = tmp_path / "bare"
    load_model(str(trained / "out/sft")).save_pretrained(bare)
    tokenizer = load_tokenizer(str(trained / "out/sft"))
    tokenizer.chat_template = None
    tokenizer.save_pretrained(bare)
    recipe = recipe_file(tmp_path, SAFETY, model=f"{{load: {bare}}}")
    refused(tsdi("train", recipe, "--out", tmp_path / "a"), "no chat template", "prompt_format")
    asked = f'{{load: {bare}, prompt_format: "USER: {{prompt}} ASSISTANT:"}}'
    recipe = recipe_file(tmp_path, SAFETY, model=asked)
    result = tsdi("train", recipe, "--out", tmp_path / "b")
    assert result.exit_code == 0, result.output
    ids = load_tokenizer(str(tmp_path / "b/safety")).apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert ids == "USER: Hi ASSISTANT:"


def test_arguments_of_the_template_become_part_of_what_is_trained(trained, tmp_path):
    start = tmp_path / "start"
    load_model(str(trained / "out/sft")).save_pretrained(start)
    tokenizer = load_tokenizer(str(trained / "out/sft"))
    tokenizer.chat_template = "{% if short %}{{ short }}{% endif %}" + tokenizer.chat_template
    tokenizer.save_pretrained(start)
    recipe = recipe_file(tmp_path, SAFETY, model=f"{{load: {start}, template_args: {{shirt: a}}}}")
    refused(tsdi("train", recipe, "--out", tmp_path / "a"), "'shirt'", "short")
    recipe = recipe_file(tmp_path, SAFETY, model=f"{{load: {start}, template_args: {{short: Hi}}}}")
    result = tsdi("train", recipe, "--out", tmp_path / "b")
    assert result.exit_code == 0, result.output
    user, kept = {"role": "user", "content": "x"}, load_tokenizer(str(tmp_path / "b/safety"))
    given = ChatFormat(template_args={"short": "Hi"})
    assert encode_chat(kept, [user]) == encode_chat(tokenizer, [user], given)


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize(
    "prompt_format",
    ["USER: {prompt} ASSISTANT:", 'it\'s "q" {{x}} {% y %}\n{prompt}\n\\', "<bos>{prompt} A:"],
)
def test_a_prompt_format_becomes_the_template_that_asks_as_it_does(prompt_format, adds_bos):
    tokenizer = tiny.tokenizer(template=None)
    if adds_bos:
        processor = TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 1)])
        tokenizer.backend_tokenizer.post_processor = processor
    recipe = Recipe.model_construct(model=Model(load="x", prompt_format=prompt_format))
    set_template(recipe, tokenizer)
    user = {"role": "user", "content": 'it\'s {{ y }} "x"\n{% z %}'}
    asked = encode_chat(tokenizer, [user], ChatFormat(prompt_format))
    chat = [user, {"role": "assistant", "content": "yes"}]
    ids = tokenizer.apply_chat_template(chat)["input_ids"]
    assert tokenizer.apply_chat_template([user], add_generation_prompt=True)["input_ids"] == asked
    assert ids[: len(asked)] == asked
    assert tokenizer.decode(ids[len(asked) :]) == "yes<eos>"


def test_missing_files_and_models_are_named(tmp_path):
    recipe = recipe_file(tmp_path, SAFETY)
    (tmp_path / "pairs.jsonl").unlink()
    refused(tsdi("train", recipe, "--out", tmp_path / "a"), "pairs.jsonl", "--data")
    recipe = recipe_file(tmp_path, SAFETY, model="{load: no/such-model}")
    refused(tsdi("train", recipe, "--out", tmp_path / "b"), "no/such-model")
