"""README and docs can fail: commands, options, code, names and links (tables: test_experiments)."""

import ast
import hashlib
import inspect
import os
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from experiments import method_picture
from typer.testing import CliRunner

import tsdi
from tsdi.cli.main import COMMANDS, app, load
from tsdi.judging.registry import JUDGES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    page
    for pattern in ("*.md", "docs/**/*.md", "{}/*.md", "{}/*/*.md", "{}/*/*/*.md")
    for place in ("benchmarks", "experiments", "recipes", ".github", "src/tsdi")
    for page in ROOT.glob(pattern.format(place))
]
PAGES = sorted({p for p in PAGES if p.name not in ("CHANGELOG.md", "cli.md")})
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
FOREIGN = {  # options that the text names, of vLLM, lm_eval and Inspect
    *("--generation-config", "--logprobs-mode", "--logits-processors"),
    *(
        "--model",
        "--model_args",
        "--apply_chat_template",
        "--batch_size",
        "--max-tokens",
        "--epochs",
    ),
}
LINES = [
    (name, line.strip())
    for name, text in TEXTS.items()
    for line in re.findall(r"^ {4}.*$", text.replace("\\\n", " "), re.MULTILINE)
]
COMMAND = re.compile(r"(?:.* -m )?tsdi ([a-z-]+)(?: .*)?")
SHOWN = sorted({(*line, True) for line in LINES if COMMAND.fullmatch(line[1])})
INLINE = [
    (name, " ".join(code.split()))
    for name, text in TEXTS.items()
    for code in re.findall(r"`([^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S))
]
SHOWN += sorted({(*code, False) for code in INLINE if COMMAND.fullmatch(code[1])})


def options(command):
    """The options of a command by their spellings."""
    found = {}
    for parameter in load(command).params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            found[name] = parameter
    return found


@pytest.mark.parametrize(("page", "line", "whole"), SHOWN)
def test_commands_are_understood_by_the_command_line(page, line, whole):
    """Whole lines have all that is required; code within a sentence may leave it out."""
    words = shlex.split(line[line.index("tsdi ") :], comments=True)
    name, *rest = words[1:-1] if words[-1] == "..." else words[1:]
    assert name in COMMANDS, f"{page}: {line}"
    command = load(name)
    if not whole and rest and rest[-1] in options(name) and not options(name)[rest[-1]].is_flag:
        rest.append("1")  # an option that is only named
    parser = command.make_parser(command.context_class(command))
    values, more, _ = parser.parse_args(rest)  # raises for what does not exist
    assert not more or name == "serve", f"{page}: {line}"
    if whole:
        missing = [p.name for p in command.params if p.required and not values.get(p.name)]
        assert not missing, f"{page}: {line}"


def test_options_that_the_text_names_exist():
    known = FOREIGN.union(*map(options, COMMANDS))
    known |= set(re.findall(r'"(--[a-z-]+)"', "".join(map(_source, _modules()))))
    named = {(page, option) for page, code in INLINE for option in re.findall(r"^--[\w-]+", code)}
    assert len(named) > 10
    assert sorted((page, option) for page, option in named if option not in known) == []


def _modules():
    shown = {line for _, line in (*LINES, *INLINE)}
    return sorted({m for line in shown for m in re.findall(r"python -m ((?:\w+\.)+\w+)", line)})


def _source(module):
    spec = find_spec(module) if not module.startswith("vllm.") else None
    return Path(spec.origin).read_text(encoding="utf-8") if spec else ""


@pytest.mark.parametrize("module", [name for name in _modules() if not name.startswith("vllm.")])
def test_modules_that_are_shown_exist_and_have_their_options(module):
    source = _source(module)
    assert source
    for _, line in LINES:
        if f"python -m {module} " in line and module != "tsdi.harness.lm_eval_cli":
            named = re.findall(r"--[a-z][a-z0-9-]*", line.partition("#")[0])
            assert [option for option in named if f'"{option}"' not in source] == [], line


def test_files_of_ours_that_the_text_names_exist():
    ours = r"(?:src|tests|docs|benchmarks|experiments|recipes|studies)/[\w./-]+\.\w+"
    found = {(page, code) for page, code in INLINE if re.fullmatch(ours, code)}
    found |= {
        (page, word)
        for page, line in LINES
        for word in re.findall(r"(?:recipes|studies|experiments)/[\w./-]+\.yaml", line)
    }
    help_page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    found |= {
        ("--help", name) for name in re.findall(r"(?:recipes|experiments)/[\w./-]+", help_page)
    }
    assert len(found) > 10
    assert sorted((page, name) for page, name in found if not (ROOT / name).exists()) == []


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        m for text in TEXTS.values() for m in re.findall(r"(?:^    |`)make ([\w-]+)", text, re.M)
    }
    assert {"demo", "test"} <= named
    assert [target for target in sorted(named) if f"\n{target}:" not in makefile] == []


def test_extras_exist():
    defined = re.search(
        r"optional-dependencies\](.*?)\n\[", (ROOT / "pyproject.toml").read_text(), re.S
    )[1]
    named = {e for text in TEXTS.values() for e in re.findall(r"(?:tsdi|\.)\[([a-z-]+)\]", text)}
    assert "serving" in named
    assert [extra for extra in sorted(named) if f"\n{extra} = [" not in defined] == []


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", TEXTS[page]):
        target = (ROOT / page).parent / link if link else ROOT / page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target.read_text(encoding="utf-8")), f"{link}#{anchor}"


def _anchors(text):
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


GENERATED = re.compile(r"<!-- \w+: begin -->.*?<!-- \w+: end -->", re.S)


@pytest.mark.parametrize("page", ["docs/reference/format.md", "docs/tutorial.md"])
def test_that_an_estimate_is_centred_is_said_where_its_mean_difference_is(page):
    assert re.search("less its mean over (the|all) tokens", " ".join(TEXTS[page].split()))


@pytest.mark.parametrize("page", [page for page in TEXTS if not page.endswith("tables.md")])
def test_lines_are_no_longer_than_120_characters(page):
    """Tables, pictures and data in blocks of code may be."""
    text = re.sub(
        r"^```(?:json|text)\n.*?^```", "", GENERATED.sub("", TEXTS[page]), flags=re.M | re.S
    )
    lines = [line for line in text.splitlines() if not line.startswith(("|", "!["))]
    assert [line for line in lines if len(line) > 120] == []


class TestReadme:
    def test_it_is_short(self):
        assert len(README.split()) <= 900

    def test_its_python_runs_and_says_what_is_shown(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        assert blocks
        for code in blocks:
            exec(compile(code, "README.md", "exec"), {})
            shown = re.findall(r"^# (.*)$", code, re.MULTILINE)
            assert shown
            assert capsys.readouterr().out.splitlines() == shown


@pytest.mark.parametrize("page", TEXTS)
def test_python_in_the_docs_is_python(page):
    for code in re.findall(r"```python\n(.*?)```", TEXTS[page], re.DOTALL):
        compile(code, page, "exec")


def _calls():
    for page, text in TEXTS.items():
        for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("tsdi."):
                    yield page, ast.unparse(node)


@pytest.mark.parametrize(("page", "call"), sorted(set(_calls())))
def test_functions_take_what_they_are_given(page, call):
    node = ast.parse(call, mode="eval").body
    function = eval(ast.unparse(node.func), {"tsdi": tsdi})
    named = {argument.arg: None for argument in node.keywords}
    inspect.signature(function).bind(*node.args, **named)  # raises where they do not fit


def _names():
    """Names of ours in code: `tsdi.a.b`, `tsdi.a.b:C`, and what Python's imports name."""
    for page, text in TEXTS.items():
        for code in re.findall(r"`(tsdi(?:\.\w+)+(?::\w+)?)", text):
            yield page, code.replace(":", ".")
        for module, names in re.findall(r"^ *from (tsdi[\w.]*) import (.*)$", text, re.M):
            for name in names.partition("#")[0].split(","):
                yield page, f"{module}.{name.strip()}"


@pytest.mark.parametrize(("page", "name"), sorted(set(_names())))
def test_names_of_ours_exist(page, name):
    place, parts = ROOT / "src", name.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if parts and (place / f"{parts[0]}.py").exists():
        place /= f"{parts.pop(0)}.py"
    else:
        place /= "__init__.py"
    assert place.exists(), f"{page}: {name}"
    assert not parts or re.search(rf"\b{parts[0]}\b", place.read_text(encoding="utf-8")), name


def test_every_page_is_in_the_index():
    index = TEXTS["docs/index.md"]
    pages = [page.removeprefix("docs/") for page in TEXTS if page.startswith("docs/")]
    pages = [
        page for page in (*pages, "reference/cli.md") if "/" not in page or "reference" in page
    ]
    assert [page for page in pages if page != "index.md" and f"({page})" not in index] == []


def test_the_picture_of_the_method_is_drawn_from_the_committed_figures():
    data = method_picture.DATA.read_bytes()
    shown = method_picture.PICTURE.read_text(encoding="utf-8")
    assert hashlib.sha256(data).hexdigest() in shown, "python -m experiments.pages --pictures"
    assert shown == method_picture.picture(data)


def test_ci_can_be_run():
    for script in ("run", "wheel"):
        assert os.access(ROOT / ".ci" / script, os.X_OK)


EXAMPLE = re.compile(
    r"^ {4}(tsdi [^\n]+)\n\n```text\n([^`]*)```\n\n"
    r"Here `([\w.]+)` is\n\n```\w+\n([^`]*)```",
    re.M,
)
EXAMPLES = [(page, *found) for page, text in TEXTS.items() for found in EXAMPLE.findall(text)]


@pytest.mark.parametrize(("page", "line", "shown", "name", "content"), EXAMPLES)
def test_what_an_example_shows_is_what_its_file_gives(
    page, line, shown, name, content, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content, encoding="utf-8")
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert [one.rstrip() for one in result.output.splitlines()] == shown.splitlines(), page


def test_there_are_such_examples():
    assert {page for page, *_ in EXAMPLES} >= {"docs/cleansing.md", "docs/judges.md"}


def test_every_judge_is_in_the_list_of_judges():
    """The list is the first table of the page."""
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", TEXTS["docs/judges.md"], re.M)
    sees = {name: what for names, what in rows[::-1] for name in re.findall(r"`([^`]+)`", names)}
    listed = {name: sees.get(name, "").replace("as its labels say", "either") for name in JUDGES}
    assert listed == {name: known.sees for name, known in JUDGES.items()}


REFERENCES = re.findall(r"^\| (.*) \|$", TEXTS["docs/references.md"], re.M)[
    1:
]  # the first names columns


@pytest.mark.parametrize("row", REFERENCES)
def test_a_published_pair_has_all_its_cells(row):
    aligned, reference, *facts = cells = [cell.strip() for cell in row.split(" | ")]
    assert len(cells) == 8
    assert all(re.search(r"\w", cell) for cell in cells)
    for model in (aligned, reference):
        assert re.fullmatch(r"`[\w-]+/[\w.-]+(@[\w.-]+)?`", model)
    assert aligned != reference
    assert facts[1] in {"safety", "safety and helpfulness", "general"}
    assert re.match(r"\d+(\.\d+)?[BM]\b", facts[2])
    for commit in re.findall(r"`([^`]*)`", facts[-1]):
        assert re.fullmatch(r"[0-9a-f]{7}|[0-9a-f]{40}", commit)


def test_published_pairs_are_listed_once_and_the_example_is_one():
    pairs = [tuple(row.replace("`", "").split(" | ")[:2]) for row in REFERENCES]
    assert len(pairs) > 10
    assert len(set(pairs)) == len(pairs)
    shown = [line.split()[2:4] for page, line in LINES if page == "docs/references.md"]
    assert shown
    assert [pair for pair in shown if tuple(pair) not in pairs] == []
