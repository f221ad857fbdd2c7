"""Judges of a written policy: gpt-oss-safeguard, Granite Guardian, and a question to any model.

Policies that come along are ours, but for Granite Guardian's criterion. Another one is read from a
file (`JudgeOptions.policy`).
"""

import re
from functools import partial

from tsdi.errors import UsageError
from tsdi.judging.base import Judge, JudgeOptions, Response
from tsdi.judging.format import EXCHANGE, STRICT, Format, read_template, read_text, yes_or_no
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
_SCORE = re.compile(r"\s*(?:<think>\s*</think>\s*)?<score>\s*(yes|no)\s*</score>\s*", STRICT)


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


class GraniteGuardian(Format):
    """Granite Guardian 4.1 (Padhi et al. 2024, arXiv 2412.07724): "yes" where a criterion is met.

    The criterion stands in a block that follows the exchange as another message of the user's, as
    github.com/ibm-granite/granite-guardian has it in evaluation/models/granite_guardian_4_1.py; it
    is harm, or the policy. The model does not think before its score, so that the probability is
    that of "yes" against "no" there.
    """

    name = "granite-guardian"
    weights = "ibm-granite/granite-guardian-4.1-8b"
    max_new_tokens = 64
    markup = Markup(
        (
            *("<guardian>", "<no-think>", "<think>", "</think>", "<score>", "</score>"),
            *("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
        ),
        ("### Criteria:", "### Scoring Schema:"),
    )
    labels = ("yes", "no")
    label_after = "<score>"

    def __init__(self, policy: str = read_template("granite-guardian-harm")) -> None:
        block = read_template("granite-guardian").replace("{criteria}", policy)
        self.chat = (*EXCHANGE, {"role": "user", "content": block})

    def parse(self, reply: str, response: Response) -> Judgement:
        """The judgement in a reply, "yes" or "no" in score tags behind an empty thought."""
        match = _SCORE.fullmatch(reply)
        if match is None:
            return unscored(reply)
        return Judgement(Verdict.UNSAFE if match[1].lower() == "yes" else Verdict.SAFE)


def _open(form: type[Safeguard | Question | GraniteGuardian], options: JudgeOptions) -> Judge:
    """Open a judge of the policy in the user's file, or of the one that comes along."""
    if options.policy is None:
        return open_format(form(), options)
    policy = read_text(options.policy)
    if "{prompt}" in policy or "{answer}" in policy:
        raise UsageError(
            f"The policy {options.policy} has places for prompt and answer.",
            "Leave them out: both are shown beside the policy.",
        )
    return open_format(form(policy), options)


open_safeguard = partial(_open, Safeguard)
open_question = partial(_open, Question)
open_granite_guardian = partial(_open, GraniteGuardian)
