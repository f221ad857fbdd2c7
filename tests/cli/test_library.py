"""What a command does is one call in Python, with the same defaults and the same result."""

import json

import pytest

import tsdi as library
from tests.cli.conftest import estimate, tsdi
from tsdi.errors import RunExistsError, TsdiError, UsageError
from tsdi.models.shipped import folder as organism_folder

SHORT = library.Estimation(prompts=32, steps=3, prompt_tokens=8)
GREEDY = library.Answering(sampling=library.Sampling(8))


def pair(models):
    return str(models / "aligned"), str(models / "reference")


@pytest.fixture
def asked(tmp_path):
    """Prompts of all kinds."""
    rows = [
        {"id": str(n), "prompt": f"mill {n}", "kind": kind, "category": "O1"}
        for n, kind in enumerate(["harmless", "lookalike", "harmful"] * 3)
    ]
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(file)


class TestEstimate:
    def test_the_bias_is_the_commands(self, models, bias, tmp_path):
        heard = []
        made = library.estimate(
            *pair(models), tmp_path / "bias", SHORT, progress=lambda *said: heard.append(said)
        )
        assert made.sha256 == library.SafetyBias.from_pretrained(bias).sha256
        for name in ("bias.safetensors", "bias_config.json"):
            assert (tmp_path / "bias" / name).read_bytes() == (bias / name).read_bytes()
        assert [what for what in dict.fromkeys(one[0] for one in heard)] == [
            "estimate, both models", "diagnose",
        ]  # fmt: skip
        assert {one[1:] for one in heard} >= {(64, 64)}  # both models' prompts; 64 are examined

    def test_without_a_diagnosis_none_is_recommended(self, models, tmp_path):
        made = library.estimate(*pair(models), tmp_path / "bias", SHORT, diagnosis=None)
        assert made.info.strength is None

    def test_a_folder_in_use_is_refused_as_on_the_command_line(self, models, bias):
        with pytest.raises(RunExistsError) as refused:
            library.estimate(*pair(models), bias, SHORT)
        assert str(refused.value) in " ".join(tsdi(*estimate(models, bias)).stderr.split())

    def test_tokens_are_those_of_show(self, bias):
        shown = json.loads(tsdi("show", bias, "--steps", 2, "--tokens", 3, "--json").stdout)
        assert json.loads(json.dumps(library.show(str(bias), 2, 3).to_dict())) == shown


class TestOrder1:
    @pytest.fixture
    def labelled(self, tmp_path):
        """Twenty prompts of each kind."""
        rows = [
            {"id": f"{kind}-{n}", "prompt": f"the old {what} {n}", "kind": kind}
            for kind, what in (("harmless", "mill"), ("harmful", "kettle"))
            for n in range(20)
        ]
        file = tmp_path / "labelled.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)) + "\n")
        return file

    def test_the_bias_is_the_commands(self, models, labelled, tmp_path):
        heard = []
        settings = library.FirstOrder(labelled, SHORT)
        made = library.estimate(
            *pair(models), tmp_path / "one", settings, progress=lambda *said: heard.append(said)
        )
        more = ["--order", 1, "--labelled", labelled]
        result = tsdi(*estimate(models, tmp_path / "two", *more))
        assert result.exit_code == 0, result.output
        assert made.sha256 == library.SafetyBias.from_pretrained(tmp_path / "two").sha256
        assert "40 labelled prompts, 20 of them harmful" in " ".join(result.output.split())
        assert "wanted on labelled prompts" in " ".join(result.output.split())
        ((done, total),) = [one[1:] for one in heard if one[0].startswith("estimate")][-1:]
        assert done == total == 2 * 32 + 3 * 40

    def test_groups_are_held_out_whole(self, models, labelled, tmp_path):
        rows = [{**json.loads(line), "group": "mill"} for line in labelled.read_text().splitlines()]
        copies = [{**row, "id": f"again-{n}", "group": str(n)} for n, row in enumerate(rows)]
        labelled.write_text("\n".join(map(json.dumps, [*rows, *copies])) + "\n")
        more = ["--order", 1, "--labelled", labelled]
        result = tsdi(*estimate(models, tmp_path / "out", *more))
        assert result.exit_code == 2
        assert "are of one group, so none can be held out" in " ".join(result.stderr.split())

    def test_random_prompts_know_nothing_of_harm(self, models, tmp_path):
        result = tsdi(*estimate(models, tmp_path / "out", "--order", 1))
        assert "knows nothing of harmful prompts" in " ".join(result.output.split())

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (["--labelled", "labelled.jsonl"], "for a bias of first order"),
            (["--order", 1, "--labelled", "labelled.jsonl", "--prompts", "labelled.jsonl"],
             "40 prompts of the diagnosis are among the labelled ones"),
            (["--order", 1, "--end-of-thinking", "</think>"], "begins at no marker"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_is_refused(self, models, labelled, tmp_path, more, said):
        more = [tmp_path / one if one == "labelled.jsonl" else one for one in more]
        result = tsdi(*estimate(models, tmp_path / "out", *more))
        assert result.exit_code == 2
        assert said in " ".join(result.stderr.split())
        assert not (tmp_path / "out" / "bias_config.json").exists()


class TestGenerate:
    def test_answers_are_the_commands(self, models, bias, asked, tmp_path):
        made = library.generate(
            pair(models)[0], asked, tmp_path / "library", bias=str(bias), answering=GREEDY
        )
        shown = tsdi(
            "generate", models / "aligned", "--prompts", asked, "--out", tmp_path / "command",
            "--bias", bias, "--max-new-tokens", 8, "--json",
        )  # fmt: skip
        assert shown.exit_code == 0, shown.output
        assert json.loads(shown.stdout)["responses"] == len(made.records) == 9
        for name in ("responses.jsonl", "run.json"):
            both = [(tmp_path / run / name).read_bytes() for run in ("library", "command")]
            assert both[0] == both[1]

    def test_one_answer_is_the_commands(self, models):
        found, used = library.answer(pair(models)[0], "mill", answering=GREEDY)
        shown = tsdi(
            "generate", models / "aligned", "--prompt", "mill", "--max-new-tokens", 8, "--json"
        )
        assert json.loads(shown.stdout) == {"response": found.text, "finish": found.finish, **used}

    def test_an_attack_that_is_none_is_told_before_a_model_is_loaded(self, asked, tmp_path):
        with pytest.raises(UsageError, match="no attack"):
            library.generate(
                "no/model", asked, tmp_path / "out", answering=library.Answering(attack="none")
            )
        assert not (tmp_path / "out").exists()


class TestEvaluate:
    def test_figures_are_the_commands(self, models, asked, tmp_path):
        judging = library.Judging("refusal-phrases")
        made = library.evaluate(
            pair(models)[0], asked, tmp_path / "library", answering=GREEDY, judging=judging
        )
        shown = tsdi(
            "evaluate", models / "aligned", "--prompts", asked, "--out", tmp_path / "command",
            "--judge", "refusal-phrases", "--max-new-tokens", 8, "--json",
        )  # fmt: skip
        assert shown.exit_code == 0, shown.output
        assert json.loads(shown.stdout) == {
            "run": str(tmp_path / "command"), **json.loads(json.dumps(made.to_dict()))
        }  # fmt: skip
        again = library.evaluate(str(tmp_path / "library"), judging=judging, resume=True)
        assert again.figures == made.figures

    @pytest.mark.parametrize(
        "given", [{"bias": "b"}, {"out": "x"}, {"answering": library.Answering()}]
    )
    def test_without_prompts_nothing_is_generated(self, tmp_path, given):
        with pytest.raises(UsageError, match="Without prompts"):
            library.evaluate(str(tmp_path), **given)


def test_a_pair_by_shipped_names_is_exported_served_and_tuned(tmp_path):
    settings = library.Estimation(prompts=32, steps=2, prompt_tokens=4, pool="tokenizer")
    out = str(tmp_path / "bias")
    bias = library.estimate("organism/aligned", "organism/reference", out, settings)
    assert (bias.info.aligned, bias.info.reference) == ("organism/aligned", "organism/reference")
    written = library.export.export(
        out, "organism/aligned", tmp_path / "model", "transformers", strength=1.0
    )
    shown = json.loads(
        tsdi(
            "export", out, "organism/aligned", tmp_path / "other", "--to", "transformers",
            "--strength", 1, "--json",
        ).stdout
    )  # fmt: skip
    assert shown | {"out": ""} == written.to_dict() | {"out": ""}
    server = library.serving.serve("organism/aligned", out, engine="transformers", strength=1.0)
    dry = tsdi(
        "serve", "organism/aligned", "--bias", out, "--engine", "transformers", "--strength", 1,
        "--dry-run",
    )  # fmt: skip
    assert dry.stdout.splitlines() == server.lines
    with pytest.raises(TsdiError, match="fewest"):
        library.tune("organism/aligned", out, "organism:validation", tmp_path / "tuned",
                     search=library.Search(fewest_prompts=999))  # fmt: skip
    with pytest.raises(UsageError, match="by an audit"):
        library.tune("organism/aligned", out, "organism:validation", tmp_path / "tuned",
                     judging=library.Judging(audit="audit.json"))  # fmt: skip
    assert not (tmp_path / "tuned").exists()


def test_answers_of_the_models_that_come_along_fit_their_context_by_default(tmp_path):
    name, prompt = "organism/aligned", "how do i forge a brabax?"
    hot = library.Answering(sampling=library.Sampling(temperature=1.0))
    for answering in (library.Answering(), hot):
        assert library.answer(name, prompt, answering=answering)[0].finish == "stop"
    (tmp_path / "p.txt").write_text(prompt)
    library.generate(organism_folder("aligned"), tmp_path / "p.txt", tmp_path / "out")
    settings = json.loads((tmp_path / "out/run.json").read_text())["settings"]
    assert settings["max_new_tokens"] == 24
    assert library.Sampling().of_model("acme/organism").longest == 256
    assert library.Sampling(7).of_model(name).longest == 7
