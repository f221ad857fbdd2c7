"""``reproduce``: a bias estimated again from its own record, and how far the two agree."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from tsdi.arguments import Name, as_name
from tsdi.bias import Estimation, SafetyBias, compare_biases, estimate_bias
from tsdi.bias.info import BiasInfo
from tsdi.errors import MismatchError, UsageError
from tsdi.models.load import load_tokenizer
from tsdi.models.sides import load_pair
from tsdi.runs.loading import Loading
from tsdi.runs.stage import StageProgress, counting
from tsdi.runs.sums import estimate_by_vllm

TOLERANCE = 0.1
"""Of the standard error: what rounding and other hardware may make of the same prompts."""
_AGAIN: Mapping[str, tuple[str, type]] = {
    "scale": ("scale", float),
    "decay": ("decayed", float),
    "truncate": ("truncate", int),
    "top_k": ("top_k", int),
}
"""Operations of a bias's history that need nothing but the bias: method, and kind of number."""


@dataclass(frozen=True)
class Reproduced:
    """A bias and what its own record gives.

    Attributes:
        verdict: "equal": every number is the same. "within tolerance": at every step the root mean
            square of the differences is at most `TOLERANCE` of that of the standard error.
        bias: The bias that was estimated again, float32 [steps, vocab].
        differences: Root mean square of the differences over tokens, by step, in logits.
        errors: The same of the standard error.
        versions: By package, its version in the record and now, where they differ.
    """

    verdict: Literal["equal", "within tolerance", "different"]
    bias: SafetyBias
    differences: list[float]
    errors: list[float]
    versions: dict[str, tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON, without the values."""
        return {
            "verdict": self.verdict,
            "differences": self.differences,
            "errors": self.errors,
            "versions": {name: list(both) for name, both in self.versions.items()},
        }


def reproduce(
    bias: Name,
    aligned: Name | None = None,
    reference: Name | None = None,
    pool: Name | None = None,
    *,
    loading: Loading = Loading(),
    progress: StageProgress | None = None,
) -> Reproduced:
    """Estimate a bias again, from its own record, and compare.

    The condition, the diagnosis and the tuning are not made again.

    Args:
        bias: Folder or hub id of a safety bias.
        aligned: Where the aligned model is now; None is where the record says.
        reference: The same of the reference.
        pool: The file of the token pool, where it was one.
        loading: Options of loading and running the models.
        progress: Called after each batch of either model.

    Raises:
        UsageError: If the record does not say enough.
        MismatchError: If the token pool is another, or tokenizer or chat template are.
        TsdiError: If anything cannot be loaded.
    """
    kept = SafetyBias.from_pretrained(as_name("bias", bias))
    info = kept.info
    operations = _operations(kept)
    one = as_name("aligned", aligned) if aligned else _at(info.aligned, info.aligned_revision)
    other = (
        as_name("reference", reference)
        if reference
        else _at(info.reference, info.reference_revision)
    )
    tokenizer = load_tokenizer(one, loading.options)
    kept.check(tokenizer)
    settings = _settings(info, kept.steps, info.pool if pool is None else as_name("pool", pool))
    drawn = settings.random_prompts(tokenizer).pool
    if drawn.sha256 != info.pool_sha256:
        raise MismatchError(
            f"The token pool {drawn.name!r} is not the one of the record.",
            "Give the text that it was estimated with: --pool FILE.",
        )
    settings = replace(settings, pool=drawn)
    if loading.engine.name == "vllm":
        with TemporaryDirectory(prefix="tsdi-reproduce-") as out:
            made = estimate_by_vllm(one, other, Path(out), settings, loading, progress)
    else:
        made = estimate_bias(
            *load_pair(one, other, loading.options, one_at_a_time=loading.one_at_a_time),
            tokenizer,
            settings,
            batch_size=loading.batch_size,
            progress=counting(progress, "estimate, both models", 2 * info.prompts),
        )
    for method, by in operations:
        made = getattr(made, method)(by)
    return _compared(kept, made)


def _operations(bias: SafetyBias) -> list[tuple[str, float]]:
    """What was done to a bias since its estimate: methods, each with its number.

    Raises:
        UsageError: If its record does not say all of how it came about.
    """
    bias.check_order_0("its record")
    if bias.info.stand_in:
        raise UsageError(
            "This bias was estimated without a reference, from labelled prompts that its record"
            " does not hold.",
            "Run its tsdi estimate --labelled again.",
        )
    found = []
    for step in bias.info.history:
        name, _, by = step.partition(" ")
        if name in ("estimate", "strength"):  # in vLLM and how; in an export, changing no value
            continue
        try:
            method, kind = _AGAIN[name]
            found.append((method, kind(by)))
        except (KeyError, ValueError):
            raise UsageError(
                f"This bias was made by {step!r}, from more than its record."
            ) from None
    return found


def _at(name: str, commit: str | None) -> str:
    """A model as it was: of the hub at the commit of the record."""
    return name if commit is None else f"{name.partition('@')[0]}@{commit}"


def _settings(info: BiasInfo, steps: int, pool: str) -> Estimation:
    return Estimation(
        prompts=info.prompts,
        steps=steps,  # fewer steps leave the first ones as they are
        prompt_tokens=info.prompt_tokens,
        pool=pool,
        ngram=info.ngram,
        seed=info.seed,
        groups=info.groups,
        chat=info.chat_format,
        anchor=info.anchor,
        reference_format=info.reference_format,
    )


def _compared(kept: SafetyBias, made: SafetyBias) -> Reproduced:
    differences = compare_biases(kept, made)["difference"]
    errors = kept.standard_error.double().square().mean(1).sqrt().tolist()
    near = all(d <= TOLERANCE * e for d, e in zip(differences, errors, strict=True))
    equal = kept.values.equal(made.values)
    now = made.info.versions
    return Reproduced(
        "equal" if equal else "within tolerance" if near else "different",
        made,
        differences,
        errors,
        {n: (v, now[n]) for n, v in kept.info.versions.items() if now.get(n, v) != v},
    )
