"""Every table, picture and figure of the docs is of the committed results."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from experiments import DOCS, HERE, ROOT, again, outputs, pages, prose_tables
from experiments.marks import with_parts
from experiments.smollm2 import draw, keep, labelled, read_dpo

from tsdi.runs.records import read_records
from tsdi.study.entries import AnsweredCell
from tsdi.study.outcomes import CODES
from tsdi.study.results import read_results

SCREENSHOTS = {"inspect.png", "playground.png"}  # taken of programs that run


@pytest.fixture(scope="module")
def made():
    return pages.pages()


def test_pages_with_generated_parts_are_those_of_the_committed_results(made):
    stale = [page for page, text in made.items() if page.read_text(encoding="utf-8") != text]
    assert stale == []


def test_every_page_of_tables_is_generated(made):
    assert set(HERE.glob("*/tables.md")) <= made.keys()
    assert made[HERE / "judges/README.md"].count(": begin -->") == 4


def test_no_picture_is_older_than_the_results_that_it_shows():
    """The manifest is written with the pictures: after new results they have to be drawn again."""
    assert json.loads(pages.MANIFEST.read_bytes()) == pages.manifest()


def test_every_picture_is_drawn_from_committed_results():
    pictures = [*DOCS.glob("*.png"), *DOCS.glob("*.svg"), *HERE.glob("*/*.png")]
    found = {one.relative_to(ROOT).as_posix() for one in pictures if one.name not in SCREENSHOTS}
    assert found == pages.manifest().keys()


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("complied, harmless", "compliance"),
        ("complied, lookalike", "lookalike_compliance"),
        ("correct, both", "correct"),
        ("safe, harmful", "safety"),
    ],
)
def test_the_comparison_that_is_shown_is_that_of_the_committed_result(title, key):
    arms = json.loads((ROOT / "benchmarks/results/demo.json").read_text())["raw"]["arms"]
    page = (ROOT / "docs/measure.md").read_text(encoding="utf-8")
    shown = re.search(rf"│ {title} +│ +([\d.]+) │ +([\d.]+) │", page).groups()
    shares = [arms[arm][key]["value"] for arm in ("aligned", "debiased")]
    assert [float(share) for share in shown] == [round(share, 2) for share in shares]


STUDIES_OF = {  # a page, and the studies whose tables its figures are from
    "docs/reproduction.md": (
        "organism",
        "ablations",
        "cleansing",
        "real-text",
        "smollm2",
        "smollm2-iterations",
        "smollm2-ablations",
        "smollm2-dpo",
        "smollm2-helpful-first",
    ),
    "experiments/organism-dose/README.md": ("organism-dose",),
    "experiments/organism/README.md": ("organism",),
    "experiments/organism-condition/README.md": ("organism-condition",),
    "experiments/real-text/README.md": ("real-text",),
    "experiments/cleansing/README.md": ("cleansing",),
    "experiments/smollm2/README.md": (
        "smollm2",
        "smollm2-attacks",
        "smollm2-attacked-labels",
        "smollm2-suites",
    ),
}
OTHER_FIGURES = {  # pages without a study; their figures are tested below, or are settings
    "experiments/judges/README.md": {".50", ".90"},
    "experiments/no-reference/README.md": set(),
}


def _prose(page):
    """A page in one line, without its generated parts."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return " ".join(
        re.sub(r"<!-- (.+?): begin -->.*?<!-- \1: end -->", "", text, flags=re.S).split()
    )


def _tables(names):
    return "".join((HERE / name / "tables.md").read_text(encoding="utf-8") for name in names)


def _cells(name):
    return prose_tables.cells_of(_tables([name]))


@pytest.mark.parametrize(
    ("page", "fewest"),
    [
        ("docs/reproduction.md", 10),
        ("experiments/organism-dose/README.md", 5),
        ("experiments/organism-condition/README.md", 15),
        ("experiments/smollm2/README.md", 20),
    ],
)
def test_figures_with_intervals_in_the_text_are_in_the_generated_tables(page, fewest):
    """Tables come from the committed results, and prose from the tables."""
    figures = re.findall(r"[+-]?\d\.\d{2,3} \[[^\]]+\]", _prose(page))
    assert len(figures) > fewest
    made = _tables(STUDIES_OF[page])
    assert [figure for figure in figures if figure not in made] == []


def _bare(page):
    """The figures of two decimals or more that have no interval and are in none."""
    return re.findall(
        r"(?<![\w.])[+-]?\d?\.\d{2,3}(?![\d.]|,\d| \[)",
        re.sub(r"(?<= )\[[^\]]*\d\]", "[]", _prose(page)),
    )


@pytest.mark.parametrize("page", STUDIES_OF)
def test_figures_without_intervals_are_of_the_generated_tables_too(page):
    """As a rounding; without a sign it is the size that counts."""
    known = {float(one) for one in re.findall(r"[+-]?\d*\.\d+", _tables(STUDIES_OF[page]))}
    sizes = {abs(one) for one in known}

    def there(figure):
        within = 0.5 * 10.0 ** -len(figure.partition(".")[2]) + 1e-9
        among = known if figure[0] in "+-" else sizes
        return any(abs(one - float(figure)) <= within for one in among)

    assert [figure for figure in _bare(page) if not there(figure)] == []


def test_every_page_of_experiments_is_looked_at():
    pages_there = {one.relative_to(ROOT).as_posix() for one in HERE.glob("*/README.md")}
    assert pages_there <= STUDIES_OF.keys() | OTHER_FIGURES.keys()
    assert {page: set(_bare(page)) for page in OTHER_FIGURES} == OTHER_FIGURES


GRID, MAIN = prose_tables.GRID, "Methods at the main grid point"
BACK, STAYS = "What debiasing gives back", "Most helpful answers where safety stays"
ALONE = "Every point of the grid alone: safety times helpful answers"
THREE, ONE = "Fronts of 3 points: safety and helpful", "Fronts of 1 point: safety and helpful"
LOG_ODDS = "Refusal log-odds by kind of prompt"
MAIN_MODEL, AHEAD = "beta0.05-step200", "tuned TSDI minus it"
SAID = [  # what stands around a figure, "#", and the study, table, row and column of the figure
    ("prompts rise from #", "real-text", GRID, "beta0.025-step100", "refused, harmful, plain"),
    ("iterations to # after 300", "real-text", GRID, "beta0.025-step300",
     "refused, harmful, plain"),
    ("while helpful answers fall from #", "real-text", GRID, "beta0.025-step100", "helpful, plain"),
    ("fall from .441 to #", "real-text", GRID, "beta0.025-step300", "helpful, plain"),
    (".2 refuses # after 300", "real-text", GRID, "beta0.2-step300", "refused, harmful, plain"),
    ("and helps with #", "real-text", GRID, "beta0.2-step300", "helpful, plain"),
    ("in bfloat16, refuses #", "smollm2-iterations", GRID, "step10", "refused, harmful, plain"),
    ("its helpful answers fall from #", "smollm2-iterations", GRID, "step10", "helpful, plain"),
    ("times helpful answers, #", "smollm2-iterations", ONE.replace("safety", "refusals"), "plain",
     "TSDI minus it"),
    ("80 steps strength 1 refuses #", "smollm2-iterations", GRID, "step40",
     "refused, harmful, TSDI"),
    ("is damaged: #", "organism", "The main model, seed by seed", "7", "corrupted, plain"),
    ("corrupted, and #", "organism", "The main model, seed by seed", "7", "corrupted, TSDI"),
    ("damaged one falls to #", "organism", "The main model, seed by seed", "7", "safety, TSDI"),
    ("** with lookalikes, #", "organism", BACK, MAIN_MODEL,
     "complied, lookalike: debiased minus aligned"),
    ("and right answers, #. **It costs", "organism", BACK, MAIN_MODEL,
     "helpful: debiased minus aligned"),
    ("of it in O3, #", "organism", BACK, MAIN_MODEL,
     "safe, O3 Adult Content: debiased minus aligned"),
    ("change of safety of #", "organism", STAYS, "tsdi-tuned", "safety, change"),
    ("gives less (TSDI minus it: #)", "organism", STAYS, "static", "helpful: tsdi-tuned minus it"),
    ("tuned TSDI there, #", "organism", ALONE, "merge", AHEAD),
    ("and DeRa, #", "organism", ALONE, "dera", AHEAD),
    ("no difference is shown, #, and its", "organism", ALONE, "openers", AHEAD),
    ("a little behind, #", "organism", ALONE, "static", AHEAD),
    ("ahead of plain by #", "organism", ONE, "plain", AHEAD),
    ("a constant by #", "organism", ONE, "reference-openers", AHEAD),
    ("with lookalikes rises by #", "real-text", BACK, "beta0.05-step300",
     "complied, lookalike: debiased minus aligned"),
    ("refusals of harmful prompts fall by #", "real-text", MAIN, "tsdi",
     "refused, harmful, change"),
    ("of the plain grid, #", "real-text", THREE.replace("safety", "refusals"), "plain", AHEAD),
    ("the aligned model, #", "real-text", THREE.replace("safety", "refusals"),
     "openers", AHEAD),
    ("to merged weights, #", "real-text", THREE.replace("safety", "refusals"), "merge", AHEAD),
    ("ahead of no debiasing, #", "real-text",
     ALONE.replace("safety", "refusals"), "plain", AHEAD),
    ("ahead by #", "organism-dose", BACK, f"annotators0.5-{MAIN_MODEL}",
     "safe, O3 Adult Content: debiased minus aligned"),
    ("lookalikes #. With .3", "organism-dose", BACK, f"annotators0-{MAIN_MODEL}",
     "complied, lookalike: debiased minus aligned"),
    ("gives back #, with", "organism-dose", BACK, f"annotators0.3-{MAIN_MODEL}",
     "complied, lookalike: debiased minus aligned"),
    ("on the dose**: #", "organism-dose", LOG_ODDS, f"annotators0-{MAIN_MODEL}", "shift, harmful"),
    ("biased annotators, #", "organism-dose", LOG_ODDS, f"annotators0.5-{MAIN_MODEL}",
     "shift, harmful"),
]  # fmt: skip


@pytest.mark.parametrize(("phrase", "study", "table", "row", "column"), SAID)
def test_figures_of_a_rule_or_model_are_from_its_row(phrase, study, table, row, column):
    page = f"experiments/{study}/README.md" if study == "organism-dose" else "docs/reproduction.md"
    figure = r"([+-]?\d?\.\d+(?: \[[^\]]+\])?)"
    found = re.findall(re.escape(phrase).replace(r"\#", figure), _prose(page))
    cell = _cells(study)[table][row][column]
    assert len(found) == 1
    if "[" in found[0]:
        assert found[0] == cell
    else:
        digits = len(found[0].partition(".")[2])
        size = abs(float(cell.partition(" ")[0]))
        assert abs(float(found[0])) == pytest.approx(size, abs=0.5 * 10.0**-digits + 1e-9)


def test_ranges_over_models_and_seeds_are_those_of_the_tables():
    prose = _prose("docs/reproduction.md")
    seeds = _cells("organism")["The main model, seed by seed"].values()
    lost = sorted(float(one["safety, plain"]) - float(one["safety, TSDI"]) for one in seeds)
    assert f"seven seeds lose at most {lost[-2]:.2f}".replace("0.", ".") in prose
    lookalikes = [
        float(row["complied, lookalike"][:5])
        for row in _cells("ablations")["Ablation: prompts"].values()
    ]
    shown = f"lookalikes {min(lookalikes):.2f} to {max(lookalikes):.2f} from 16".replace("0.", ".")
    assert shown in prose
    assert "by {:.1f} to {:.1f} logits in the organisms".format(*_shifts("organism")) in prose
    shown = "by {:.2f} to {:.2f} on real text".format(*_shifts("real-text"))
    assert shown.replace("0.", ".") in prose
    shifts = [
        *(_shifts("smollm2-dpo", f"beta.*step{steps}") for steps in (20, 40)),
        *(_shifts("smollm2-helpful-first", f"step{steps}") for steps in (20, 40)),
        _shifts("smollm2-dpo", "sft-term-step40"),
    ]
    for shown, ends in zip(
        (
            "{:.2f} to {:.2f} logits after 20 steps",
            "and {:.2f} to {:.2f} after 40, then in each",
            "after helpful DPO first, {:.2f} to {:.2f}",
            "and {:.2f} to {:.2f}. **With an SFT",
            "of both signs: {:.2f} to {:.2f} after 40 steps",
        ),
        shifts,
        strict=True,
    ):
        assert re.sub(r"(?<!\d)0\.", ".", shown.format(*ends)) in prose


def test_the_shift_of_smollm2_after_dpo_is_ordered_in_every_seed_as_the_page_says():
    rows = _cells("smollm2-dpo")["Refusing openers"]

    def shifts(model):
        return rows[f"{model}-step40"]["refusing minus complying openers, step 0"].split(", ")

    for seed in zip(*map(shifts, ("sft-term", "beta0.1")), strict=True):
        assert float(seed[0]) < float(seed[1])
    for seed in zip(*(shifts(f"beta{beta}") for beta in (0.2, 0.1, 0.05, 0.025)), strict=True):
        assert sorted(seed, key=float) == [*seed]


def test_results_of_another_study_are_not_kept(monkeypatch):
    before = (HERE / "smollm2/results.json").read_bytes()
    monkeypatch.setattr("sys.argv", ["keep", str(HERE / "smollm2-labels/results.json")])
    with pytest.raises(SystemExit) as left:
        keep.main()
    assert left.value.code == 2
    assert (HERE / "smollm2/results.json").read_bytes() == before


def test_labels_after_dpo_are_of_answers_of_the_committed_verdicts():
    labels = list(read_records(read_dpo.FILE))
    assert len(labels) == len(read_dpo.TITLES) * 2 * read_dpo.EACH
    letters = {}
    for study in ("smollm2-dpo", "smollm2-helpful-first"):
        results = read_results(HERE / study / "results.json")
        for cell in results.cells:
            if isinstance(cell, AnsweredCell):
                seed, model = cell.model.split("/")
                for prompt, letter in zip(results.prompts["test"], cell.outcomes, strict=True):
                    letters["/".join((study, model, cell.name, seed, prompt.id))] = letter
    assert {one["id"]: one["judge"] for one in labels} == {
        one["id"]: letters[one["id"]] == "R" for one in labels
    }


def test_labels_after_dpo_are_of_the_same_prompts_for_every_model():
    labels = list(read_records(read_dpo.FILE))
    asked = {
        frozenset(one["id"].removeprefix(name) for one in labels if one["id"].startswith(name))
        for name in read_dpo.TITLES
    }
    assert len(asked) == 1
    one, kind = next(iter(read_dpo.ALIGNED)), (read_dpo.KINDS[:1], ("refused", "partial"))
    found = read_dpo.outcomes(labels, f"{one}/plain", kind)
    assert np.sum(~np.isnan(found)) == read_dpo.EACH
    by_hand = [
        one["label"] in kind[1]
        for one in labels
        if one["kind"] == "harmful" and one["id"].startswith("smollm2-dpo/beta0.2-step40/plain/")
    ]
    assert np.nansum(found) == sum(by_hand)


def test_compact_figures_of_the_claims_are_in_the_page_s_own_tables():
    text = (ROOT / "docs/reproduction.md").read_text(encoding="utf-8")
    made = "".join(
        part
        for _, part in re.findall(r"<!-- (.+?): begin -->(.*?)<!-- \1: end -->", text, flags=re.S)
    )
    figures = re.findall(r"(?<![\d.])[+-]?\.\d\d \[[^\]]+\]", _prose("docs/reproduction.md"))
    assert len(figures) > 4
    assert [figure for figure in figures if figure not in made] == []


def _shifts(study, model=""):
    """Least and largest shift of models' refusing openers at the first position."""
    rows = _cells(study)["Refusing openers"].items()
    column = "refusing minus complying openers, step 0"
    some = (row[column].split(", ") for name, row in rows if re.match(model, name))
    found = [float(one) for shifts in some for one in shifts]
    return min(found), max(found)


def test_labels_are_of_the_study_s_answers_and_hold_no_texts():
    keys = {"id", "rule", "kind", "answer_sha256", "weight", "verdict", "label"}
    keys |= {"others"}
    more = ("", "again_", "long_", "second_")
    keys |= {begin + key for begin in more for key in ("label", "harm")}
    letters = {verdict.value.lower(): code for verdict, code in CODES.items()}
    found = [one for rule in labelled.RULES for one in labelled.answers_of(rule) if one.label]
    assert len(found) == len(read_records(labelled.FILE)) == 450
    for one in found:
        label = one.label
        assert label.keys() <= keys
        assert (label["kind"], letters[label["verdict"]]) == (one.kind, one.letter)
        assert label["second_label"]
        for begin in more:
            said, harm = label.get(begin + "label"), label.get(begin + "harm")
            open_ = one.kind == "harmful" and said in ("partial", "complied", "degenerate")
            assert harm in (labelled.HARMS if open_ else (None,)), label["id"]
    assert tuple(draw.HARM) == labelled.HARMS  # each has a label of `tsdi label`


def test_labels_move_the_rates_of_answers_that_words_judge_alike():
    """By hand: two words, each with its share of all answers and its mean label."""
    some = {"weight": 2.0, "label": "complied"}
    labels = {0: {**some, "harm": "usable"}, 1: {**some, "harm": "empty"}}
    labels |= {place: {**some, "label": "refused"} for place in (2, 7)}
    answers = [
        labelled.Answer("harmful", str(place), "CCCCRRRR"[place], labels.get(place))
        for place in range(8)
    ]
    for name, share, words in (
        ("refused, harmful", (1 / 3 + 1) / 2, 0.5),
        ("goes along, harmful", 2 / 3 / 2, 0.5),
        ("usable harm, harmful", 1 / 3 / 2, 0.5),
    ):
        found = labelled.estimates(labelled.SHARES[name], answers)
        assert [one.value for one in found] == pytest.approx([words, share]), name
    others = [one._replace(letter="R") for one in answers]
    words, with_labels = labelled.estimates(labelled.SHARES["refused, harmful"], answers, others)
    assert (words.value, with_labels.value) == (0.5, 0.0)


def test_what_the_page_on_judges_says_of_recall_is_of_the_audit():
    audit = json.loads((ROOT / "benchmarks/results/audit.json").read_bytes())["raw"]
    models = audit["judges"]["refusal-phrases"]["models"].values()
    recalls = [model["lookalike"]["recall"] for model in models]
    shown = f"between {min(recalls):.2f} and {max(recalls):.2f}".replace("0.", ".")
    assert shown in _prose("experiments/judges/README.md")


ILLUSTRATIONS = {  # a line of each block that no script makes; the page says so
    "docs/engines.md": "Once it is up, debiased and plain:",
    "docs/monitor.md": "Refusal has become context-independent:",
    "docs/study.md": "Fronts of safety and helpfulness, and cost",
    "docs/training.md": "Training runs",
    "docs/tuning.md": "…\nFloors broken under organism-role-play",
}
RUN_BY_TESTS = {"docs/cleansing.md", "docs/judges.md"}  # by test_docs, on the file that they show


def test_every_output_that_a_page_shows_was_printed_by_the_lines_above_it():
    kept = json.loads(outputs.FILE.read_bytes())
    assert kept.keys() == outputs.OUTPUTS.keys()
    shown = {"".join(page.read_text(encoding="utf-8").replace("\\\n", " ").split())
             for page in DOCS.glob("*.md")}  # fmt: skip
    for name, output in outputs.OUTPUTS.items():
        page = (DOCS / output.page).read_text(encoding="utf-8")
        assert kept[name]["lines"] == outputs.lines_of(name, page), "python -m experiments.outputs"
        for line in output.first:
            assert any("".join(line.split()) in text for text in shown), line


def test_every_output_of_the_docs_is_recorded():
    for page in DOCS.glob("*.md"):
        name, text = page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")
        if name == "docs/tutorial.md":  # which test_tutorial runs
            continue
        by_hand = re.sub(
            r"<!-- output (.+?): begin -->.*?<!-- output \1: end -->", "", text, flags=re.S
        )
        blocks = re.findall(r"^```text\n(.*?)^```(\n\nHere `)?", by_hand, re.M | re.S)
        for block, example in blocks:
            if not (example and name in RUN_BY_TESTS):
                assert block.startswith(ILLUSTRATIONS[name]), name
                assert "illustration" in text, name


def test_an_output_is_cut_by_an_ellipsis_or_in_a_table_by_a_row_of_it():
    lines = ["saved", "│ a    │ 1 │", "│ b    │ 2 │", "│ c    │ 3 │", "└──────┴───┘", "end"]
    assert outputs.cut(lines, [("b", "c")])[1:4] == [lines[1], "│ …    │   │", lines[3]]
    assert outputs.cut(lines, [("^", "└"), ("end", outputs.END)]) == ["…", lines[4], "…"]
    with pytest.raises(ValueError, match="no line of an output matches 'nowhere'"):
        outputs.cut(lines, [("a", "nowhere")])


def test_a_page_without_the_marks_of_its_part_is_refused():
    with pytest.raises(ValueError, match="lacks the marks of 'table'"):
        with_parts("<!-- table: begin -->", {"table": ""})


def test_models_trained_anew_give_nearly_all_verdicts_again():
    for files in again.PAIRS.values():
        models, cells, alike, answers, alike_answers = again.counts(*map(read_results, files))
        assert models > 1
        assert cells - alike <= 1
        assert answers - alike_answers <= 1


def test_a_verdict_that_differs_is_counted():
    first = read_results(next(iter(again.PAIRS.values()))[0])
    changed = [one for one in first.cells if isinstance(one, AnsweredCell)]
    letters = changed[0].outcomes
    changed[0] = replace(changed[0], outcomes=("U" if letters[0] == "R" else "R") + letters[1:])
    models, cells, alike, answers, alike_answers = again.counts(
        first, replace(first, cells=tuple(changed))
    )
    assert (cells - alike, answers - alike_answers) == (1, 1)
    assert (models, cells) == (len({one.model for one in changed}), len(changed))


def test_the_order_of_the_prompts_is_no_difference():
    first = read_results(HERE / "smollm2-iterations" / "again.json")
    cells = tuple(
        replace(one, outcomes=one.outcomes[::-1]) if isinstance(one, AnsweredCell) else one
        for one in first.cells
    )
    turned = {**first.prompts, "test": first.prompts["test"][::-1]}
    _, *counted = again.counts(first, replace(first, cells=cells, prompts=turned))
    assert counted[:2] == [counted[0]] * 2
    assert counted[2:] == [counted[2]] * 2


def test_studies_of_other_test_prompts_are_not_compared():
    first = read_results(next(iter(again.PAIRS.values()))[0])
    fewer = replace(first, prompts={**first.prompts, "test": first.prompts["test"][1:]})
    with pytest.raises(ValueError, match="different test prompts"):
        again.counts(first, fewer)
