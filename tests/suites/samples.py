"""Two or three rows of each suite's original format, with what comes of them."""

import csv
import io
import json

from tsdi.suites.table import SUITES

HARMFUL, LOOKALIKE, HARMLESS = "harmful", "lookalike", "harmless"

ROWS = {
    "salad-bench": [
        {
            "qid": 7,
            "question": "bread",
            "source": "GPTFuzzer",
            "1-category": "O1: Representation & Toxicity",
            "2-category": "O3: Adult Content",
            "3-category": "O16: Pornography",
        }
    ],
    "beavertails-eval": [
        {"prompt": "bread", "category": "privacy_violation", "category_id": "9"},
        {"prompt": "bread", "category": "a new one", "category_id": "99"},
    ],
    "pku-saferlhf": [
        {"prompt": "bread", "response_0": "a", "response_1": "b", "is_response_0_safe": True},
        {"prompt": "bread ", "response_0": "c", "response_1": "d", "is_response_0_safe": False},
        {"prompt": "mill", "response_0": "e", "response_1": "f", "is_response_0_safe": True},
    ],
    "xstest": [
        {
            "id": "1",
            "prompt": "bread",
            "type": "homonyms",
            "label": "safe",
            "focus": "",
            "note": "",
        },
        {
            "id": "26",
            "prompt": "mill",
            "type": "contrast_privacy",
            "label": "unsafe",
            "focus": "",
            "note": "",
        },
    ],
    "or-bench": [{"prompt": "bread", "category": "hate"}],
    "oktest": [{"prompt": "bread\n"}, {"prompt": "mill\n"}],
    "jailbreakbench": [
        {"": "0", "Goal": "bread", "Target": "Sure", "Behavior": "Bread", "Category": "Privacy"}
    ],
    "jailbreakbench-benign": [
        {"Index": "0", "Goal": "mill", "Target": "Sure", "Behavior": "Mill", "Category": "Privacy"}
    ],
    "harmbench": [
        {
            "Behavior": "bread",
            "FunctionalCategory": "copyright",
            "SemanticCategory": "copyright",
            "Tags": "book, hash_check",
            "ContextString": "",
            "BehaviorID": "bread_text",
        },
        {
            "Behavior": "mill",
            "FunctionalCategory": "standard",
            "SemanticCategory": "illegal",
            "Tags": "",
            "ContextString": "",
            "BehaviorID": "mill_text",
        },
    ],
    "strongreject": [{"category": "Violence", "source": "custom", "forbidden_prompt": "bread"}],
    "do-not-answer": [
        {
            "id": 0,
            "risk_area": "Information Hazards",
            "types_of_harm": "Adult Content",
            "specific_harms": "any",
            "question": "bread",
        }
    ],
    "alpaca-eval": [
        {"instruction": "bread", "output": "a", "generator": "b", "dataset": "koala"},
        {"instruction": "mill", "output": "a", "generator": "b", "dataset": "helpful_base"},
    ],
    "sacpo-helpful": [{"prompt": "bread", "category": "alpaca_eval_helpful_base"}],
    "sacpo-safety": [{"prompt": "bread", "category": "Insult"}],
    "ailuminate-demo": [
        {
            "release_prompt_id": "airr_practice_1_0_7",
            "prompt_text": "bread",
            "hazard": "hte",
            "persona": "normal",
            "locale": "en_US",
            "prompt_hash": "7f",
        },
        {
            "release_prompt_id": "airr_practice_1_0_8",
            "prompt_text": "mill",
            "hazard": "spc_fin",
            "persona": "skilled",
            "locale": "en_US",
            "prompt_hash": "8f",
        },
    ],
    "air-bench-2024": [
        {
            "cate-idx": "1.1.1",
            "l2-name": "Security Risks",
            "l3-name": "Confidentiality",
            "l4-name": "Network intrusion",
            "prompt": "bread",
        },
        {
            "cate-idx": "1.1.1",
            "l2-name": "Security Risks",
            "l3-name": "Confidentiality",
            "l4-name": "Network intrusion",
            "prompt": "mill",
        },
    ],
    "fortress": [
        {
            "ID": 1,
            "adversarial_prompt": "bread",
            "benign_prompt": "mill",
            "rubric": ["Does it name flour?"],
            "risk_domain": "Political Violence & Terrorism",
            "risk_subdomain": "Terrorism: and more",
        }
    ],
}
ROWS |= {
    "sorry-bench": [
        {"question_id": 71, "category": "8", "turns": ["bread"], "prompt_style": "base"},
        {"question_id": 71, "category": "8", "turns": ["oerad"], "prompt_style": "caesar"},
    ],
    "false-reject": [
        {"prompt": "bread", "category": 8, "category_text": "Stalking and Harassment"},
        {
            "prompt": "mill",
            "category": 26,
            "category_text": "(Sexual) Explicit Content Generation",
        },
    ],
    "phtest": [
        {"ID": 1, "Request": "bread", "Harmfulness": "harmless"},
        {"ID": 2, "Request": "mill", "Harmfulness": "controversial"},
    ],
}
ROWS["ailuminate-demo-fr"] = ROWS["ailuminate-demo"]
ROWS["alpaca-eval-helpful-base"] = ROWS["alpaca-eval"]
ROWS["fortress-benign"] = ROWS["fortress"]

PROMPTS = {
    "salad-bench": [("7", "bread", "O3: Adult Content", HARMFUL)],
    "beavertails-eval": [
        ("beavertails-eval-0001", "bread", "privacy_violation", HARMFUL),
        ("beavertails-eval-0002", "bread", "a new one", HARMFUL),
    ],
    "pku-saferlhf": [
        ("pku-saferlhf-0001", "bread", "", HARMFUL),
        ("pku-saferlhf-0003", "mill", "", HARMFUL),
    ],
    "xstest": [
        ("1", "bread", "homonyms", LOOKALIKE),
        ("26", "mill", "contrast_privacy", HARMFUL),
    ],
    "or-bench": [("or-bench-0001", "bread", "hate", LOOKALIKE)],
    "oktest": [("oktest-0001", "bread", "", LOOKALIKE), ("oktest-0002", "mill", "", LOOKALIKE)],
    "jailbreakbench": [("jailbreakbench-0001", "bread", "Privacy", HARMFUL)],
    "jailbreakbench-benign": [("jailbreakbench-benign-0001", "mill", "Privacy", LOOKALIKE)],
    "harmbench": [("mill_text", "mill", "illegal", HARMFUL)],
    "strongreject": [("strongreject-0001", "bread", "Violence", HARMFUL)],
    "do-not-answer": [("0", "bread", "Adult Content", HARMFUL)],
    "alpaca-eval": [
        ("alpaca-eval-0001", "bread", "koala", HARMLESS),
        ("alpaca-eval-0002", "mill", "helpful_base", HARMLESS),
    ],
    "alpaca-eval-helpful-base": [
        ("alpaca-eval-helpful-base-0002", "mill", "helpful_base", HARMLESS)
    ],
    "sacpo-helpful": [("sacpo-helpful-0001", "bread", "alpaca_eval_helpful_base", HARMLESS)],
    "sacpo-safety": [("sacpo-safety-0001", "bread", "Insult", HARMFUL)],
    "ailuminate-demo": [
        ("airr_practice_1_0_7", "bread", "hte", HARMFUL),
        ("airr_practice_1_0_8", "mill", "spc_fin", HARMFUL),
    ],
    "air-bench-2024": [
        ("air-bench-2024-0001", "bread", "Security Risks", HARMFUL),
        ("air-bench-2024-0002", "mill", "Security Risks", HARMFUL),
    ],
    "sorry-bench": [("71", "bread", "Stalking and Harassment", HARMFUL)],
    "false-reject": [
        ("false-reject-0001", "bread", "Stalking and Harassment", LOOKALIKE),
        ("false-reject-0002", "mill", "Sexual Explicit Content Generation", LOOKALIKE),
    ],
    "phtest": [("1", "bread", "", LOOKALIKE)],
    "fortress": [("1", "bread", "Political Violence & Terrorism", HARMFUL)],
    "fortress-benign": [("1", "mill", "Political Violence & Terrorism", LOOKALIKE)],
}

PROMPTS["ailuminate-demo-fr"] = PROMPTS["ailuminate-demo"]

CSV = {"xstest", "or-bench", "oktest", "harmbench", "strongreject"}
CSV |= {
    "ailuminate-demo",
    "ailuminate-demo-fr",
    "phtest",
    "jailbreakbench",
    "jailbreakbench-benign",
    "do-not-answer",
}


def write(folder, name):
    """A file of a suite's original format with its sample rows."""
    rows = ROWS[name]
    path = folder / f"{name}.{'csv' if name in CSV else 'json'}"
    text = io.StringIO(newline="")
    if name in CSV:
        table = csv.DictWriter(text, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    else:
        json.dump(rows, text)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path


def seen(prompts):
    """Prompts as `PROMPTS` shows them."""
    return [(p.id, p.messages[0]["content"], p.category, p.kind) for p in prompts]


assert ROWS.keys() == PROMPTS.keys() == SUITES.keys()
