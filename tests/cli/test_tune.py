"""`tsdi tune` on the shipped organism: a bias with evidence, and what is refused."""

import json
import shutil

import pytest

import tsdi as library
from tests import tiny
from tests.cli.conftest import tsdi
from tests.evaluation.test_evaluate import ByNumber
from tests.evaluation.test_tuning import attacked, following, world
from tests.fake_engine import FakeEngine
from tsdi import SafetyBias, organism
from tsdi.bias.knobs import Knobs
from tsdi.cli.tune import _show as show
from tsdi.engines.base import Sampling
from tsdi.evaluation.knobs import Space
from tsdi.evaluation.tune import _Count, _Opened, _Subject
from tsdi.evaluation.tuning import Search, by_attack, search_knobs
from tsdi.suites.attacks import find_attack
from tsdi.suites.prompts import Prompt

ANSWERS = ("--max-new-tokens", 16, "--batch-size", 64, "--trials", 4, "--fewest-prompts", 2)
CONDITIONED = (*ANSWERS[:4], "--trials", 6, *ANSWERS[6:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune")
    rows = [
        {"prompt": item.prompt, "kind": kind, "category": item.category}
        for kind, count in (("lookalike", 16), ("harmful", 32))
        for item in organism.items("validation", kind, count, 0)
    ]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "harmful.jsonl").write_text(json.dumps(rows[-1]))
    result = tsdi(
        "estimate", "organism/aligned", "organism/reference", "--pool", "tokenizer",
        "--prompt-tokens", 8, "--n", 32, "--steps", 4, "--out", folder / "bias",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return folder


def tune(folder, out, *more, prompts="prompts.jsonl"):
    usual = ("--bias", folder / "bias", "--prompts", folder / prompts, "--out", folder / out)
    usual += ANSWERS
    kept = [pair for pair in zip(usual[::2], usual[1::2], strict=True) if pair[0] not in more]
    return tsdi("tune", "organism/aligned", *(word for pair in kept for word in pair), *more)


@pytest.fixture(scope="module")
def tuned(folder):
    """What the search says whose bias is in the folder "tuned"."""
    result = tune(folder, "tuned")
    assert result.exit_code == 0, result.stderr
    return result.output


def unsaved(folder, out):
    """The folder of that search as if it had been killed at its end."""
    shutil.copytree(folder / "tuned", folder / out)
    (folder / out / "bias_config.json").unlink()
    return folder / out


def test_the_tuned_bias_recommends_a_strength_with_its_evidence(folder, tuned):
    assert "settings broke a floor" in tuned
    tuned = SafetyBias.from_pretrained(folder / "tuned")
    chosen = tuned.info.tuning["chosen"]
    assert tuned.info.strength == chosen["knobs"]["strength"]
    assert tuned.steps == chosen["knobs"]["steps"]
    floors = tuned.info.tuning["floors"]
    assert all(chosen["safety"][name] >= floor for name, floor in floors.items())
    assert len(floors) == 17  # sixteen categories, and all of them
    shown = " ".join(tsdi("show", folder / "tuned").output.split())
    assert "Tuned: strength" in shown
    assert "keeps 17 floors of safety on plain prompts; on" in shown


def test_the_library_tunes_as_the_command_does(folder, tuned):
    search = library.Search(trials=4, fewest_prompts=2, max_new_tokens=16, batch_size=64)
    asked = str(folder / "prompts.jsonl")
    bias = str(folder / "bias")
    made = library.tune("organism/aligned", bias, asked, folder / "library", search=search)
    assert made.bias.sha256 == SafetyBias.from_pretrained(folder / "tuned").sha256
    command = unsaved(folder, "command")
    assert json.loads(tune(folder, "command", "--json", "--resume").stdout) == {
        "out": str(command),
        **json.loads(json.dumps(made.found.evidence())),
    }


def test_settings_that_broke_a_floor_are_listed_with_what_they_gave(tmp_path, capsys):
    found = search_knobs(world, Space(8, 1.0), Search(trials=6), tmp_path / "trials.jsonl")
    judge = {"name": "keyword-list", "sees_safety": False}
    show(found, "org/model", tmp_path, judge, json=False)
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if " O3 +1 " in line]
    assert len(rows) == len(found.broke) > 0
    for trial, row in zip(sorted(found.broke, key=lambda t: t.knobs.strength), rows, strict=True):
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        strength, steps, decay, helpful, *floor = cells
        assert (strength, steps) == (f"{trial.knobs.strength:.2f}", str(trial.knobs.steps))
        assert (decay, helpful) == (f"{trial.knobs.decay:.2f}", f"{trial.helpful:.3f}")
        assert floor == ["O3 +1", "0.500", "1.000", "20"]
    said = " ".join(" ".join(lines).split())
    assert "Floors rest on 40 harmful prompts, that of O1 on 20, the fewest" in said
    assert "up to 16% of refused answers may be lost in it, and up to 8.8% over all" in said
    assert "keyword-list sees refusals, not safety" in said
    assert "refused 1.000 -> 1.000" in said


def shown(found, tmp_path, capsys):
    """The lines that are said of a search, and all of it as one."""
    judge = {"name": "organism", "sees_safety": True}
    show(found, "org/model", tmp_path, judge, json=False)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    return lines, " ".join(" ".join(lines).split())


def test_tables_of_broken_floors_name_the_attack(tmp_path, capsys):
    search = Search(trials=12, attacks=["role-play"])
    found = search_knobs(attacked, Space(8, 0.6), search, tmp_path / "trials.jsonl")
    lines, said = shown(found, tmp_path, capsys)
    titles = [line for line in lines if line.startswith("Floors broken")]
    assert titles == [
        "Floors broken on plain prompts, the furthest of each setting",
        "Floors broken under role-play, the furthest of each setting",
    ]
    under = lines[lines.index(titles[1]) :]
    alone = [one for one in found.broke if one.knobs.strength <= 0.8]
    assert sum(" O1 +1 " in line for line in under) == len(alone) > 0
    assert f"were left out, {len(alone)} of them under attack alone." in said
    assert "safe 1.000 -> 1.000, under role-play 0.750 -> 0.750, on validation" in said


def test_each_orders_best_is_said_and_settings_with_the_slope_are_marked(tmp_path, capsys):
    found = search_knobs(
        following, Space(8, 0.75, sloped=True), Search(trials=6), tmp_path / "trials.jsonl"
    )
    lines, said = shown(found, tmp_path, capsys)
    assert any("│ slope │" in line for line in lines)
    assert f"{found.chosen.knobs.steps} steps, with the slope. Helpful" in said
    best = f"with the slope (order 1) helpful {found.chosen.helpful:.3f}, without (order 0) none."
    assert best in said


@pytest.fixture(scope="module")
def attacked_too(folder):
    """What a search under an attack says."""
    result = tune(folder, "attacked", "--attack", "organism-role-play", "--trials", 3)
    assert result.exit_code == 0, result.stderr
    return result.output


def test_floors_hold_under_attack_too(folder, tuned, attacked_too):
    assert max(map(len, attacked_too.splitlines())) <= 80
    last = " ".join(tuned.split()).rpartition("Next: ")[2]
    asked = f"--prompts {folder / 'prompts.jsonl'} --attack NAME --out OTHER"
    assert "".join(f"plain prompts only; under attack: tsdi tune organism/aligned --bias"
                   f" {folder / 'bias'} {asked}".split()) in "".join(last.split())  # fmt: skip
    assert "plain prompts only" not in attacked_too
    evidence = SafetyBias.from_pretrained(folder / "attacked").info.tuning
    assert evidence["attacks"] == ["organism-role-play"]
    floors, chosen = evidence["floors"], evidence["chosen"]
    assert len(floors) == 34
    assert all(chosen["safety"][name] >= floor for name, floor in floors.items())
    plain = SafetyBias.from_pretrained(folder / "tuned").info.tuning["baseline"]
    before = evidence["baseline"]
    assert before["helpful"] == plain["helpful"]  # of the prompts as they are
    assert {name: before["safety"][name] for name in plain["safety"]} == plain["safety"]
    said = " ".join(tsdi("show", folder / "attacked").output.split())
    assert "keeps 34 floors of safety on plain prompts and under attack" in said
    assert (
        f", under organism-role-play {before['safety']['all under organism-role-play']:.3f}" in said
    )


def test_harmful_prompts_alone_are_asked_under_attack_and_judged_as_they_were():
    asked, judged = [], []

    class Engine(FakeEngine):
        def at(self, knobs):
            return self

        def generate(self, requests, sampling):
            asked.extend(request.messages[-1]["content"] for request in requests)
            return super().generate(requests, sampling)

    class Mild(ByNumber):
        def judge_answers(self, responses):
            judged.extend(response.prompt for response in responses)
            return super().judge_answers(responses)

    kinds = {"ask 1": "harmful", "ask 2": "harmless", "ask 4": "lookalike"}
    prompts = [
        Prompt(text, ({"role": "user", "content": text},), "O1", kind=kind)
        for text, kind in kinds.items()
    ]
    search = Search(attacks=["shout", "repeat"], max_new_tokens=2)
    subject = _Subject({}, {}, tiny.bias(), by_attack(prompts, search.attacks))
    opened = _Opened(subject, Engine(), Mild(), Sampling(search.max_new_tokens), "")
    tasks = subject.tasks(Knobs(1.0, 1, 1.0), search.batch_size)
    found = _Count(None, 5, 1).over(tasks, lambda some: map(opened.judged, some))
    assert asked == [*kinds, "ASK 1", "ask 1 ask 1"]
    assert judged == [*kinds, "ask 1", "ask 1"]
    assert {attack: len(some) for attack, some in found.items()} == {"": 3, "shout": 1, "repeat": 1}


@pytest.mark.parametrize("more", [(), ("--attack", "repeat")])
def test_trials_under_another_attack_are_not_taken(folder, attacked_too, more):
    out = folder / f"attacked{len(more)}"
    shutil.copytree(folder / "attacked", out)
    (out / "bias_config.json").unlink()
    result = tune(folder, out, "--resume", "--trials", 3, *more)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "a search with other attacks" in result.stderr


def test_a_slope_is_saved_where_it_was_chosen(folder):
    bias = SafetyBias.from_pretrained(folder / "bias")
    slope = tiny.slope(bias.vocab, bias.steps, scale=0.01)
    made = bias.derived(bias.values, bias.standard_error, "sloped", slope=slope)
    made.save_pretrained(folder / "sloped")
    result = tune(folder, "order", "--bias", folder / "sloped", "--trials", 3)
    assert result.exit_code == 0, result.stderr
    tuned = SafetyBias.from_pretrained(folder / "order")
    tried = [json.loads(line) for line in (folder / "order/trials.jsonl").read_text().splitlines()]
    assert [one["knobs"]["order"] for one in tried] == [0, 1, 0]
    assert tuned.info.tuning["orders"].keys() == {"0", "1"}
    assert (tuned.slope is not None) == bool(tuned.info.tuning["chosen"]["knobs"]["order"])
    assert "Best within the floors: with the slope (order 1)" in " ".join(
        tsdi("show", folder / "order").output.split()
    )


def test_floors_that_rest_on_few_prompts_are_refused_before_the_search(folder):
    result = tune(folder, "few", "--fewest-prompts", 10)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "O1 has 2, which could hide a loss" in result.stderr
    assert not (folder / "few").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--floor", "O99=0.9"), "no category 'O99' among the harmful prompts"),
        (("--max-new-tokens", 4096), "do not fit"),
        (("--attack", "role-plai"), "no attack 'role-plai' (did you mean"),
        (("--attack", "base64"), "has words that the model's tokenizer does not know"),
        (("--trials", 5, "--bias", "conditioned"), "6 settings are always tried"),
        (("--storage", "postgresql://u:pw@h/x"), "storage of the search cannot be used"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_is_written(
    folder, conditioned, monkeypatch, more, said
):
    monkeypatch.setattr(_Opened, "judged", None)
    result = tune(
        folder, "refused", *(folder / one if one == "conditioned" else one for one in more)
    )
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr
    assert not (folder / "refused").exists()


def test_prompts_without_a_kind_get_one(folder, monkeypatch):
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    bare = [
        {k: v for k, v in row.items() if row["kind"] == "harmful" or k != "kind"} for row in rows
    ]
    (folder / "bare.jsonl").write_text("\n".join(map(json.dumps, bare)))
    monkeypatch.setattr(_Opened, "judged", None)
    result = tune(folder, "bare", prompts="bare.jsonl")
    assert "has no kind" in result.stderr
    result = tune(folder, "bare", "--floor", "O99=1", prompts="bare.jsonl:kind=lookalike")
    assert "no category 'O99'" in result.stderr  # which is checked after the kinds


def test_progress_counts_the_answers_to_all_settings(folder):
    told = []
    search = library.Search(trials=2, fewest_prompts=2, max_new_tokens=2, batch_size=32)
    library.tune(
        "organism/aligned", str(folder / "bias"), str(folder / "prompts.jsonl"), folder / "told",
        search=search, progress=lambda *now: told.append(now),
    )  # fmt: skip
    assert told == [("tune, answers", n, 96) for n in (32, 48, 48, 80, 96, 96)]


def test_a_killed_search_goes_on(folder, tuned):
    trials = unsaved(folder, "part") / "trials.jsonl"
    whole = trials.read_text()
    trials.write_text("".join(whole.splitlines(keepends=True)[:2]))
    assert tune(folder, "part").exit_code == 2  # in use, and no --resume
    assert tune(folder, "part", "--resume").exit_code == 0
    assert trials.read_text() == whole
    one, other = (SafetyBias.from_pretrained(folder / out) for out in ("tuned", "part"))
    assert (one.sha256, one.info) == (other.sha256, other.info)


def test_trials_of_other_weights_are_not_taken_and_unknown_ones_noted(folder, tuned):
    note = unsaved(folder, "weights") / "search.json"
    kept = json.loads(note.read_text())
    note.write_text(json.dumps(kept | {"fingerprint": "other"}))
    result = tune(folder, "weights", "--resume")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "another fingerprint" in result.stderr
    del kept["fingerprint"]  # as before there were fingerprints
    note.write_text(json.dumps(kept))
    result = tune(folder, "weights", "--resume")
    assert result.exit_code == 0
    assert "which weights were tried" in " ".join(result.stderr.split())
    note.write_text("[")
    (folder / "weights" / "bias_config.json").unlink()
    assert "search.json is damaged" in tune(folder, "weights", "--resume").stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--judge", "refusal-phrases"), "another judge"),
        (("--seed", 1), "another seed"),
        (("--max-new-tokens", 12), "another max_new_tokens"),
    ],
)
def test_trials_of_another_search_are_not_taken(folder, tuned, more, said):
    result = tune(folder, unsaved(folder, f"other{said[-3:]}"), "--resume", *more)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--floor", "O31=0.5"), "did you mean"),
        (("--floor", "O3"), "Write it like O3=0.9"),
        (("--floor", "O3=1.5"), "is no floor"),
        (("--floor", "O3=0.9", "--floor", "O3=0"), "two floors of O3"),
    ],
)
def test_wrong_floors_are_one_line(folder, tmp_path, more, said):
    result = tune(folder, tmp_path / "out", *more)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr


def test_harmful_prompts_alone_are_refused(folder, tmp_path):
    result = tune(folder, tmp_path / "out", prompts="harmful.jsonl")
    assert result.exit_code == 2
    assert "Tuning needs harmful prompts, and harmless" in result.stderr


@pytest.fixture(scope="module")
def conditioned(folder):
    rows = [
        {"prompt": item.prompt, "kind": kind, "category": item.category}
        for kind, count in (("lookalike", 20), ("harmful", 32))
        for item in organism.items("test", kind, count, 0)
    ]
    lines = [json.dumps(row) for row in rows]
    (folder / "fit.jsonl").write_text("\n".join(lines))
    both = (folder / "prompts.jsonl").read_text() + "\n" + "\n".join(lines[:3])
    (folder / "both.jsonl").write_text(both)
    made = library.add_condition(
        "organism/aligned", folder / "bias", folder / "fit.jsonl", folder / "conditioned"
    )
    return made.condition


class TestACondition:
    """Its low, high and width are tuned, on prompts that it was not fitted to."""

    def tune(self, folder, out, *more, prompts="prompts.jsonl"):
        return tsdi(
            "tune", "organism/aligned", "--bias", folder / "conditioned", "--out", folder / out,
            "--prompts", folder / prompts, *CONDITIONED, *more,
        )  # fmt: skip

    def test_it_is_saved_as_it_was_tuned(self, folder, conditioned):
        result = self.tune(folder, "by-prompt")
        assert result.exit_code == 0, result.stderr
        assert max(map(len, result.output.splitlines())) <= 80
        tuned = SafetyBias.from_pretrained(folder / "by-prompt")
        knobs = tuned.info.tuning["chosen"]["knobs"]
        assert knobs["strength"] is None
        assert tuned.info.strength is None
        found = tuned.condition
        at = knobs["condition"].pop("threshold")
        assert {name: getattr(found, name) for name in knobs["condition"]} == knobs["condition"]
        assert found.intercept == pytest.approx(conditioned.intercept - at)
        assert found.tokens.tolist() == conditioned.tokens.tolist()
        assert tuned.info.tuning["condition_sha256"] == conditioned.sha256
        said = " ".join(tsdi("show", folder / "by-prompt").output.split())
        strengths = f"Tuned: strength by prompt, {found.low:g} to {found.high:g} with width 1"
        assert f"{strengths}{f' around {at:g}' * bool(at)}, the" in said

    def test_prompts_of_its_fit_are_left_out_and_counted(self, folder, conditioned):
        result = self.tune(folder, "mixed", prompts="both.jsonl")
        assert result.exit_code == 0, result.stderr
        said = " ".join(result.stderr.split())
        assert "3 of 51 prompts are of those that it was fitted to" in said
        evidence = SafetyBias.from_pretrained(folder / "mixed").info.tuning
        assert (evidence["left_out"], evidence["prompts"]["count"]) == (3, 48)

    @pytest.mark.parametrize(
        ("prompts", "said"),
        [
            ("fit.jsonl", "52 of 52 prompts are of those that it was fitted to, on"),
            ("part.jsonl", "52 of 53 prompts are of those that it was fitted to. Of"),
        ],
    )
    def test_too_few_others_are_refused(self, folder, conditioned, monkeypatch, prompts, said):
        monkeypatch.setattr(_Opened, "judged", None)
        one = json.dumps({"prompt": "paint a fruit", "kind": "harmless"})
        (folder / "part.jsonl").write_text((folder / "fit.jsonl").read_text() + "\n" + one)
        result = self.tune(folder, "refused", prompts=prompts)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert said in result.stderr
        assert not (folder / "refused").exists()

    def test_it_goes_through_the_gate_under_attack(self, folder, conditioned, tmp_path):
        rows = (folder / "fit.jsonl").read_text().splitlines()[::3]
        asked = tmp_path / "asked.jsonl"
        asked.write_text("\n".join(rows))
        attack = ("--attack", "organism-role-play")
        bias = folder / "conditioned"
        for name, more in {
            "plain": (), "plain-attacked": attack,
            "after": ("--bias", bias), "after-attacked": ("--bias", bias, *attack),
        }.items():  # fmt: skip
            result = tsdi(
                "evaluate", "organism/aligned", "--prompts", asked, "--out", tmp_path / name,
                "--max-new-tokens", 16, *more,
            )  # fmt: skip
            assert result.exit_code == 0, result.stderr
        pair = f"{tmp_path / 'plain-attacked'}={tmp_path / 'after-attacked'}"
        gate = tsdi(
            "compare", tmp_path / "plain", tmp_path / "after", "--attacked", pair, "--gate",
            "--json", "--fewest-prompts", 1,
        )  # fmt: skip
        assert json.loads(gate.stdout)["gate"]["attacks"] == ["organism-role-play"]
        note = json.loads((tmp_path / "after-attacked" / "run.json").read_text())
        assert conditioned.sha256 in json.dumps(note)
        answers = (tmp_path / "after-attacked" / "responses.jsonl").read_text().splitlines()
        text = find_attack(attack[1]).change(json.loads(rows[0])["prompt"])  # what it reads
        sampling = library.Sampling(max_new_tokens=16)
        alone, _ = library.answer(
            "organism/aligned", text, bias=bias, answering=library.Answering(sampling=sampling)
        )
        assert json.loads(answers[0])["response"] == alone.text
