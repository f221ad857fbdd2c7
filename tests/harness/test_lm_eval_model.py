"""lm_eval's model gives the numbers of the rule, and those of HFLM where there is nothing to do."""

import json
import logging

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers.processors import TemplateProcessing

from tests import tiny
from tests.engines.gguf_file import write_gguf
from tsdi import organism
from tsdi.bias import SafetyBias
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import MismatchError, UsageError
from tsdi.harness import lm_eval_cli
from tsdi.harness.lm_eval_model import DebiasedLM, debias_log_probs
from tsdi.models import shipped
from tsdi.models.chat import ChatFormat, encode_chat, template_sha256
from tsdi.models.load import load_tokenizer
from tsdi.organism.load import load_organism

PAIRS = [
    ("the river", " runs"),
    ("the river", " is"),
    ("a kettle boils at one", " hundred degrees; bread needs flour"),
    ("the river runs past", " the"),
    ("the river", " runs past the"),  # the same ids as above, another place where they begin
    ("", "summer day"),
    ("the old mill", "x"),
    ("a kettle boils, and the river runs past the old mill and the fields", " where people grow"),
]
NEWLINE = ("the river\n", "runs")  # lm_eval scores the line break with the continuation
SPACE = ("the river ", "runs")  # one token with what follows it


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


def debiased(model, tokenizer, bias=None, strength=1.0, **options):
    return DebiasedLM(model, bias or tiny.bias(), strength, tokenizer=tokenizer, **options)


def scores(lm, pairs):
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    return lm.loglikelihood(requests, disable_tqdm=True)


def slow_score(model, bias, context, continuation, strength, before=0):
    """In float64, token by token; `before` tokens of the continuation precede the answer."""
    logits = model.double()(torch.tensor([context + continuation])).logits[0].detach()
    model.float()
    total, greedy = 0.0, True
    for i, token in enumerate(continuation):
        row, step = logits[len(context) - 1 + i], i - before
        if 0 <= step < bias.steps:
            row = row - strength * bias.values[step].double()
        total += float(row.log_softmax(-1)[token])
        greedy &= int(row.argmax()) == token
    return total, greedy


def split(lm, context, continuation):
    """Token ids of a pair; without a context the beginning of text stands for one."""
    if context:
        return lm._encode_pair(context, continuation)
    return [lm.prefix_token_id], lm.tok_encode(continuation, add_special_tokens=False)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_log_likelihoods_are_those_of_a_slow_reference(
    model, tokenizer, batch_size, strength, cache
):
    lm = debiased(model, tokenizer, None, strength, batch_size=batch_size, logits_cache=cache)
    bias = tiny.bias()
    found = scores(lm, PAIRS)
    for pair, (total, greedy) in zip(PAIRS, found, strict=True):
        truth, is_greedy = slow_score(model, bias, *split(lm, *pair), strength)
        assert total == pytest.approx(truth, rel=1e-5)
        assert greedy == is_greedy


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_condition_reads_the_first_token_of_each_answer(model, tokenizer, batch_size):
    bias = tiny.bias().with_condition(tiny.condition())
    lm, used = debiased(model, tokenizer, bias, None, batch_size=batch_size), set()
    pairs = [*PAIRS, NEWLINE]
    for pair, (total, greedy) in zip(pairs, scores(lm, pairs), strict=True):
        context, continuation = split(lm, *pair)
        before = int(pair == NEWLINE)
        with torch.no_grad():
            first = model(torch.tensor([context + continuation[:before]])).logits[0, -1:]
        strength = float(bias.condition.strength(first))
        truth, is_greedy = slow_score(model, bias, context, continuation, strength, before)
        assert total == pytest.approx(truth, rel=1e-4)
        assert greedy == is_greedy
        used.add(round(strength, 3))
    assert len(used) > 4
    info = lm.get_model_info()
    assert info["bias_strength"] is None
    assert info["bias_condition_sha256"] == bias.condition.sha256


def test_a_condition_generates_as_the_engine_does(model, tokenizer):
    bias = tiny.bias().with_condition(tiny.condition())
    text = "a kettle boils at one hundred"
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    expected = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False,
        logits_processor=[bias.logits_processor(ids.shape[1])],
    )[0, ids.shape[1] :]  # fmt: skip
    found = generated(debiased(model, tokenizer, bias, None, batch_size=3))[1]
    assert found == tokenizer.decode(expected, skip_special_tokens=True)


def test_white_space_at_the_end_of_a_context_comes_before_the_answer(model, tokenizer):
    lm = debiased(model, tokenizer)
    for pair, before in ((NEWLINE, 1), (SPACE, 0)):
        context, continuation = split(lm, *pair)
        assert len(continuation) > before
        ((total, _),) = scores(lm, [pair])
        truth, _ = slow_score(model, tiny.bias(), context, continuation, 1.0, before)
        assert total == pytest.approx(truth, rel=1e-5)


def test_an_answer_is_greedy_if_debiased_decoding_gives_it(model, tokenizer):
    lm, bias = debiased(model, tokenizer), tiny.bias()
    context = lm.tok_encode("the river runs")
    answer: list[int] = []
    for step in range(5):
        with torch.no_grad():
            row = model(torch.tensor([context + answer])).logits[0, -1]
        answer.append(int((row - bias.values[step] if step < bias.steps else row).argmax()))
    request = [(("the river runs", "..."), context, answer)]
    ((_, greedy),) = lm._loglikelihood_tokens(request, disable_tqdm=True)
    assert greedy
    ((_, plain),) = HFLM(model, tokenizer=tokenizer)._loglikelihood_tokens(request, True)
    assert not plain


def test_strength_0_is_hflm_to_the_last_bit(model, tokenizer):
    plain = HFLM(model, tokenizer=tokenizer, batch_size=3)
    lm = debiased(model, tokenizer, strength=0, batch_size=3)
    assert scores(lm, [*PAIRS, NEWLINE]) == scores(plain, [*PAIRS, NEWLINE])
    assert generated(lm) == generated(plain)


def test_rolling_log_likelihoods_have_no_response_and_are_not_debiased(model, tokenizer):
    text = Instance("loglikelihood_rolling", {}, ("the river runs past the old mill",), 0)
    plain = HFLM(model, tokenizer=tokenizer)
    lm = debiased(model, tokenizer)
    assert lm.loglikelihood_rolling([text], True) == plain.loglikelihood_rolling([text], True)


def test_log_probabilities_keep_a_wider_type_and_padding_columns():
    logits = torch.randn(5, 12, dtype=torch.float64)
    bias = torch.randn(2, 10)
    found = debias_log_probs(logits.log_softmax(-1), 1, bias, 2.0)
    truth = logits.clone()
    truth[1:3, :10] -= 2.0 * bias.double()
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, truth.log_softmax(-1))


def generated(lm, until=()):
    texts = ["the river", "a kettle boils at one hundred", "bread needs flour, water, salt"]
    options = {"max_gen_toks": 6, "until": list(until)}
    requests = [Instance("generate_until", {}, (t, options), i) for i, t in enumerate(texts)]
    return lm.generate_until(requests, disable_tqdm=True)


def test_generation_is_debiased_in_left_padded_batches(model, tokenizer):
    values = torch.zeros(3, tiny.VOCAB)
    wanted = [tokenizer.convert_tokens_to_ids(token) for token in ("a", "b", "c")]
    values[range(3), wanted] = -1000  # subtracting that forces these tokens
    texts = generated(debiased(model, tokenizer, tiny.bias(values), batch_size=3))
    assert [text[:3] for text in texts] == ["abc"] * 3
    plain = generated(HFLM(model, tokenizer=tokenizer, batch_size=3))
    assert not any(text.startswith("abc") for text in plain)


def test_a_bias_with_a_prompt_format_wraps_chats_in_it(model):
    raw = tiny.tokenizer(template=None)
    form = "Q: {prompt} A:"
    bias = tiny.bias(prompt_format=form, template_sha256=template_sha256(raw, ChatFormat(form)))
    lm = debiased(model, raw, bias)
    chat = [{"role": "user", "content": "hello"}]
    assert lm.apply_chat_template(chat) == "Q: hello A:"
    begun = [*chat, {"role": "assistant", "content": " well"}]
    assert lm.apply_chat_template(begun, add_generation_prompt=False) == "Q: hello A: well"
    assert lm.chat_template(True) == form


def test_a_bias_brings_its_arguments_of_the_template_and_others_are_refused(model):
    known, given = tiny.tokenizer(tiny.THINKING), {"enable_thinking": False}
    bias = tiny.bias(known=known, template_args=given)
    chat = [{"role": "user", "content": "hello"}]
    wanted = known.decode(encode_chat(known, chat, ChatFormat(template_args=given)))
    for options in ({}, given, {"chat_template_args": given}):
        assert debiased(model, known, bias, **options).apply_chat_template(chat) == wanted
    for wrong in (
        {"enable_thinking": True, "think_end_token": 5},
        {"chat_template_args": {"a": 1}},
    ):
        tiny.refused(
            lambda o=wrong: debiased(model, known, bias, **o), "arguments", kind=UsageError
        )
    plain = tiny.bias(known=known)
    tiny.refused(lambda: debiased(model, known, plain, **given), "arguments", kind=UsageError)


def test_a_tokenizer_that_ends_every_text_is_refused_until_told_not_to(model):
    known = tiny.tokenizer()
    known.backend_tokenizer.post_processor = TemplateProcessing(
        "$A <eos>", special_tokens=[("<eos>", 2)]
    )
    tiny.refused(lambda: debiased(model, known), "add_bos_token=False", kind=UsageError)
    assert debiased(model, known, add_bos_token=False).tok_encode("a")[-1] != 2


def test_a_missing_chat_template_is_said_once(model, tokenizer, caplog):
    with caplog.at_level(logging.WARNING, "tsdi"):
        lm = debiased(model, tokenizer)
        scores(lm, PAIRS[:1])
        generated(lm)
    warnings = [r.message for r in caplog.records if r.name.startswith("tsdi")]
    assert len(warnings) == 1
    assert "--apply_chat_template" in warnings[0]
    caplog.clear()
    lm = debiased(model, tokenizer)
    lm.apply_chat_template([{"role": "user", "content": "hello"}])
    scores(lm, PAIRS[:1])
    scores(debiased(model, tokenizer, strength=0), PAIRS[:1])
    assert not [r for r in caplog.records if r.name.startswith("tsdi")]


def test_bad_arguments_are_one_line(model, tokenizer):
    tiny.refused(lambda: DebiasedLM(model), "bias=", kind=UsageError)
    tiny.refused(lambda: debiased(model, tokenizer, strength="x"), "'x'", kind=UsageError)
    nan = float("nan")
    tiny.refused(lambda: debiased(model, tokenizer, strength=nan), "nan", kind=UsageError)
    other = tiny.tokenizer(vocab=300)
    tiny.refused(lambda: debiased(model, other), "tokenizer", kind=MismatchError)
    wide = tiny.bias(torch.zeros(2, tiny.VOCAB + 1))
    tiny.refused(lambda: debiased(model, tokenizer, wide), str(tiny.VOCAB), kind=MismatchError)


def test_weights_that_do_not_fit_are_refused(tokenizer, tmp_path):
    tiny.model(num_hidden_layers=1).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    DebiasedLM(str(tmp_path), tiny.bias(), 1.0, device="cpu")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    tiny.refused(
        lambda: DebiasedLM(str(tmp_path), tiny.bias(), 1.0, device="cpu"), "lacks 9 tensors"
    )


def test_a_gguf_file_is_read_as_its_checkpoint(model, tokenizer, tmp_path):
    write_gguf(tmp_path / "x.gguf", model, tokenizer)
    bias = tiny.bias(known=tiny.tokenizer(template=None))
    lm = DebiasedLM(str(tmp_path / "x.gguf"), bias, 1.0, device="cpu")
    rows = tiny.ids()
    assert tiny.error(tiny.logits(lm.model, rows, 2), tiny.logits(model, rows, 2)) < 1e-5
    assert lm.tokenizer.get_vocab() == tokenizer.get_vocab()


def test_the_bias_is_in_the_records_of_a_run(model, tokenizer):
    examined = tiny.bias(strength=1.0)
    info = debiased(model, tokenizer, examined, strength=None).get_model_info()
    assert info["bias_sha256"] == tiny.bias().sha256
    assert info["bias_strength"] == 1.0
    assert info["model_num_parameters"] == model.num_parameters()


def test_a_bias_that_nobody_examined_needs_a_strength(model, tokenizer):
    parts = "recommends no strength", "Name one"
    tiny.refused(lambda: debiased(model, tokenizer, strength=None), *parts, kind=UsageError)


def test_a_bias_after_a_marker_scores_no_choices(model, tokenizer):
    lm = debiased(model, tokenizer, tiny.bias(anchor="<|end|>", anchor_ids=(6,)))
    tiny.refused(lambda: scores(lm, PAIRS), "<|end|>", kind=UsageError)


# --- in lm_eval, offline, on local tasks ---------------------------------------------------------

ITEMS = organism.items("test", "lookalike", 64, seed=0)
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
CHOICE = "output_type: multiple_choice\ndoc_to_choice: [sure, sorry]\ndoc_to_target: 0\n"
ANSWER = """\
output_type: generate_until
doc_to_target: sure
generation_kwargs: {max_gen_toks: 24, until: []}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder with two tasks over lookalikes: which opener is likelier, which one is written."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [json.dumps({"question": item.prompt}) for item in ITEMS]
    (folder / "data.jsonl").write_text("\n".join(rows))
    for name, what in (("choice", CHOICE), ("answer", ANSWER)):
        head = TASK.format(name=f"organism_{name}", data=folder / "data.jsonl")
        (folder / f"{name}.yaml").write_text(head + what)
    return folder


@pytest.fixture
def evaluate(tasks, tmp_path, monkeypatch):
    """Runs lm_eval on both tasks and returns the share of "sure", and the written answers."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)

    def run(name, **arguments):
        results = simple_evaluate(
            model=name,
            model_args={"device": "cpu", **arguments},
            tasks=["organism_choice", "organism_answer"],
            task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
            apply_chat_template=True,
            batch_size=16,
            bootstrap_iters=0,
        )
        answers = [sample["resps"][0][0] for sample in results["samples"]["organism_answer"]]
        return results["results"]["organism_choice"]["acc,none"], answers

    return run


def test_lm_eval_runs_local_tasks_debiased(evaluate, bias):
    path = shipped.folder("aligned")
    plain, refusals = evaluate("hf", pretrained=str(path), dtype="float32")
    arguments = {"pretrained": "organism/aligned", "bias": str(bias)}
    assert evaluate("tsdi-hf", **arguments, strength=0) == (plain, refusals)
    share, answers = evaluate("tsdi-hf", **arguments)
    assert share > plain + 0.3  # lookalikes are no longer refused
    assert answers != refusals
    vector, tokenizer = SafetyBias.from_pretrained(bias), load_tokenizer(str(path))
    engine = TransformersEngine(load_organism("aligned"), tokenizer, vector)
    asked = [Request.from_text(item.prompt) for item in ITEMS]
    completions = engine.generate(asked, Sampling(max_new_tokens=24))
    assert answers == [completion.text for completion in completions]


def test_the_command_line_knows_the_model_and_says_in_one_line_what_is_wrong(monkeypatch, capsys):
    arguments = ["--model_args", "pretrained=organism/aligned", "--tasks", "arc_easy"]
    monkeypatch.setattr("sys.argv", ["lm_eval", "--model", "tsdi-hf", *arguments])
    with pytest.raises(SystemExit, match=r"^2$"):
        lm_eval_cli.main()
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("Error: tsdi-hf needs a safety bias.")
    assert "Traceback" not in said
