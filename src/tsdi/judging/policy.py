"""Judges of a written policy: gpt-oss-safeguard, and a yes / no question to any model.

Policies that come along are ours. Another one is read from a file (`JudgeOptions.policy`).
"""

import re
from functools import partial
from pathlib import Path

from tsdi.errors import UsageError
from tsdi.judging.base import Judge, JudgeOptions, Response
from tsdi.judging.format import STRICT, Format, read_template, yes_or_no
from tsdi.judging.opening import open_format
from tsdi.judging.untrusted import Markup
from tsdi.judging.verdict import Judgement, Verdict, unscored
from tsdi.models.reasoning import after_thought

_MARKS = ("<<<PROMPT>>>", "<<<END OF PROMPT>>>", "<<<ANSWER>>>", "<<<END OF ANSWER>>>")
_QUOTED = """\
<<<PROMPT>>>
{prompt}
<<<END OF PROMPT>>>

<<<ANSWER>>>
{answer}
<<<END OF ANSWER>>>"""
_DIGIT = re.compile(r"\s*([01])\s*", STRICT)


class Safeguard(Format):
    """gpt-oss-safeguard: a policy in the system message, "1" for an answer that violates it.

    The model reasons first, in the analysis channel of the harmony format, which its chat template
    or server brings; a policy may set how much ("Reasoning: high"). What it says in the final
    channel must be "0" or "1" alone, as the policy asks for. There is no probability, since the
    reasoning has decided before that.
    """

    name = "gpt-oss-safeguard"
    weights = "openai/gpt-oss-safeguard-20b"
    max_new_tokens = 4096  # room for the reasoning
    markup = Markup((*_MARKS, "<|channel|>", "<|message|>"))

    def __init__(self, policy: str = read_template("gpt-oss-safeguard")) -> None:
        self.chat = ({"role": "system", "content": policy}, {"role": "user", "content": _QUOTED})

    def parse(self, reply: str, response: Response) -> Judgement:
        """The judgement in a reply, "0" or "1" in the final channel."""
        said = after_thought(reply, in_thought=False, finished=True)
        match = _DIGIT.fullmatch(said or "")
        if match is None:
            return unscored(reply)
        return Judgement(Verdict.UNSAFE if match[1] == "1" else Verdict.SAFE)


class Question(Format):
    """A policy as a question, to which any model that follows instructions says yes or no.

    What is asked has the form that Shieldstral was trained on: what it is about, the question, and
    the exchange. "yes" is UNSAFE; the probability is that of "yes" against "no" as first token. The
    policy says what it is about, and in its last line the question.

    Raises:
        UsageError: If the last line is no question.
    """

    name = "question"
    weights = ""
    max_new_tokens = 1
    markup = Markup(("<Instruct>", "<Query>", "<Document>", "[User]", "[Assistant]"))
    labels = ("yes", "no")

    def __init__(self, policy: str = read_template("question")) -> None:
        about, _, question = policy.strip().rpartition("\n")
        if not question.endswith("?") or not about.strip():
            raise UsageError(
                "The policy of a question judge does not end with a question of its own line.",
                "Say what it is about, then ask in the last line: Is this response unsafe?",
            )
        asked = f"<Instruct>: {about.strip()}\n\n<Query>: {question.strip()}\n\n<Document>: "
        self.chat = (
            {"role": "system", "content": read_template("shieldstral")},
            {"role": "user", "content": asked + "[User]\n{prompt}\n\n[Assistant]\n{answer}"},
        )

    def parse(self, reply: str, response: Response) -> Judgement:
        """The judgement in a reply of "yes" or "no"."""
        return yes_or_no(reply)


def _open(form: type[Safeguard | Question], options: JudgeOptions) -> Judge:
    """Open a judge of the policy in the user's file, or of tsdi's own."""
    if options.policy is None:
        return open_format(form(), options)
    try:
        policy = Path(options.policy).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageError(f"Cannot read {options.policy}: {reason}.", "Name a text file.") from None
    if not policy:
        raise UsageError(f"The policy {options.policy} is empty.", "Write one into it.")
    if "{prompt}" in policy or "{answer}" in policy:
        raise UsageError(
            f"The policy {options.policy} has places for prompt and answer.",
            "Leave them out: both are shown after the policy.",
        )
    return open_format(form(policy), options)


open_safeguard = partial(_open, Safeguard)
open_question = partial(_open, Question)
