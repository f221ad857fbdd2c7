"""``estimate``: the bias of models by name, examined and saved in a folder, resumable."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tsdi.arguments import Name, as_name
from tsdi.bias import (
    Estimation,
    LabelledIds,
    SafetyBias,
    estimate_bias,
    fit_slope,
    recommend,
)
from tsdi.bias.examination import RANDOM_PROMPTS, check_lengths
from tsdi.bias.file import TENSORS_FILE
from tsdi.bias.first_order.fit import NO_MARKER
from tsdi.bias.mean_logits import partial_files
from tsdi.bias.random_prompts import RandomPrompts
from tsdi.bias.refusal_log_odds import Phrases, read_phrases
from tsdi.errors import RunExistsError, UsageError
from tsdi.files import check_goes_on, working_in
from tsdi.models.biases import CONFIG_FILE
from tsdi.models.chat import encode_chat
from tsdi.models.sides import Side, load_pair
from tsdi.runs.diagnosis_prompts import DiagnosisPrompts, read_real, with_case, with_openers
from tsdi.runs.loading import Loading
from tsdi.runs.one_model import OneModel, estimate_one
from tsdi.runs.pair import check_order, pair_tokenizer
from tsdi.runs.stage import StageProgress, counting
from tsdi.runs.sums import estimate_by_vllm, sum_pair
from tsdi.suites.load import load_prompts
from tsdi.suites.prompts import check_kinds
from tsdi.suites.split import joined


@dataclass(frozen=True)
class FirstOrder:
    """A bias of first order, which also follows the logits (`tsdi.bias.first_order`).

    Attributes:
        labelled: Harmful and harmless prompts to which that is fitted, by name (as for
            `tsdi.generate`, with kinds) or as token ids; None takes the random ones.
        constant: How TSDI's bias is estimated, which it begins with.

    Raises:
        UsageError: If it is to begin behind a marker.
    """

    labelled: LabelledIds | Name | None = None
    constant: Estimation = Estimation()

    def __post_init__(self) -> None:
        if self.constant.anchor:
            raise UsageError(*NO_MARKER)
        if self.constant.reference_format is not None:
            raise UsageError(
                "A slope is fitted along prompts that both models read alike.",
                "Take --order 0 with a format of the reference's own.",
            )


def estimate(
    aligned: Name,
    reference: Name | None,
    out: str | Path,
    settings: Estimation | FirstOrder | OneModel = Estimation(),
    *,
    diagnosis: DiagnosisPrompts | None = DiagnosisPrompts(),
    loading: Loading = Loading(),
    resume: bool = False,
    progress: StageProgress | None = None,
) -> SafetyBias:
    """Estimate the safety bias of a model, examine it, and save it in a folder.

    Args:
        aligned: The model after the safety step: a folder, a hub id or a shipped name, of a model
            or an adapter.
        reference: The model before it; None where there is none, and something is to stand in for
            it (`tsdi.stand_ins`).
        out: Folder for the bias.
        settings: Number, pool and lengths of random prompts, and how they become text; as
            `FirstOrder` also that the bias follows the logits, as `OneModel` also the labelled
            prompts that a bias without a reference takes.
        diagnosis: Prompts of the diagnosis; None makes none and recommends no strength. Without a
            reference it has its phrases alone.
        loading: Options of loading and running the models.
        resume: Go on with a killed run.
        progress: Called after each batch of the estimate, which both models read, then before the
            diagnosis and after each of its batches.

    Returns:
        The bias as it was saved, with its diagnosis and the strength that this recommends.

    Raises:
        UsageError: If both are one model, or settings make no sense.
        PromptError: If there is no reference, and the labelled prompts do not do.
        RunExistsError: If the folder is in use.
        TsdiError: If anything cannot be loaded, or the models do not fit together.
    """
    aligned, out = as_name("aligned", aligned), Path(out)
    other = None if reference is None else as_name("reference", reference)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file.", "Give a folder as --out.")
    with working_in(out):
        _check_folder(out, resume)
        if other is None:
            if loading.cluster is not None:
                raise UsageError("A cluster sums prompts of two models.", "Name the reference.")
            alone, phrases = _alone(settings, diagnosis, loading)
            bias = estimate_one(aligned, alone, phrases, loading, out, progress)
        elif isinstance(settings, OneModel):
            raise UsageError("There is a reference, so nothing is to stand in for it.",
                             "Leave out one of them.")  # fmt: skip
        elif loading.engine.name == "vllm":
            plain = _check_plain(settings, diagnosis)
            bias = estimate_by_vllm(aligned, other, out, plain, loading, progress)
        else:
            bias = _of_pair(aligned, other, out, settings, diagnosis, loading, progress)
        bias.save_pretrained(out)
        for partial in partial_files(out):
            partial.unlink(missing_ok=True)
        return bias


def _check_plain(
    settings: Estimation | FirstOrder | OneModel, diagnosis: DiagnosisPrompts | None
) -> Estimation:
    """The settings of an estimate that reads nothing but logits of random prompts."""
    if diagnosis is not None or not isinstance(settings, Estimation):
        raise UsageError(
            "vLLM gives the logits of random prompts: no diagnosis, and order 0.",
            "Add --no-diagnosis; tsdi tune --engine vllm finds a strength.",
        )
    return settings


def _alone(
    settings: Estimation | FirstOrder | OneModel,
    diagnosis: DiagnosisPrompts | None,
    loading: Loading,
) -> tuple[OneModel, Phrases | None]:
    """The settings of a bias without a reference, and the phrases that it is examined by."""
    if loading.engine.name == "vllm":
        raise UsageError("vLLM needs a reference.", "Name it, or take --engine transformers.")
    if isinstance(settings, FirstOrder):
        raise UsageError("A bias of first order needs a reference.", "Name it, or take --order 0.")
    if diagnosis is None:
        raise UsageError(
            "Without a reference the diagnosis chooses what stands in for it.",
            "Leave out --no-diagnosis, or name the reference.",
        )
    if diagnosis.sources:
        raise UsageError(
            "--prompts are for the diagnosis of two models.",
            "Without a reference give prompts of all kinds: --labelled.",
        )
    alone = settings if isinstance(settings, OneModel) else OneModel(constant=settings)
    return alone, None if diagnosis.phrases is None else read_phrases(Path(diagnosis.phrases))


def _of_pair(
    aligned: str,
    reference: str,
    out: Path,
    settings: Estimation | FirstOrder,
    diagnosis: DiagnosisPrompts | None,
    loading: Loading,
    progress: StageProgress | None,
) -> SafetyBias:
    """The bias of two models, examined if asked."""
    first = settings if isinstance(settings, FirstOrder) else None
    how = settings.constant if isinstance(settings, FirstOrder) else settings
    check_order(aligned, reference)
    tokenizer, how = pair_tokenizer(aligned, reference, loading.options, how)
    real = read_real(diagnosis, tokenizer, how)
    prompts = how.random_prompts(tokenizer)
    fitted = None if first is None else _labelled(first, tokenizer, real.ids) or prompts
    if loading.cluster is not None:  # what follows finds nothing left to sum
        sum_pair((aligned, reference), how, out, (0, how.prompts), loading, progress)
    sides = load_pair(aligned, reference, loading.options, one_at_a_time=loading.one_at_a_time)
    _check_lengths(sides[0], real.ids.items(), how.steps)
    if isinstance(fitted, LabelledIds):
        kinds = ("harmless", fitted.harmless), ("harmful", fitted.harmful)
        _check_lengths(sides[0], kinds, how.steps)
    real = with_openers(real, sides[0], tokenizer)
    counted = counting(progress, "estimate, both models", _reads(how, fitted))
    size = loading.batch_size
    bias = estimate_bias(
        *sides,
        tokenizer,
        replace(how, pool=prompts.pool),
        batch_size=size,
        checkpoints=out,
        progress=counted,
    )
    if fitted is not None:
        bias = fit_slope(bias, *sides, tokenizer, fitted, batch_size=size, progress=counted)
    if diagnosis is None:
        return bias
    counted = counting(progress, "diagnose", sum(map(len, real.ids.values())) + RANDOM_PROMPTS)
    counted(0)  # its first batch takes a while
    asked = real.examination(prompts.pool)
    bias = recommend(bias, *sides, tokenizer, asked, batch_size=size, progress=counted)
    return with_case(bias, sides[0], tokenizer, real, size)


def _check_folder(out: Path, resume: bool) -> None:
    # Partial sums go last: with some, a bias that looks finished was killed at its very end.
    killed = any(partial.exists() for partial in partial_files(out))
    if (out / CONFIG_FILE).exists() and not (resume and killed):
        raise RunExistsError(f"{out} already holds a finished bias.", "Give another --out.")
    # Killed a little earlier, a run leaves tensors without their config.
    check_goes_on(out, resume, "estimate", [*partial_files(out), out / TENSORS_FILE])


def _check_lengths(side: Side, real: Iterable[tuple[str, Sequence[list[int]]]], steps: int) -> None:
    """Refuse prompts that do not fit the context before the long work, if the model is loaded."""
    if side.loaded:
        with side.open() as model:
            check_lengths(model, [(kind, ids) for kind, rows in real for ids in rows], steps)


def _labelled(
    settings: FirstOrder, tokenizer: PreTrainedTokenizerBase, real: Mapping[str, list[list[int]]]
) -> LabelledIds | None:
    """The prompts of the fit as token ids; none of them may be of the diagnosis."""
    source, how = settings.labelled, settings.constant
    if source is None or isinstance(source, LabelledIds):
        return source
    asked = joined(load_prompts(source, how.seed).prompts)
    check_kinds(asked)
    found: dict[bool, list[list[int]]] = {True: [], False: []}
    groups = {}
    for prompt in asked:
        ids = encode_chat(tokenizer, prompt.messages, how.chat)
        found[prompt.kind == "harmful"].append(ids)
        groups[tuple(ids)] = prompt.group
    fitted = {tuple(ids) for rows in found.values() for ids in rows}
    again = sum(tuple(ids) in fitted for rows in real.values() for ids in rows)
    if again:
        raise UsageError(
            f"{again} prompts of the diagnosis are among the labelled ones, to which the bias is"
            " fitted.",
            "Name other prompts, or leave one of them out.",
        )
    return LabelledIds(found[False], found[True], groups)


def _reads(settings: Estimation, fitted: LabelledIds | RandomPrompts | None) -> int:
    """How often a prompt is read or answered by a model, at most."""
    once = 2 * settings.prompts
    if isinstance(fitted, LabelledIds):
        return once + 3 * (len(fitted.harmless) + len(fitted.harmful))  # one model answers
    return once if fitted is None else 2 * once
