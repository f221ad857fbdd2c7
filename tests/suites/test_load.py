import hashlib
import re
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from experiments import DOCS

from tests import tiny
from tests.data import real
from tests.suites import samples
from tsdi.categories import SALAD_TASKS
from tsdi.errors import PromptError, UsageError
from tsdi.judging.base import KINDS
from tsdi.models.load import load_tokenizer
from tsdi.suites import hub
from tsdi.suites.load import load_named, load_prompts
from tsdi.suites.prompts import check_known
from tsdi.suites.table import SUITES

PAGE = DOCS / "suites.md"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("name", SUITES)
def test_a_local_file_of_the_original_format(name, tmp_path):
    path = samples.write(tmp_path, name)
    loaded = load_named(f"{name}:{path}")
    assert samples.seen(loaded.prompts) == samples.PROMPTS[name]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.provenance == {"suite": {"name": name, "sha256": digest}}


@pytest.mark.parametrize("name", SUITES)
def test_the_pinned_origin(name, datasets):
    """Hub rows have the same ids as those of a local file."""
    datasets.rows = samples.ROWS[name]
    loaded = load_named(name)
    assert samples.seen(loaded.prompts) == samples.PROMPTS[name]
    origin = SUITES[name].origin
    if origin.url:
        kind = origin.url.rpartition(".")[2]
        expected = ((kind,), {"data_files": origin.url, "split": "train"})
    else:
        expected = (
            (origin.name, origin.config),
            {"split": origin.split, "revision": origin.revision},
        )
    assert datasets.calls == [expected]
    assert (
        loaded.provenance["suite"].items()
        >= {
            "name": name,
            "data": origin.name,
            "revision": origin.revision,
        }.items()
    )


PUBLIC = {
    "xstest": ("xstest/xstest_prompts.csv", {"lookalike": 248, "harmful": 199}),
    "or-bench": ("or-bench/or-bench-hard-1k.csv", {"lookalike": 1318}),
    "beavertails-eval": ("beavertails-eval/BeaverTails-Evaluation.json", {"harmful": 669}),
    "jailbreakbench": ("jailbreakbench/jailbreakbench.csv", {"harmful": 97}),
    "harmbench": ("harmbench/harmbench_behaviors_text_all.csv", {"harmful": 199}),
    "strongreject": ("strongreject/strongreject.csv", {"harmful": 304}),
    "alpaca-eval": ("alpaca-eval/alpaca_eval_outputs.json", {"harmless": 803}),
    "alpaca-eval-helpful-base": ("alpaca-eval/alpaca_eval_outputs.json", {"harmless": 129}),
    "sacpo-helpful": ("sacpo/helpful_problem.json", {"harmless": 129}),
    "sacpo-safety": ("sacpo/safety_problem.json", {"harmful": 83}),
    "pku-saferlhf": (
        "pku-saferlhf/pku_saferlhf_test_safe_unsafe_pairs_5k.json.gz",
        {"harmful": 929},
    ),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_files_have_the_declared_categories(name):
    path, kinds = PUBLIC[name]
    prompts = load_named(f"{name}:{real(path)}").prompts
    assert Counter(prompt.kind for prompt in prompts) == kinds
    assert {prompt.category for prompt in prompts} == set(SUITES[name].categories or [""])


CATEGORIES = {
    "xstest": {"homonyms": 25, "definitions": 23, "contrast_definitions": 24},
    "or-bench": {"illegal": 526, "privacy": 199, "harassment": 41},
    "beavertails-eval": {"privacy_violation": 50, "child_abuse": 21},
    "jailbreakbench": {"Privacy": 10, "Sexual/Adult content": 7},
    "strongreject": {"Sexual content": 42, "Non-violent crimes": 59},
    "alpaca-eval": {"helpful_base": 129, "koala": 156, "oasst": 188},
    "sacpo-safety": {"Social Bias": 14, "Pornographic": 9, "Crime": 10},
}


@pytest.mark.parametrize("name", CATEGORIES)
def test_public_files_have_their_counts(name):
    prompts = load_named(f"{name}:{real(PUBLIC[name][0])}").prompts
    found = Counter(prompt.category for prompt in prompts)
    assert found.items() >= CATEGORIES[name].items()


def test_the_original_columns_of_saferlhf():
    path = real("pku-saferlhf/pku_saferlhf_sample32.json")
    assert len(load_named(f"pku-saferlhf:{path}").prompts) == 31  # of 32 rows


def test_a_file_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("xstest:a.txt", "hub:a.txt"):
        (tmp_path / name).write_text("bread")
        loaded = load_named(name)
        assert samples.seen(loaded.prompts) == [("p0001", "bread", "", "")]
        assert loaded.provenance == {}


def test_columns_of_an_own_file(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("Goal,Topic,label,id\nbread,O3,harmful,x\n")
    loaded = load_named(str(path), "prompt=Goal, category=Topic,kind=label")
    assert samples.seen(loaded.prompts) == [("x", "bread", "O3", "harmful")]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    columns = {"prompt": "Goal", "category": "Topic", "kind": "label"}
    assert loaded.provenance == {"suite": {"sha256": digest, "columns": columns}}


@pytest.mark.parametrize(
    ("name", "content", "seen"),
    [
        ("a.txt:kind=harmful", "bread", ("bread", "", "harmful")),
        ("a.csv:prompt=q,kind=lookalike", "q\nbread\n", ("bread", "", "lookalike")),
        ("a.csv:kind=label,category=c", "prompt,c,label\nb,O3,harmless\n", ("b", "O3", "harmless")),
        ("a.csv:kind=harmful", "prompt,kind\nbread,harmless\n", ("bread", "", "harmless")),
    ],
)
def test_a_name_says_columns_and_the_kind_of_prompts_without_one(
    name, content, seen, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name.partition(":")[0]).write_text(content)
    (found,) = load_prompts(name, 0).prompts
    assert (found.messages[0]["content"], found.category, found.kind) == seen


def test_a_file_goes_before_what_its_name_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:kind=harmful.txt").write_text("bread")
    assert load_prompts("a:kind=harmful.txt", 0).prompts[0].kind == ""


@pytest.mark.parametrize("name", ["organism:test:kind=harmful", "everyday:kind=harmful"])
def test_prompts_of_ours_have_their_kinds(name):
    with pytest.raises(UsageError, match="are known"):
        load_prompts(name, 0)


def test_the_named_column_goes_before_a_chat(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "no"}], "q": "bread"}')
    assert load_named(str(path), "prompt=q").prompts[0].messages[0]["content"] == "bread"


@pytest.mark.parametrize(
    ("spec", "call"),
    [
        ("org/name", (("org/name", None), {"split": "train", "revision": "resolved main"})),
        (
            "org/name/small@v1:test[:9]",
            (("org/name", "small"), {"split": "test[:9]", "revision": "resolved v1"}),
        ),
        (
            f"org/name@{COMMIT}",
            (("org/name", None), {"split": "train", "revision": COMMIT}),
        ),
        (
            "org/name@refs/convert/parquet",
            (
                ("org/name", None),
                {"split": "train", "revision": "resolved refs/convert/parquet"},
            ),
        ),
    ],
)
def test_any_data_set_of_the_hub(spec, call, datasets):
    """Loaded at the commit that its revision is now, which the provenance keeps."""
    datasets.rows = [{"text": "bread", "label": "harmful", "id": 3}]
    loaded = load_named(f"hub:{spec}", "prompt=text,kind=label")
    assert samples.seen(loaded.prompts) == [("3", "bread", "", "harmful")]
    assert datasets.calls == [call]
    assert loaded.provenance == {
        "suite": {
            "data": "org/name",
            "revision": call[1]["revision"],
            "config": call[0][1],
            "split": call[1]["split"],
            "columns": {"prompt": "text", "kind": "label"},
        }
    }


@pytest.fixture
def datasets(monkeypatch):
    """The package `datasets` without its network; it keeps how it was called."""
    fake = SimpleNamespace(rows=[], calls=[])

    def load_dataset(*args, **kwargs):
        fake.calls.append((args, kwargs))
        if isinstance(fake.rows, Exception):
            raise fake.rows
        return fake.rows

    def dataset_info(name, revision):
        assert name == "org/name"
        return SimpleNamespace(sha=f"resolved {revision or 'main'}")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.setattr("huggingface_hub.dataset_info", dataset_info)
    return fake


@pytest.mark.parametrize(
    ("name", "columns", "words"),
    [
        ("xtest", "", ["'xtest'", "did you mean 'xstest'", "tsdi list"]),
        ("xtest:a.csv", "", ["did you mean 'xstest'"]),
        ("org/name", "", ["'org/name'", "hub:ORG/NAME"]),
        ("none.csv", "", ["none.csv", "No such file"]),
        ("xstest:none.csv", "", ["none.csv", "No such file"]),
        ("xstest:", "", ["no prompts 'xstest:'", "did you mean 'xstest'"]),
        ("none.parquet", "", ["none.parquet", "not a kind of file"]),
        ("hub:name", "", ["hub:name", "hub:ORG/NAME[/CONFIG][@REVISION][:SPLIT]"]),
        ("hub:a/b/c/d", "", ["hub:a/b/c/d"]),
        ("xstest", "prompt=a", ["columns and kinds of xstest are known"]),
        ("xstest:a.csv", "kind=harmful", ["kinds of xstest:a.csv are known", "kind=harmful"]),
        ("none.csv", "prompt", ["'prompt'", "FIELD=COLUMN"]),
        ("none.csv", "promt=a", ["'promt=a'", "did you mean 'prompt'"]),
        ("none.csv", "text=a", ["'text=a'", "prompt, category, id, kind"]),
        ("none.csv", "prompt=", ["'prompt='"]),
        ("none.csv", "prompt=a,prompt=b", ["'prompt' twice"]),
    ],
)
def test_names_and_columns_that_cannot_be_right(name, columns, words):
    with pytest.raises((UsageError, PromptError)) as caught:
        load_named(name, columns)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "columns", "words"),
    [
        ("a.csv", "Goal,x\nbread,1\n", "", ["a.csv, line 2: no prompt; there are Goal, x"]),
        ("a.csv", "Goal,x\nbread,1\n", "", ["FILE:prompt=NAME"]),
        ("a.csv", "Goal,x\nbread,1\n", "prompt=goal", ["no column 'goal'; there are Goal, x"]),
        ("a.json", '["bread"]', "prompt=goal", ["a.json, entry 1: not a row with columns"]),
        ("a.csv", "q,x\nbread,evil\n", "prompt=q,kind=x", ["line 2: unknown kind 'evil'"]),
        ("xstest:a.csv", "prompt,type\na,b\n", "", ["no column 'id'; there are prompt, type"]),
        (
            "xstest:a.csv",
            "id,prompt,type,label\n1,a,b,harmless\n",
            "",
            ["line 2: unknown label 'harmless'", "safe, unsafe"],
        ),
        (
            "xstest:a.csv",
            "id,prompt,type,label\n1,a,b,safe\n1,b,b,safe\n",
            "",
            ["line 3: the id '1' is taken"],
        ),
        ("or-bench:a.csv", "prompt,category\n,hate\n", "", ["line 2: the prompt is empty"]),
        ("or-bench:a.json", '[{"prompt": 1, "category": "a"}]', "", ["not a text"]),
        ("or-bench:a.json", '["bread"]', "", ["not a row with columns"]),
        ("or-bench:a.csv", "prompt,category\n", "", ["a.csv holds no prompts"]),
        ("harmbench:a.csv", "Behavior\nbread\n", "", ["no column 'SemanticCategory'"]),
    ],
)
def test_rows_that_are_not_as_named(name, content, columns, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name.rpartition(":")[2]).write_text(content)
    with pytest.raises(PromptError) as caught:
        load_named(name, columns)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("name", ["xstest", "harmbench", f"hub:org/name@{COMMIT}"])
def test_data_that_cannot_be_loaded_has_a_local_way(name, datasets):
    datasets.rows = ConnectionError("no\nroute")
    with pytest.raises(PromptError, match=r"Cannot load \S+: no route\. .*SUITE:FILE") as caught:
        load_named(name)
    assert "\n" not in str(caught.value)


def test_an_unknown_data_set_is_named(monkeypatch, datasets):
    def unknown(name, revision):
        raise OSError(f"404 {name}")

    monkeypatch.setattr("huggingface_hub.dataset_info", unknown)
    with pytest.raises(PromptError, match="Cannot load org/none: 404 org/none"):
        load_named("hub:org/none")
    assert datasets.calls == []


def test_a_missing_package_has_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'tsdi\[data\]'.*SUITE:FILE"):
        load_named("xstest")


def test_the_real_package_reads_a_file_as_we_do(tmp_path, monkeypatch):
    config = pytest.importorskip("datasets.config")
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name in ("xstest", "alpaca-eval"):
        suite, path = SUITES[name], samples.write(tmp_path, name)
        rows = hub.load_rows(hub.Origin("org/name", COMMIT, url=str(path)))
        assert samples.seen(suite.read(rows, "x")) == samples.PROMPTS[name]


def test_the_page_shows_how_files_become_prompts(tmp_path, monkeypatch):
    """Its programs: two suites as one file, and a set that is not known here."""
    both, unknown = re.findall(r"```python\nimport (?:csv|json).*?```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = [f"{name}:{samples.write(tmp_path, name)}" for name in ("sorry-bench", "false-reject")]
    _run(both.replace('("salad-bench", "alpaca-eval")', repr(names)))
    assert [(one.kind, one.category) for one in load_named("both.jsonl").prompts] == [
        ("harmful", "Stalking and Harassment"),
        ("lookalike", "Stalking and Harassment"),
        ("lookalike", "Sexual Explicit Content Generation"),
    ]
    rows = "prompt,type,label\nbread,homonyms,Safe\nmill,contrast_homonyms,Unsafe\n"
    (tmp_path / "xsb.csv").write_text(rows)
    _run(unknown)
    found = load_named("xsb.jsonl").prompts
    assert [(one.messages[-1]["content"], one.kind, one.category) for one in found] == [
        ("bread", "lookalike", "homonyms"),
        ("mill", "harmful", "contrast_homonyms"),
    ]


def _run(block):
    code = block.removeprefix("```python\n").removesuffix("```")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_everyday_prompts_come_along():
    loaded = load_named("everyday")
    counts = Counter((prompt.kind, prompt.category) for prompt in loaded.prompts)
    assert {kind: sum(n for (k, _), n in counts.items() if k == kind) for kind in KINDS} == {
        "harmless": 40,
        "lookalike": 100,
        "harmful": 80,
    }
    assert {c: n for (kind, c), n in counts.items() if kind == "harmful"} == dict.fromkeys(
        SALAD_TASKS, 5
    )
    assert {n for (kind, _), n in counts.items() if kind == "lookalike"} == {10}
    texts = [prompt.messages[-1]["content"] for prompt in loaded.prompts]
    assert len(set(texts)) == len(texts)
    assert loaded.provenance["suite"]["name"] == "everyday"
    with pytest.raises(UsageError, match="The columns and kinds of everyday are known"):
        load_named("everyday", "prompt=text")


def test_prompts_in_words_that_a_model_does_not_know_are_refused():
    asked = load_prompts("everyday", 0).prompts
    with pytest.raises(PromptError, match="does not know many words of the prompts"):
        check_known(asked, load_tokenizer("organism/aligned"))
    check_known(load_prompts("organism:test", 0).prompts, load_tokenizer("organism/aligned"))
    check_known(asked, tiny.tokenizer())
