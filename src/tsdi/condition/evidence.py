"""A condition and its cross-validation in sentences, from the JSON of its evidence."""

import logging
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from tsdi.bias.safety_bias import SafetyBias
from tsdi.categories import SALAD_TASKS, by_code, category_name
from tsdi.condition.crossvalidation import LEAST_IN_CATEGORY
from tsdi.decoding.condition import Condition
from tsdi.models.chat import encode_chat, prompt_sha256
from tsdi.stats.interval import Estimate, compact_share, compact_text, interval_text

_LOG = logging.getLogger(__name__)


def describe(condition: Condition) -> list[str]:
    """A condition's strengths and cross-validated AUC in a few sentences."""
    does = (
        f"Condition: the strength is {condition.low:g} where a prompt is surely harmful and"
        f" {condition.high:g} where it is surely harmless, by the logits of"
        f" {len(condition.tokens)} tokens at step 0. A strength that is named wins."
    )
    try:
        return [does, *_areas(condition.evidence), *_categories(condition.evidence["categories"]),
                condition.evidence["case"]["why"]]  # fmt: skip
    except (KeyError, TypeError, AttributeError, ValueError):
        return [does, "It holds no evidence that this tsdi wrote."]


def _areas(evidence: dict[str, Any]) -> list[str]:
    areas = {
        name: interval_text(Estimate.from_dict(evidence[name]), signed=name == "gain")
        for name in ("condition", "sparse", "log_odds", "gain", "shuffled")
    }
    lines = [
        f"Fitted to {evidence['harmful']} harmful and {evidence['harmless']} harmless prompts. Area"
        f" under the ROC curve, on prompts held out: {areas['sparse']}; with the whole input of"
        f" the head {areas['condition']}; of the refusal log-odds {areas['log_odds']}, so the gain"
        f" is {areas['gain']}; with shuffled labels {areas['shuffled']}."
    ]
    if curve := evidence["labels"]:
        shown = (f"{number} {compact_share(one['value'])}" for number, one in curve.items())
        lines.append(f"By labels of each kind: {', '.join(shown)}.")
    if attacks := evidence.get("attacks"):
        shown = (f"{name} {compact_text(Estimate.from_dict(one))}" for name, one in attacks.items())
        lines.append(f"Harmful prompts under attack, from harmless ones: {', '.join(shown)}.")
    return lines


def _categories(categories: list[dict[str, Any]]) -> list[str]:
    harmful = [one for one in categories if one["kind"] == "harmful"]
    labelled = {one["category"] for one in harmful}
    lines = []
    # Who uses the codes of SALAD-Bench means its tasks to be all that there is.
    if labelled <= SALAD_TASKS.keys() and (missing := by_code(SALAD_TASKS.keys() - labelled)):
        shown = ", ".join(missing)
        lines.append(f"No label at all, so that harm there may be taken for harmless: {shown}.")
    few = [
        f"{category_name(one['category'])} ({one['labels']})"
        for one in harmful
        if one["labels"] < LEAST_IN_CATEGORY
    ]
    if few:
        lines.append(
            f"Too few labels, so that nobody would see a loss there: {', '.join(few)}. Label"
            f" {LEAST_IN_CATEGORY} or more of each."
        )
    if left := [one for one in harmful if one["left_out"]]:
        worst = min(left, key=lambda one: float(one["left_out"]["value"]))
        area = interval_text(Estimate.from_dict(worst["left_out"]))
        lines.append(
            "Fitted without a category, the condition does worst on"
            f" {category_name(worst['category'])}: {area}. Harm of a sort that no label shows may"
            " be taken for harmless."
        )
    return lines


def fitted_to(bias: SafetyBias) -> frozenset[str]:
    """Hashes (`prompt_sha256`) of the prompts that a bias's condition or slope was fitted to.

    By `tsdi.models.chat.prompt_sha256`. Those of a bias without a reference are its labelled ones.
    """
    parts = [part.evidence for part in (bias.condition, bias.slope) if part is not None]
    parts.append(bias.info.diagnosis.get("stand_in", {}))
    return frozenset(one for evidence in parts for one in evidence.get("prompts", ()))


def among_fitted(
    bias: SafetyBias,
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Sequence[dict[str, str]]],
) -> list[bool]:
    """Whether a bias, its condition or its slope was fitted to each of these chats.

    On these it looks better than it is. Where nothing says what it was fitted to, that is logged.
    """
    if bias.condition is not None and not bias.condition.evidence.get("prompts"):
        _LOG.info(
            "The condition does not say which prompts it was fitted to: give others than those."
        )
    seen, chat = fitted_to(bias), bias.info.chat_format
    return [prompt_sha256(encode_chat(tokenizer, one, chat)) in seen for one in chats]
