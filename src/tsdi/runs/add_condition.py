"""``add_condition``: a condition fitted to labelled prompts, saved with the bias it is for."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.arguments import Name, as_list, as_name
from tsdi.bias import SafetyBias
from tsdi.bias.case import NOTHING
from tsdi.bias.examination import check_lengths
from tsdi.bias.openers import foreign_openers
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases, read_phrases
from tsdi.condition import Fitting, Labelled, fit_condition
from tsdi.condition.case import removes_nothing
from tsdi.condition.discriminant import check_labels
from tsdi.engines.base import Message
from tsdi.errors import RunExistsError
from tsdi.files import is_unused, working_in
from tsdi.models.chat import encode_chat, prompt_sha256
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.runs.stage import StageProgress, counting
from tsdi.stats.interval import as_json
from tsdi.suites.attacks import Attack, check_words, find_attack
from tsdi.suites.load import load_prompts
from tsdi.suites.prompts import Prompt, check_kinds, check_known
from tsdi.suites.split import joined

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labels:
    """Options of reading labelled prompts: attacks and phrases.

    Attributes:
        attacks: Names of attacks; each harmful prompt is read under each of them too.
        phrases: A JSON file that says how refusing and complying answers begin; None is English, or
            what the model's own answers show.
    """

    attacks: Sequence[str] = ()
    phrases: str | Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "attacks", tuple(as_list("attacks", self.attacks)))


def add_condition(
    model: Name,
    bias: Name,
    prompts: Name,
    out: str | Path,
    settings: Fitting = Fitting(),
    *,
    labels: Labels = Labels(),
    options: LoadOptions = LoadOptions(),
    progress: StageProgress | None = None,
) -> SafetyBias:
    """Fit when to subtract a bias to labelled prompts, and save the bias with it in a folder.

    Args:
        model: The aligned model: a folder, a hub id or a shipped name.
        bias: Folder or hub id of its safety bias.
        prompts: Prompts with their kinds, as for `tsdi.generate`; lookalikes count as harmless.
        out: Folder for the bias with its condition.
        settings: Settings of the fit, and the strengths that the condition sets.
        labels: Options of reading the prompts.
        options: Options of loading the weights.
        progress: Called with the number of prompts that are read, after each of them.

    Returns:
        The bias as it was saved; the cross-validated AUC is in `condition.evidence`.

    Raises:
        PromptError: If prompts have no kinds, or too few are of one.
        RunExistsError: If the folder is in use.
        UsageError: If there is no such attack.
        TsdiError: If anything cannot be loaded, or does not belong together.
    """
    model, bias, out = as_name("model", model), as_name("bias", bias), Path(out)
    with working_in(out):
        if not is_unused(out):
            raise RunExistsError(f"{out} is in use.", "Give another --out.")
        asked = joined(load_prompts(prompts, 0).prompts)
        check_kinds(asked)
        check_labels(torch.tensor([prompt.kind == "harmful" for prompt in asked]))
        attacks = [find_attack(name) for name in dict.fromkeys(labels.attacks)]
        phrases = None if labels.phrases is None else read_phrases(Path(labels.phrases))
        tokenizer = load_tokenizer(model, options)
        check_known(asked, tokenizer)
        check_words({attack.name: asked for attack in attacks}, tokenizer)
        vector = SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
        if vector.info.tuning:
            _LOG.info("The tuning of %s is left out, as it was without this condition.", bias)
        if not any(prompt.kind == "lookalike" for prompt in asked):
            _LOG.info("No label is of a lookalike: such prompts may be taken for harmful.")
        vector = vector.with_condition(None)
        vector.note_other(model)
        vector.check_no_anchor()  # which a condition cannot have
        chat = vector.info.chat_format
        labelled = [
            one
            for prompt in asked
            for one in _labelled(prompt, attacks, lambda m: encode_chat(tokenizer, m, chat))
        ]
        loaded = load_model(model, options)
        vector.check(tokenizer, loaded)
        check_lengths(loaded, [("labelled", one.ids) for one in labelled], 1)
        phrases = phrases or find_phrases(loaded, tokenizer, labelled)
        counted = counting(progress, "condition, prompts", len(labelled))
        condition = fit_condition(
            loaded, tokenizer, labelled, settings, chat=chat, phrases=phrases, progress=counted
        )
        if removes_nothing(vector):  # then a condition sets how much of nothing is subtracted
            condition = replace(condition, evidence=condition.evidence | {"case": as_json(NOTHING)})
        condition = replace(condition, evidence=condition.evidence | {"model": model})
        made = vector.with_condition(condition)
        made.save_pretrained(out)
        return made


def find_phrases(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, labelled: Sequence[Labelled]
) -> Phrases:
    """English phrases, or the openers of a model that does not refuse in English."""
    plain = [one for one in labelled if not one.attack]
    harmful, harmless = (
        [one.ids for one in plain if one.harmful is kind] for kind in (True, False)
    )
    own = foreign_openers(model, tokenizer, harmful, harmless)
    return ENGLISH if own is None else own.phrases


def to_labelled(prompt: Prompt, ids: list[int]) -> Labelled:
    """A prompt's token ids with its label; the category of a harmless one is its kind."""
    harmful = prompt.kind == "harmful"
    return Labelled(ids, harmful, prompt.category if harmful else prompt.kind, prompt.group)


def _labelled(
    prompt: Prompt, attacks: Sequence[Attack], encode: Callable[[tuple[Message, ...]], list[int]]
) -> list[Labelled]:
    """A prompt with its label and, if harmful, its version under each attack."""
    plain = to_labelled(prompt, encode(prompt.messages))
    if not plain.harmful or not attacks:
        return [plain]
    # Of one group, so that none of them is held out while another is fitted to.
    plain = replace(plain, group=prompt.group or prompt_sha256(plain.ids))
    changed = ((attack.name, encode(attack.transform(prompt.messages))) for attack in attacks)
    return [
        plain,
        *(replace(plain, ids=ids, attack=name) for name, ids in changed if ids != plain.ids),
    ]
