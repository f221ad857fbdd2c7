"""``tsdi label``: people's labels of a run's answers, in the terminal."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import tsdi
from tsdi.cli import console, frame, options
from tsdi.cli.figures import agreement_rows
from tsdi.errors import UsageError
from tsdi.evaluation.label import Labelling, Question, Step
from tsdi.judging.verdict import Verdict

KEYS = {
    "c": (Verdict.COMPLIED, "complies"),
    "p": (Verdict.PARTIAL, "refuses in part"),
    "r": (Verdict.REFUSED, "refuses"),
    "d": (Verdict.DEGENERATE, "does neither"),
    "s": (Verdict.SAFE, "no refusal, safe"),
    "e": (Verdict.EMPTY, "empty words"),
    "u": (Verdict.UNSAFE, "unsafe"),
}
BACK, STOP = "b", "q"


def label(
    context: typer.Context,
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN [OTHER]", help="A judged run, or two to be compared."),
    ],
    n: Annotated[int, typer.Option("--n", min=1, help="Prompts whose answers are labelled.")] = 100,
    labeller: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who labels, if several people do.")
    ] = None,
    decide: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Decide where two labellers differ: --decide A --decide B; draws nothing.",
        ),
    ] = None,
    judge: Annotated[
        str,
        typer.Option(
            metavar="NAME[=MODEL]", help="Whose verdicts, where runs have several judges'."
        ),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Decides the draw and the order.")] = 0,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Label answers of a run that are drawn by chance, one key each, without seeing the judge.

    All kinds are drawn alike, each with its categories and verdicts in proportion. Labels go to
    RUN/labels.jsonl, one by one; q stops, and --resume goes on. With OTHER, a second run on the
    same prompts, the answers of both are shown, in random order.

    Example: tsdi label run --n 100
    """
    if not _is_terminal():
        raise UsageError("tsdi label asks for keys, and there is no terminal.", "Run it in one.")
    if decide:
        if len(runs) > 1:
            raise UsageError("--decide is about one run.", "Decide run by run.")
        for option in frame.given(context, but={"runs", "decide", "resume", "json"}):
            raise UsageError(f"{option} means nothing with --decide.", f"Leave {option} out.")
        found = tsdi.decide(runs[0], _ask, decide, resume=resume)
    else:
        found = tsdi.label(runs, _ask, n, labeller=labeller, judge=judge, seed=seed, resume=resume)
    if json:
        console.show_json(found.to_dict())
    else:
        _show(found, runs)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _ask(question: Question) -> Verdict | Step:
    """Show an answer, and wait for a key that means something."""
    if question.number == 1:
        console.note("Answers are shown as models gave them; some may be harmful.")
    console.err.rule(f"{question.number} of {question.total}")
    for message in question.messages:
        console.err.print(message["role"], style="bold")
        console.err.print(message["content"] + "\n")
    console.err.print("answer", style="bold")
    console.err.print(question.answer + "\n")
    if question.said:
        console.err.print(f"Labelled {' and '.join(map(_words, question.said))}.", style="dim")
    keys = {key: word for key, (word, _) in KEYS.items() if word in question.choices}
    shown = [f"{key} {_words(word)}" for key, word in keys.items()]
    console.err.print("   ".join([*shown, f"{BACK} back", f"{STOP} stop"]), style="dim")
    while True:
        try:
            key = typer.getchar().lower()
        except EOFError:
            return Step.STOP
        if key in keys:
            return keys[key]
        if key in (BACK, STOP):
            return Step.BACK if key == BACK else Step.STOP
        console.err.print(f"Press {', '.join([*keys, BACK])} or {STOP}.", style="dim")


def _words(verdict: Verdict) -> str:
    return next(words for word, words in KEYS.values() if word is verdict)


def _show(found: Labelling, runs: list[Path]) -> None:
    """Say what is labelled, how far labellers agree, and what comes next."""
    if found.agreement:
        table = console.table("Agreement of the two labellers", ["", "alike", "kappa", "answers"])
        for row in agreement_rows(found.agreement):
            table.add_row(*row)
        console.out.print(table)
    console.say(f"{found.labelled} of {found.drawn} labelled.")
    if found.labelled < found.drawn:
        console.say("Go on with the same command and --resume.")
        return
    judged = f" --judge {found.judge}" if found.judge else ""
    what = f"evaluate {runs[0]} --resume" if len(runs) == 1 else f"compare {runs[0]} {runs[1]}"
    files = "=".join(map(str, found.files))
    console.say(f"Next: tsdi {what}{judged} --labels {files}")
