"""The suites.

A category is matched to a SALAD task only if what it covers lies within the sub-categories of that
one task (SALAD-Bench's third level, such as "Hate Speech" and "Insult" of O1); where it spreads
over several, or has none, it stays unmatched, with the reason. Lookalikes are matched by the task
that they sound like.
"""

from tsdi.categories import SALAD_TASKS
from tsdi.suites.suite import Columns, Origin, Suite

_HARMFUL = {"": "harmful"}
_LOOKALIKE = {"": "lookalike"}
_HARMLESS = {"": "harmless"}

_CRIMES = "also weapons, cyber attacks or fraud (O10, O12, O14)"
_VIOLENCE = "violent content or violent crimes (O1, O14)"
_FALSEHOODS = "false beliefs, fake news or campaigns (O5, O8, O12, O13)"
_ANY = "any harm"
_WORDING = "grouped by wording, not by topic"
_ALLOWED = "harmless requests"

_GITHUB = "https://raw.githubusercontent.com"
_ALPACA_EVAL = Origin(
    "tatsu-lab/alpaca_eval",
    "2edc6fad8be6b14ea7230aabfd08188da6b8b814",
    # by its file: the repository also holds a loading script, which `datasets` refuses
    url="hf://datasets/tatsu-lab/alpaca_eval@2edc6fad8be6b14ea7230aabfd08188da6b8b814"
    "/alpaca_eval.json",
)
_ALPACA_EVAL_PARTS = ("helpful_base", "koala", "oasst", "selfinstruct", "vicuna")
_JAILBREAKBENCH_TASKS = {
    "Malware/Hacking": "O10",
    "Fraud/Deception": "O12",
    "Sexual/Adult content": "O3",
    "Privacy": "O9",
}
_JAILBREAKBENCH_UNMATCHED = {
    "Harassment/Discrimination": "harassment or stereotypes (O1, O2)",
    "Physical harm": "weapons, violence or self-harm (O1, O10, O15)",
    "Economic harm": "gambling, scams or financial crimes (O6, O12, O14)",
    "Disinformation": _FALSEHOODS,
    "Expert advice": "advice on law and medicine, or on anything else",
    "Government decision-making": "none of the tasks",
}


def _raw(repository: str, revision: str, file: str) -> Origin:
    """A file on GitHub at a commit."""
    url = f"{_GITHUB}/{repository}/{revision}/{file}"
    return Origin(f"github.com/{repository}", revision, url=url)


def _jailbreakbench(split: str) -> Origin:
    return Origin(
        "JailbreakBench/JBB-Behaviors",
        "886acc352a31533ffbcf4ef22c744658688086fc",
        split=split,
        config="behaviors",
    )


def _sacpo(file: str) -> Origin:
    return _raw("line/sacpo", "b489ae5bb2113d66579a319e2def8e15166bc06a", f"asset/{file}")


_ALL = (
    Suite(
        name="salad-bench",
        title="SALAD-Bench, base set",
        kinds=_HARMFUL,
        columns=Columns("question", category="2-category", id="qid"),
        licence="Apache-2.0",
        project="https://github.com/OpenSafetyLab/SALAD-BENCH",
        origin=Origin(
            "OpenSafetyLab/Salad-Data",
            "70a1ddce6be3f0239b2fe7c70d0d96cb3be1fcad",
            config="base_set",
        ),
        tasks={f"{code}: {name}": code for code, name in SALAD_TASKS.items()},
    ),
    Suite(
        name="beavertails-eval",
        title="BeaverTails-Evaluation",
        kinds=_HARMFUL,
        columns=Columns("prompt", category="category"),
        licence="CC-BY-NC-4.0",
        project="https://github.com/PKU-Alignment/beavertails",
        origin=_raw(
            "PKU-Alignment/align-anything",
            "3f9decc221be74b2052e712e3a32e155686ec6ec",
            "projects/eval-anything/eval_anything/benchmarks/safedata/BeaverTails-Evaluation.json",
        ),
        tasks={
            "child_abuse": "O1",
            "discrimination,stereotype,injustice": "O2",
            "financial_crime,property_crime,theft": "O14",
            "hate_speech,offensive_language": "O1",
            "privacy_violation": "O9",
            "self_harm": "O15",
            "sexually_explicit,adult_content": "O3",
        },
        unmatched={
            "animal_abuse": "none of the tasks",
            "controversial_topics,politics": "none of the tasks",
            "drug_abuse,weapons,banned_substance": "drugs or weapons (O4, O10, O14)",
            "misinformation_regarding_ethics,laws_and_safety": "law, safety or beliefs (O4, O5)",
            "non_violent_unethical_behavior": _ANY,
            "terrorism,organized_crime": "terrorism or crimes (O1, O10, O14)",
            "violence,aiding_and_abetting,incitement": _VIOLENCE,
        },
    ),
    Suite(
        name="pku-saferlhf",
        title="PKU-SafeRLHF, prompts of the test split",
        kinds=_HARMFUL,
        columns=Columns("prompt"),
        licence="CC-BY-NC-4.0",
        project="https://github.com/PKU-Alignment/safe-rlhf",
        origin=Origin(
            "PKU-Alignment/PKU-SafeRLHF",
            "9421ffafec3fa40a1f1a7d567b4d525079477ecb",
            split="test",
        ),
        distinct=True,
        note="The data judge answers, not prompts: most ask for harm, but not all do.",
    ),
    Suite(
        name="xstest",
        title="XSTest v2",
        kinds={"safe": "lookalike", "unsafe": "harmful"},
        columns=Columns("prompt", category="type", id="id", kind="label"),
        licence="CC-BY-4.0",
        project="https://github.com/paul-rottger/xstest",
        origin=Origin("Paul/XSTest", "f600c994b256f12867dfa5b3eb3d545a3e62f8b5"),
        tasks={
            "nons_group_real_discr": "O2",
            "real_group_nons_discr": "O2",
            "contrast_discr": "O2",
            "privacy_public": "O9",
            "privacy_fictional": "O9",
            "contrast_privacy": "O9",
        },
        unmatched={
            "homonyms": _WORDING,
            "contrast_homonyms": _WORDING,
            "figurative_language": _WORDING,
            "contrast_figurative_language": _WORDING,
            "safe_targets": _WORDING,
            "contrast_safe_targets": _WORDING,
            "safe_contexts": _WORDING,
            "contrast_safe_contexts": _WORDING,
            "definitions": _WORDING,
            "contrast_definitions": _WORDING,
            "historical_events": _VIOLENCE,
            "contrast_historical_events": _VIOLENCE,
        },
    ),
    Suite(
        name="or-bench",
        title="OR-Bench-Hard-1K",
        kinds=_LOOKALIKE,
        columns=Columns("prompt", category="category"),
        licence="CC-BY-4.0",
        project="https://github.com/justincui03/or-bench",
        origin=Origin(
            "bench-llm/or-bench",
            "e36d8b80e81837c8a8f264bbb2a49f1b32c7e272",
            config="or-bench-hard-1k",
        ),
        tasks={
            "harassment": "O1",
            "hate": "O1",
            "privacy": "O9",
            "self-harm": "O15",
            "sexual": "O3",
        },
        unmatched={
            "deception": "fraud or manipulation (O12, O15)",
            "harmful": _ANY,
            "illegal": _CRIMES,
            "unethical": _ANY,
            "violence": _VIOLENCE,
        },
    ),
    Suite(
        name="oktest",
        title="OKTest (OverKill)",
        kinds=_LOOKALIKE,
        columns=Columns("prompt"),
        licence="not stated",
        project="https://github.com/InvokerStark/OverKill",
        origin=_raw(
            "InvokerStark/OverKill", "9551a7ff7b2cb18d178e64fb5cc95e4684311b3b", "data/OKTest.csv"
        ),
    ),
    Suite(
        name="jailbreakbench",
        title="JailbreakBench, harmful behaviours",
        kinds=_HARMFUL,
        columns=Columns("Goal", category="Category"),
        licence="MIT",
        project="https://github.com/JailbreakBench/jailbreakbench",
        origin=_jailbreakbench("harmful"),
        tasks=_JAILBREAKBENCH_TASKS,
        unmatched=_JAILBREAKBENCH_UNMATCHED,
    ),
    Suite(
        name="jailbreakbench-benign",
        title="JailbreakBench, benign behaviours",
        kinds=_LOOKALIKE,
        columns=Columns("Goal", category="Category"),
        licence="MIT",
        project="https://github.com/JailbreakBench/jailbreakbench",
        origin=_jailbreakbench("benign"),
        tasks=_JAILBREAKBENCH_TASKS,
        unmatched=_JAILBREAKBENCH_UNMATCHED,
        note="On the topics of the harmful behaviours; the two files have the same columns.",
    ),
    Suite(
        name="harmbench",
        title="HarmBench, standard behaviours",
        kinds=_HARMFUL,
        columns=Columns("Behavior", category="SemanticCategory", id="BehaviorID"),
        licence="MIT",
        project="https://github.com/centerforaisafety/HarmBench",
        origin=_raw(
            "centerforaisafety/HarmBench",
            "8e1604d1171fe8a48d8febecd22f600e462bdcdd",
            "data/behavior_datasets/harmbench_behaviors_text_all.csv",
        ),
        where=("FunctionalCategory", "standard"),
        tasks={"cybercrime_intrusion": "O10", "harassment_bullying": "O1"},
        unmatched={
            "chemical_biological": "weapons or drugs (O10, O14)",
            "harmful": _ANY,
            "illegal": _CRIMES,
            "misinformation_disinformation": _FALSEHOODS,
        },
        note="Contextual and copyright behaviours are left out: the first need a text beside them,"
        " the second a classifier of their own.",
    ),
    Suite(
        name="strongreject",
        title="StrongREJECT",
        kinds=_HARMFUL,
        columns=Columns("forbidden_prompt", category="category"),
        licence="MIT",
        project="https://github.com/alexandrasouly/strongreject",
        origin=_raw(
            "alexandrasouly/strongreject",
            "3432b2d696b428f242bd507df96d80f686571d5e",
            "strongreject_dataset/strongreject_dataset.csv",
        ),
        tasks={"Sexual content": "O3"},
        unmatched={
            "Disinformation and deception": _FALSEHOODS,
            "Hate, harassment and discrimination": "toxicity or stereotypes (O1, O2)",
            "Illegal goods and services": _CRIMES,
            "Non-violent crimes": _CRIMES,
            "Violence": _VIOLENCE,
        },
        note="MIT holds for the prompts of its own; those of other sets keep their licences.",
    ),
    Suite(
        name="do-not-answer",
        title="Do-Not-Answer",
        kinds=_HARMFUL,
        columns=Columns("question", category="types_of_harm", id="id"),
        licence="Apache-2.0",
        project="https://github.com/Libr-AI/do-not-answer",
        origin=Origin("LibrAI/do-not-answer", "74e74f2e4507ef256fe536f78a776f4a1ff67955"),
        tasks={
            "Adult Content": "O3",
            "Causing material harm by disseminating misinformation e.g. in medicine or law": "O4",
            "Compromise privacy by leaking or inferring private information (person/individual)": (
                "O9"
            ),
            "Risks from leaking or inferring sensitive information (organization/gov)": "O8",
            "Social stereotypes and unfair discrimination": "O2",
            "Toxic language (hate speech)": "O1",
        },
        unmatched={
            "Assisting illegal activities": _CRIMES,
            "Disseminating false or misleading information": _FALSEHOODS,
            "Mental Health or Overreliance Crisis": "none of the tasks",
            "Nudging or advising users to perform unethical or unsafe actions": _ANY,
            "Reducing the cost of disinformation campaigns": _FALSEHOODS,
            "Treat Chatbot as a Human": "none of the tasks",
        },
        note="The hub's card says Apache-2.0, copies elsewhere say CC-BY-NC-SA-4.0 of the data:"
        " take it as non-commercial. Where a person is in need, refusing alone is not yet good.",
    ),
    Suite(
        name="alpaca-eval",
        title="AlpacaEval",
        kinds=_HARMLESS,
        columns=Columns("instruction", category="dataset"),
        licence="CC-BY-NC-4.0",
        project="https://github.com/tatsu-lab/alpaca_eval",
        origin=_ALPACA_EVAL,
        unmatched=dict.fromkeys(_ALPACA_EVAL_PARTS, _ALLOWED),
    ),
    Suite(
        name="alpaca-eval-helpful-base",
        title="AlpacaEval, helpful_base",
        kinds=_HARMLESS,
        columns=Columns("instruction", category="dataset"),
        licence="CC-BY-NC-4.0",
        project="https://github.com/tatsu-lab/alpaca_eval",
        origin=_ALPACA_EVAL,
        unmatched={"helpful_base": _ALLOWED},
        where=("dataset", "helpful_base"),
    ),
    Suite(
        name="sacpo-helpful",
        title="SACPO, helpfulness problems",
        kinds=_HARMLESS,
        columns=Columns("prompt", category="category"),
        licence="CC-BY-NC-4.0",
        project="https://github.com/line/sacpo",
        origin=_sacpo("helpful_problem.json"),
        unmatched={"alpaca_eval_helpful_base": _ALLOWED},
        note="The prompts of AlpacaEval's helpful_base, whose licence they keep.",
    ),
    Suite(
        name="sacpo-safety",
        title="SACPO, safety problems",
        kinds=_HARMFUL,
        columns=Columns("prompt", category="category"),
        licence="Apache-2.0",
        project="https://github.com/line/sacpo",
        origin=_sacpo("safety_problem.json"),
        tasks={"Insult": "O1", "Pornographic": "O3", "Privacy": "O9", "Social Bias": "O2"},
        unmatched={
            "Crime": _CRIMES,
            "Emotional Harm": "insults, defamation or threats (O1, O11, O15)",
            "Immoral": _ANY,
            "Physical Harm": _VIOLENCE,
        },
        note="The evaluation problems of Safe RLHF.",
    ),
)

SUITES = {suite.name: suite for suite in _ALL}
"""Every suite by its name."""
