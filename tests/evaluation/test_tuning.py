"""Tuning: floors that are never broken, choices that can be traced, searches that go on."""

import json
from dataclasses import asdict, replace
from math import exp

import pytest
import torch

from tests import tiny
from tsdi.bias.knobs import Knobs, Strengths
from tsdi.errors import FormatError, RunExistsError, UsageError
from tsdi.evaluation.knobs import Space
from tsdi.evaluation.metrics import Judged
from tsdi.evaluation.tuning import (
    Search,
    Trial,
    check_prompts,
    check_trials,
    floors_of,
    measure,
    read_trial,
    result_of,
    search_knobs,
)
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.suites.prompts import Prompt

CATEGORIES = ("O1", "O3")


def harmful(safe, n=20):
    """Answers to harmful prompts of which so many shares are safe, by category."""
    found = []
    for category, share in safe.items():
        found += [
            Judged(
                f"{category}-{i}",
                "harmful",
                category,
                Judgement(Verdict.REFUSED if i < share * n else Verdict.COMPLIED),
            )
            for i in range(n)
        ]
    return found


def judged(safe, helpful, n=20):
    """Such answers, and so helpful ones, to plain prompts."""
    asked = [
        Judged(
            f"h-{i}",
            "lookalike",
            "",
            Judgement(Verdict.COMPLIED if i < helpful * n else Verdict.REFUSED),
        )
        for i in range(n)
    ]
    return {"": harmful(safe, n) + asked}


def world(knobs):
    """A model that gets more helpful with strength, and pays in O3 beyond 0.8."""
    taken = knobs.strength * knobs.decay
    return judged(
        {"O1": 1.0, "O3": 1.0 if knobs.strength <= 0.8 else 0.5}, min(1.0, 0.2 + 0.5 * taken)
    )


@pytest.fixture
def log(tmp_path):
    return tmp_path / "trials.jsonl"


class TestTheChoice:
    def test_it_is_the_most_helpful_setting_that_keeps_every_floor(self, log):
        found = search_knobs(world, Space(8, 1.0), Search(trials=40), log)
        assert 0.6 <= found.chosen.knobs.strength <= 0.8
        assert found.chosen.safety["O3"] == 1.0
        assert found.chosen.helpful > found.baseline.helpful
        assert len(found.broke) > 0

    def test_the_recommended_strength_is_left_if_it_breaks_a_floor(self, log):
        found = search_knobs(world, Space(8, 1.0), Search(trials=2), log)
        assert found.chosen.knobs.strength == 0  # 0 and 1.0 were tried, and 1.0 costs O3
        (broken,) = found.evidence()["broken"]
        assert broken["knobs"]["strength"] == 1.0
        assert broken["floors"] == {
            "O3": {"safety": 0.5, "floor": 1.0},
            "all": {"safety": 0.75, "floor": 1.0},
        }
        assert found.evidence()["floors_rest_on"] == {"all": 40, "O1": 20, "O3": 20}

    def test_a_tolerance_lets_a_category_fall_so_far(self, log):
        found = search_knobs(world, Space(8, 1.0), Search(tolerance=0.5, trials=30), log)
        assert found.chosen.knobs.strength > 0.8
        assert found.floors["O3"] == 0.5

    def test_of_equals_the_one_that_takes_away_least(self, log):
        def flat(knobs):
            return judged({"O1": 1.0}, 0.5)

        assert search_knobs(flat, Space(8, 1.0), Search(trials=10), log).chosen.knobs == Knobs(
            0.0, 8, 1.0
        )

    def test_a_bias_that_follows_the_logits_has_no_decay(self, log):
        search_knobs(world, Space(8, 1.0, sloped=True), Search(trials=12), log)
        tried = [json.loads(line)["knobs"] for line in log.read_text().splitlines()]
        assert {knobs["order"] for knobs in tried} == {0, 1}
        assert {knobs["decay"] for knobs in tried if knobs["order"]} == {1.0}
        assert len({knobs["decay"] for knobs in tried}) > 1

    def test_evidence_is_json_and_says_that_it_is_optimistic(self, log):
        evidence = json.loads(
            json.dumps(search_knobs(world, Space(8, 1.0), Search(trials=5), log).evidence())
        )
        assert evidence["trials"] == 5
        assert "optimistic" in evidence["note"]
        assert evidence["chosen"]["safety"]["O3"] >= evidence["floors"]["O3"]


def by_prompt(knobs):
    """The same world, where harmful prompts get what a condition's low is."""
    low, high = knobs.strength, knobs.strength
    if knobs.condition:
        low, high = knobs.condition.low, knobs.condition.high
    safe = {"O1": 1.0, "O3": 1.0 if low <= 0.8 else 0.5}
    return judged(safe, min(1.0, 0.2 + 0.25 * high * knobs.decay))


class TestACondition:
    SPACE = Space(8, 1.0, Strengths(-0.5, 1.0, 1.0))

    def test_its_own_strengths_and_one_for_all_stand_beside_doing_nothing(self, log):
        search_knobs(by_prompt, self.SPACE, Search(trials=6), log)
        tried = [json.loads(line)["knobs"] for line in log.read_text().splitlines()]
        assert [knobs["strength"] for knobs in tried] == [0.0, None, 1.0, None, None, None]
        assert tried[1]["condition"] == asdict(Strengths(-0.5, 1.0, 1.0))
        bold = [knobs["condition"] for knobs in tried[3:]]
        assert bold == [asdict(Strengths(-1.0, 2.0, 1.0, at)) for at in (0.0, -1.0, -2.0)]

    def test_a_lower_threshold_keeps_a_floor_that_no_other_setting_does(self, log):
        def one_errs(knobs):
            """A harmful prompt has a score of -1.2, harmless ones -3."""
            by = knobs.condition
            s = [knobs.strength] * 2
            if by:
                s = [by.high + (by.low - by.high) / (1 + exp((by.threshold - h) / by.width))
                     for h in (-1.2, -3.0)]  # fmt: skip
            return judged({"O1": 1.0 if s[0] <= 0.1 else 0.9}, min(1.0, 0.2 + 0.3 * max(s[1], 0)))

        chosen = search_knobs(one_errs, self.SPACE, Search(trials=12), log).chosen
        assert chosen.knobs.condition.threshold < -0.5
        assert chosen.helpful > 0.2

    def test_the_tuned_condition_has_the_threshold_in_its_intercept(self):
        condition = tiny.condition(evidence={"scores": {"harmful": [1.0], "harmless": [-2.0]}})
        made = Strengths(-1.0, 2.0, 0.5, -1.5).of(condition)
        logits = torch.randn(3, tiny.VOCAB, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(made.score(logits), condition.score(logits) + 1.5)
        torch.testing.assert_close(
            made.strength(logits), condition.strength_between(logits, -1.0, 2.0, 0.5, -1.5)
        )
        assert made.evidence["scores"] == {"harmful": [2.5], "harmless": [-0.5]}

    def test_it_spares_harmful_prompts_where_one_strength_for_all_breaks_a_floor(self, log):
        found = search_knobs(by_prompt, self.SPACE, Search(trials=40), log)
        chosen = found.chosen.knobs
        assert chosen.condition.high > 1.5
        assert chosen.condition.low <= 0.8
        assert all(one.knobs.removal[0] > 0.8 for one in found.broke)
        assert search_knobs(by_prompt, self.SPACE, Search(trials=40), log) == found  # read back

    def test_of_equals_the_one_that_takes_least_from_harmful_prompts(self, log):
        def flat(knobs):
            return judged({"O1": 1.0}, 0.2 if knobs.off else 0.5)

        chosen = search_knobs(flat, self.SPACE, Search(trials=20), log).chosen.knobs
        assert chosen.condition.low <= 0

    def test_a_low_that_is_not_below_high_is_one_strength_for_all(self, log):
        found = search_knobs(by_prompt, self.SPACE, Search(trials=30), log)
        every = [json.loads(line)["knobs"] for line in log.read_text().splitlines()]
        assert all(one["condition"]["low"] < one["condition"]["high"] for one in every
                   if one["condition"])  # fmt: skip
        assert sum(one["condition"] is None for one in every) >= 2
        assert found.conditioned

    def test_records_of_before_there_were_conditions_and_orders_are_read(self, log):
        found = search_knobs(world, Space(8, 1.0), Search(trials=4), log)
        records = [json.loads(line) for line in log.read_text().splitlines()]
        for record in records:
            del record["knobs"]["condition"], record["knobs"]["order"]
        log.write_text("".join(json.dumps(record) + "\n" for record in records))
        assert search_knobs(None, Space(8, 1.0), Search(trials=4), log) == found


def following(knobs):
    """A world where the slope helps, and without it every strength costs O3."""
    safe = {"O1": 1.0, "O3": 1.0 if knobs.order or knobs.off else 0.5}
    return judged(safe, min(1.0, 0.2 + 0.4 * knobs.strength))


class TestASlope:
    SPACE = Space(8, 0.75, sloped=True)

    def test_both_orders_of_what_is_recommended_stand_beside_doing_nothing(self, log):
        search_knobs(following, self.SPACE, Search(trials=3), log)
        tried = [json.loads(line)["knobs"] for line in log.read_text().splitlines()]
        known = [(knobs["strength"], knobs["order"]) for knobs in tried]
        assert known == [(0.0, 0), (0.75, 1), (0.75, 0)]

    def test_so_do_both_orders_with_a_condition(self):
        first = Space(8, 0.75, Strengths(-0.5, 1.0, 1.0), sloped=True).first()
        tried = [(one["low"], one["high"], one["order"]) for one in first]
        assert tried[:3] == [(0.0, 0.0, 0), (-0.5, 1.0, 1), (-0.5, 1.0, 0)]
        assert tried[3:5] == [(0.75, 0.75, 1), (0.75, 0.75, 0)]
        assert tried[5:] == [(-1.0, 2.0, 1), (-1.0, 2.0, 0)] * 3

    def test_it_is_taken_where_it_helps_and_each_orders_best_is_told(self, log):
        found = search_knobs(following, self.SPACE, Search(trials=12), log)
        assert found.chosen.knobs.order == 1
        evidence = json.loads(json.dumps(found.evidence()))["orders"]
        assert evidence["1"]["helpful"] == found.chosen.helpful
        assert evidence["0"] is None  # doing nothing keeps the floors, and is of neither order

    def test_of_equals_the_one_without_it(self, log):
        def flat(knobs):
            return judged({"O1": 1.0}, 0.2 if knobs.off else 0.5)

        found = search_knobs(flat, self.SPACE, Search(trials=3), log)
        assert (found.chosen.knobs.strength, found.chosen.knobs.order) == (0.75, 0)
        assert found.orders[1].knobs.order == 1

    @pytest.mark.parametrize("order", [0, 1])
    def test_the_tuned_bias_has_it_at_order_1_alone(self, order):
        bias = tiny.bias(steps=3, strength=1.0)
        bias = bias.derived(bias.values, bias.standard_error, "sloped", slope=tiny.slope())
        made = Knobs(1.0, 2, 1.0, order=order).of(bias)
        assert (made.slope is not None) == bool(order)
        assert made.values.equal(bias.values[:2])
        assert ("order 0" in made.info.history) != bool(order)


def attacked(knobs):
    """The world, where a strength above 0.4 costs O1 under role-play, of which half is safe."""
    safe = {"O1": 0.5 if knobs.strength <= 0.4 else 0.4, "O3": 1.0}
    return {**world(knobs), "role-play": harmful(safe)}


class TestAttacks:
    SEARCH = Search(trials=30, attacks=["role-play", "role-play"])

    def test_floors_hold_under_each_by_category(self, log):
        found = search_knobs(attacked, Space(8, 0.6), self.SEARCH, log)
        assert found.floors == {
            "all": 1.0, "O1": 1.0, "O3": 1.0, "all under role-play": 0.75,
            "O1 under role-play": 0.5, "O3 under role-play": 1.0,
        }  # fmt: skip
        assert 0 < found.chosen.knobs.strength <= 0.4
        broken = next(one for one in found.broke if one.knobs.strength == 0.6)
        assert broken.broken(found.floors) == ["O1 under role-play", "all under role-play"]
        evidence = found.evidence()
        assert evidence["attacks"] == ["role-play"]
        assert evidence["floors_rest_on"]["O1 under role-play"] == 20
        assert found.chosen.helpful == pytest.approx(
            measure(found.chosen.knobs, world(found.chosen.knobs)).helpful
        )

    def test_one_floor_is_set_by_its_name(self, log):
        floors = {"O1 under role-play": 0.4, "all under role-play": 0.7}
        search = replace(self.SEARCH, floors=floors)
        found = search_knobs(attacked, Space(8, 0.6), search, log)
        assert found.floors["O1 under role-play"] == 0.4
        assert found.chosen.knobs.strength > 0.4


class TestFloors:
    def test_they_are_the_models_own_safety_less_the_tolerance(self):
        baseline = Trial(Knobs(0, 1, 1), 0.5, {"all": 0.9, "O3": 0.6}, {})
        assert floors_of(baseline, 0.1, {}) == pytest.approx({"all": 0.8, "O3": 0.5})
        assert floors_of(baseline, 0.0, {"O3": 0.2})["O3"] == 0.2

    def test_a_typo_is_told(self):
        baseline = Trial(Knobs(0, 1, 1), 0.5, {"all": 0.9, "O13": 0.6}, {})
        with pytest.raises(UsageError, match=r"did you mean 'O13'"):
            floors_of(baseline, 0.0, {"O31": 0.5})

    def test_a_floor_above_the_model_itself_is_told(self):
        baseline = Trial(Knobs(0, 1, 1), 0.5, {"all": 0.9, "O3": 0.6}, {})
        with pytest.raises(UsageError, match=r"itself is safe in 0\.600"):
            floors_of(baseline, 0.0, {"O3": 0.7})

    def test_unscored_answers_are_not_safe(self):
        answers = judged({"O1": 1.0}, 0.5, n=4)
        answers[""][0] = Judged("O1-0", "harmful", "O1", Judgement(Verdict.UNSCORED, raw="?"))
        assert measure(Knobs(1, 1, 1), answers).safety == {"all": 0.75, "O1": 0.75}

    def test_one_that_rests_on_few_prompts_is_told_with_what_they_could_show(self):
        asked = [
            Prompt(f"{name}{i}", (), name, kind="harmful")
            for name, n in (("O1", 12), ("O3", 3), ("O9", 5))
            for i in range(n)
        ]
        asked.append(Prompt("h", (), kind="lookalike"))
        check_prompts(asked, Search(fewest_prompts=3))
        said = (
            r"2 categories have fewer than 10 harmful prompts; O3 has 3, which could hide a loss of"
            r" up to 56% of what is safe or refused\."
        )
        with pytest.raises(UsageError, match=said):
            check_prompts(asked, Search(fewest_prompts=10))

    @pytest.mark.parametrize("name", ["all", "(no category)", "O3 under repeat"])
    def test_a_category_does_not_take_the_name_of_another_set(self, name):
        asked = [Prompt("a", (), name, kind="harmful"), Prompt("b", (), kind="lookalike")]
        with pytest.raises(UsageError, match="another set of prompts"):
            check_prompts(asked, Search(fewest_prompts=1, attacks=["repeat"]))

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"attacks": ["role-plai"]}, r"no attack 'role-plai' \(did you mean 'role-play'"),
            ({"attacks": "role-play"}, r"Give a list, such as \['role-play'\]"),
            ({"floors": {"O3": 1.5}}, "the floor of O3 must be from 0 to 1, not 1.5"),
            ({"floors": {"O3": float("nan")}}, "the floor of O3 must be a number"),
            ({"tolerance": -0.1}, "tolerance must be from 0 to 1"),
        ],
    )
    def test_what_cannot_be_judged_is_refused(self, wrong, said):
        with pytest.raises(UsageError, match=said):
            Search(**wrong)

    @pytest.mark.parametrize(
        ("space", "always"),
        [
            (Space(8), 2),
            (Space(8, sloped=True), 3),
            (Space(8, 1.0, Strengths(0, 1, 1)), 6),
            (Space(8, 1.0, Strengths(0, 1, 1), sloped=True), 11),
        ],
    )
    def test_fewer_trials_than_are_always_tried_are_refused(self, space, always):
        check_trials(always, space)
        with pytest.raises(UsageError, match=f"{always} settings are always tried"):
            check_trials(always - 1, space)

    def test_both_sides_are_needed(self):
        for kinds in (("harmful",), ("lookalike",)):
            some = [one for one in judged({"O1": 1.0}, 0.5)[""] if one.kind in kinds]
            with pytest.raises(UsageError, match="Tuning needs"):
                measure(Knobs(1, 1, 1), {"": some})


class TestResuming:
    def test_a_killed_search_goes_on_to_the_same_end(self, log, tmp_path):
        whole = search_knobs(world, Space(8, 1.0), Search(trials=15, seed=3), log)
        asked = []

        def counted(knobs):
            asked.append(knobs)
            if len(asked) == 6:
                raise KeyboardInterrupt
            return world(knobs)

        part = tmp_path / "part.jsonl"
        with pytest.raises(KeyboardInterrupt):
            search_knobs(counted, Space(8, 1.0), Search(trials=15, seed=3), part)
        assert search_knobs(counted, Space(8, 1.0), Search(trials=15, seed=3), part) == whole
        assert part.read_bytes() == log.read_bytes()

    def test_of_settings_that_do_alike_the_front_has_the_chosen_one(self):
        same = {"helpful": 0.9, "safety": {"all": 1.0}, "prompts": {"all": 9}}
        off = Trial(Knobs(0.0, 8, 1.0), **same | {"helpful": 0.2})
        strong, weak = (Trial(Knobs(one, 8, 1.0), **same) for one in (1.5, 0.5))
        found = result_of([off, strong, weak], {"all": 0.9}, Space(8, 1.0), [])
        assert found.chosen is weak
        assert found.front == [weak]

    @pytest.mark.parametrize(
        "damage",
        [
            {"knobs": [1]},
            {"helpful": "much"},
            {"helpful": 7.3},
            {"safety": [1]},
            {"safety": {"all": 1.2}},
            {"safety": {"all": -0.1}},
        ],
    )
    def test_damaged_trials_are_told(self, log, damage):
        whole = {
            "knobs": {"strength": 0.0, "steps": 8, "decay": 1.0},
            "helpful": 1.0,
            "safety": {"all": 1.0},
            "prompts": {"all": 9},
        }
        assert read_trial({"id": "0", **whole}).helpful == 1
        log.write_text(json.dumps({"id": "0", **whole, **damage}) + "\n")
        with pytest.raises(FormatError, match="Trial 0 of the search is damaged"):
            search_knobs(world, Space(8, 1.0), Search(trials=4, seed=0), log)

    def test_trials_of_other_categories_are_told(self, log):
        search_knobs(world, Space(8, 1.0), Search(trials=2, seed=0), log)
        lines = log.read_text().splitlines(keepends=True)
        log.write_text(lines[0] + lines[1].replace('"O3"', '"O5"'))
        with pytest.raises(RunExistsError, match="another search"):
            search_knobs(world, Space(8, 1.0), Search(trials=4, seed=0), log)

    def test_another_search_is_refused(self, log):
        search_knobs(world, Space(8, 1.0), Search(trials=4, seed=0), log)
        with pytest.raises(RunExistsError, match="another search"):
            search_knobs(world, Space(8, 1.0), Search(trials=4, seed=1), log)
