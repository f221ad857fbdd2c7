"""Sums of logits in vLLM: the processor against slow sums, and an estimate with a faked vLLM."""

from types import SimpleNamespace

import pytest
import torch

import tsdi
from tests import tiny
from tests.engines import cases, vllm_stubs
from tests.engines.vllm_stubs import Buffer, context, importing, params, update
from tsdi.bias.accumulate import GroupSums
from tsdi.engines import vllm_estimate
from tsdi.errors import MismatchError, ModelError, NumericalError, UsageError
from tsdi.models.load import load_model
from tsdi.runs.sums import estimate_shard

GROUPS, STEPS, ROWS = 3, 2, 8


@pytest.fixture(scope="module")
def module():
    with importing("tsdi.engines.vllm_sums") as found:
        yield found


def config(groups=GROUPS, steps=STEPS):
    return SimpleNamespace(
        model_config=SimpleNamespace(get_vocab_size=lambda: tiny.VOCAB),
        additional_config={"tsdi_sums": {"groups": groups, "steps": steps}},
        speculative_config=None,
    )


def asked(group, forced):
    return params(tsdi_group=group, tsdi_forced=forced)


def plain(seed=2, rows=ROWS):
    return torch.randn(rows, tiny.VOCAB, generator=torch.Generator().manual_seed(seed))


def forced_tokens(logits):
    assert logits.isfinite().sum(1).eq(1).all()
    return logits.argmax(1).tolist()


class TestV1:
    def test_raw_logits_are_added_by_group_and_step_and_the_response_is_forced(self, module):
        rule = module.SumLogits(config(), torch.device("cpu"), False)
        answers = [[], [], []]
        groups, responses = (0, 2, 0), ([5, 6], [7, 8], [9, 10])
        rows = [
            (n, asked(g, r), [], a)
            for n, (g, r, a) in enumerate(zip(groups, responses, answers, strict=True))
        ]
        rule.update_state(update(rows))
        expected = torch.zeros(GROUPS, STEPS, tiny.VOCAB, dtype=torch.float64)
        for step in range(STEPS):
            logits = plain(step)
            for row, group in enumerate(groups):
                expected[group, step] += logits[row].double()
            found = rule.apply(logits.clone())
            assert forced_tokens(found[:3]) == [response[step] for response in responses]
            assert found[3:].equal(logits[3:])
            for answer, response in zip(answers, responses, strict=True):
                answer.append(response[step])
        assert rule.apply(plain()).equal(plain())
        taken = rule.take()
        torch.testing.assert_close(taken["sums"], expected, rtol=0, atol=1e-12)
        assert taken["counts"].tolist() == [[2, 2], [0, 0], [1, 1]]
        assert not rule.take()["sums"].any()

    def test_requests_of_others_are_left_alone(self, module):
        rule = module.SumLogits(config(), torch.device("cpu"), False)
        rule.update_state(update([(0, params(), [], [])]))
        assert rule.apply(plain()).equal(plain())
        assert not rule.take()["counts"].any()


class TestV2:
    def test_raw_logits_are_added_by_group_and_step_and_the_response_is_forced(self, module):
        states = SimpleNamespace(
            device=torch.device("cpu"), max_num_reqs=ROWS, prompt_len=Buffer([4] * ROWS)
        )
        rule = module.SumLogits(config(), states)
        assert rule.add_request(1, asked(2, [5, 6]))
        assert rule.add_request(6, asked(2, [7, 8]))
        assert not rule.add_request(3, params())
        rule.apply_staged_writes()
        expected = torch.zeros(GROUPS, STEPS, tiny.VOCAB, dtype=torch.float64)
        rule.apply(plain(9, 2), context([1, 6], [1, 2]))  # parts of prompts
        for step in range(STEPS):
            logits = plain(step, 3)
            expected[2, step] = logits[[0, 2]].double().sum(0)
            found = rule.apply(logits.clone(), context([6, 3, 1], [3 + step] * 3))
            assert forced_tokens(found[[0, 2]]) == [7 + step, 5 + step]
            assert found[1].equal(logits[1])
        taken = rule.take()
        torch.testing.assert_close(taken["sums"], expected, rtol=0, atol=1e-12)
        assert taken["counts"].tolist() == [[0, 0], [0, 0], [2, 2]]


class FakeLLM:
    """vLLM's V1 engine for one batch, with the model in transformers."""

    def __init__(self, module, model, again, **settings):
        self._model = load_model(model, tsdi.LoadOptions("float32"))
        sums = settings["additional_config"]["tsdi_sums"]
        self._rule = module.SumLogits(config(**sums), torch.device("cpu"), False)
        self._module, self._again = module, again
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=lambda: None))

    @torch.no_grad()
    def generate(self, prompts, asked, use_tqdm):
        ids = [list(prompt["prompt_token_ids"]) for prompt in prompts]
        answers = [[] for _ in ids]
        rows = zip(range(len(ids)), asked, ids, answers, strict=True)
        self._rule.update_state(update(list(rows)))
        for _ in range(asked[0].max_tokens):
            read = torch.tensor([one + answer for one, answer in zip(ids, answers, strict=True)])
            logits = self._model(input_ids=read).logits[:, -1].float()
            for _ in range(1 + self._again):
                found = self._rule.apply(logits.clone())
            for answer, token in zip(answers, found.argmax(1).tolist(), strict=True):
                answer.append(token)

    def collective_rpc(self, name, args):
        return [getattr(self._module.TakeSums(), name)(*args)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("vllm-estimate")
    base = tiny.model("llama")
    for name, model in (("aligned", tiny.moved(base)), ("reference", base)):
        model.save_pretrained(made / name)
        tiny.tokenizer().save_pretrained(made / name)
    return made


HOW = tsdi.Estimation(prompts=10, steps=3, prompt_tokens=4, groups=4, pool="tokenizer", seed=3)
VLLM = tsdi.Loading(tsdi.LoadOptions("float32"), batch_size=1, engine=tsdi.EngineChoice("vllm"))


@pytest.fixture
def opened(module, monkeypatch):
    """Names of the models that were loaded; vLLM is faked."""
    if "vllm" not in cases.NOT_RUN:
        pytest.skip("vLLM itself is asked by benchmarks/vllm.py")
    names = []

    def open_llm(model, options, **settings):
        names.append(model)
        return FakeLLM(module, model, opened_again[0], **settings)

    opened_again = [0]
    for name, value in vllm_stubs.STUBS["vllm"].items():
        monkeypatch.setattr(f"vllm.{name}", value)
    monkeypatch.setattr(vllm_estimate, "open_llm", open_llm)
    return SimpleNamespace(names=names, again=opened_again)


def estimated(folder, out, loading=VLLM, how=HOW, **options):
    pair = str(folder / "aligned"), str(folder / "reference")
    return tsdi.estimate(*pair, out, how, diagnosis=None, loading=loading, **options)


def test_the_bias_is_that_of_transformers(folder, opened, tmp_path):
    found = estimated(folder, tmp_path / "vllm")
    expected = estimated(folder, tmp_path / "own", tsdi.Loading(tsdi.LoadOptions("float32")))
    for name in ("values", "standard_error"):
        one, other = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * float(expected.values.max()))
    assert found.info.paths == {"aligned": "vllm_logits", "reference": "vllm_logits"}
    assert found.info.prompts == 10
    assert len(opened.names) == 2  # one after the other, each once
    assert sorted(path.name for path in (tmp_path / "vllm").iterdir()) == sorted(
        path.name for path in (tmp_path / "own").iterdir()
    )


def test_it_is_reproduced_by_vllm(folder, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(tsdi.EngineChoice, "check", lambda self: None)  # there is no vLLM to ask
    choice = tsdi.EngineChoice("vllm", args={"seed": 1})
    estimated(folder, tmp_path / "vllm", tsdi.Loading(VLLM.options, engine=choice))
    opened.names.clear()
    assert tsdi.reproduce(tmp_path / "vllm", loading=VLLM).verdict == "equal"
    assert len(opened.names) == 2


def test_shards_gathered_go_on_without_a_model(folder, opened, tmp_path):
    whole = estimated(folder, tmp_path / "whole")
    pair = str(folder / "aligned"), str(folder / "reference")
    for shard in (1, 2):
        estimate_shard(*pair, tmp_path / str(shard), f"{shard}/2", HOW, loading=VLLM)
    tsdi.gather([tmp_path / "2", tmp_path / "1"], tmp_path / "out")
    opened.names.clear()
    found = estimated(folder, tmp_path / "out", resume=True)
    torch.testing.assert_close(found.values, whole.values, rtol=0, atol=1e-6)
    assert opened.names == []


def test_prompts_that_were_read_in_parts_are_refused(folder, opened, tmp_path):
    opened.again[0] = 1
    with pytest.raises(ModelError, match="in parts"):
        estimated(folder, tmp_path / "out")


def test_infinite_logits_are_refused(folder, opened, tmp_path, monkeypatch):
    whole = vllm_estimate.VllmSums._take

    def broken(self, llm):
        sums, counts = whole(self, llm)
        return sums / 0, counts

    monkeypatch.setattr(vllm_estimate.VllmSums, "_take", broken)
    with pytest.raises(NumericalError, match="NaN or infinite"):
        estimated(folder, tmp_path / "out")


def test_sums_of_other_settings_are_refused(folder, opened, tmp_path):
    estimated(folder, tmp_path / "out")
    for role in ("aligned", "reference"):
        sums = GroupSums("vllm_logits", "other", ((0, 10),), torch.tensor([3, 3, 2, 2]),
                         torch.zeros(4, 3, tiny.VOCAB, dtype=torch.float64))  # fmt: skip
        sums.save(tmp_path / "out" / f"partial-{role}.safetensors")
    with pytest.raises(MismatchError, match="other settings or weights"):
        estimated(folder, tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"diagnosis": tsdi.DiagnosisPrompts()}, "Add --no-diagnosis"),
        ({"how": tsdi.FirstOrder(constant=HOW)}, "order 0"),
        ({"how": tsdi.Estimation(prompts=32, target_error=0.1)}, "target error"),
    ],
)
def test_what_vllm_cannot_do_is_refused(folder, tmp_path, options, said):
    how = options.get("how", HOW)
    pair = str(folder / "aligned"), str(folder / "reference")
    with pytest.raises(UsageError, match=said):
        tsdi.estimate(
            *pair, tmp_path / "out", how, diagnosis=options.get("diagnosis"), loading=VLLM
        )


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (tsdi.EngineChoice("llama-cpp"), "transformers or vllm"),
        (tsdi.EngineChoice(args={"attn_implementation": "eager"}), "--engine vllm"),
    ],
)
def test_other_engines_are_refused(choice, said):
    with pytest.raises(UsageError, match=said):
        tsdi.Loading(engine=choice)
