"""The safety bias as a value: algebra, decoding, saving and loading."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelHubMixin
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias.card import CARD, MARK, card_body
from tsdi.bias.file import read, write
from tsdi.bias.info import BiasInfo
from tsdi.decoding.condition import Condition, Strength
from tsdi.decoding.rule import check_strength
from tsdi.decoding.slope import Bias, Slope, Sloped
from tsdi.decoding.transformers import SafetyDebias
from tsdi.errors import MismatchError, UsageError
from tsdi.models.compatibility import vocabulary_width

_LOG = logging.getLogger(__name__)


class SafetyBias(
    ModelHubMixin,
    library_name="tsdi",
    tags=["tsdi", "safety", "over-refusal"],
    paper_url="https://arxiv.org/abs/2502.02153",
    model_card_template=CARD,
):
    """The mean logit shift that safety alignment left on random prompts; an immutable value.

    Attributes:
        values: float32 [steps, vocab], in logits; zero mean per step, as estimated.
        standard_error: Standard error of the values, float32 [steps, vocab].
        info: Provenance.
        condition: Condition that sets the strength for each prompt; None leaves it to one number.
        slope: First-order term (`tsdi.bias.first_order`); None is order 0, which is TSDI.
    """

    def __init__(
        self,
        values: Tensor,
        standard_error: Tensor,
        info: BiasInfo,
        condition: Condition | None = None,
        slope: Slope | None = None,
    ) -> None:
        if values.dim() != 2 or values.shape != standard_error.shape:
            raise UsageError(
                f"A bias needs values and errors [steps, vocab], not {tuple(values.shape)} and "
                f"{tuple(standard_error.shape)}."
            )
        if not bool(values.isfinite().all()):
            raise UsageError("A bias has a value that is NaN or infinite.")
        self.values, self.standard_error = values, standard_error
        self.info = info
        self.condition = condition
        self.slope = slope
        self._hub_mixin_config = None  # else the hub's mixin would write arguments to config.json

    @property
    def steps(self) -> int:
        """The number of response positions."""
        return self.values.shape[0]

    @property
    def vocab(self) -> int:
        """The number of tokens."""
        return self.values.shape[1]

    @property
    def shift(self) -> Bias:
        """The shift at strength 1, as the rule takes it: the values, with the slope if any."""
        return self.values if self.slope is None else Sloped(self.values, self.slope)

    @property
    def sha256(self) -> str:
        """SHA-256 of the values and the slope."""
        slope = self.slope
        values = self.values + 0.0  # -0 becomes 0, as which a sparse file keeps it
        parts = [values, *([] if slope is None else (slope.read, slope.write, slope.centre))]
        data = b"".join(part.contiguous().numpy().tobytes() for part in parts)
        return hashlib.sha256(data).hexdigest()

    def __repr__(self) -> str:
        return (
            f"SafetyBias({self.info.aligned} - {self.info.reference}, {tuple(self.values.shape)})"
        )

    def derived(
        self,
        values: Tensor,
        error: Tensor,
        how: str,
        reliability: tuple[float, ...] = (),
        slope: Slope | None = None,
    ) -> "SafetyBias":
        """A bias made from this one, without findings that hold for this one only.

        Recommended strength, diagnosis, tuning, figures and condition need not be right for it.

        Args:
            values: float32 [steps, vocab].
            error: float32 [steps, vocab].
            how: The operation, for the history.
            reliability: Reliability of every step, where it is known.
            slope: First-order term of the new bias.
        """
        update: dict[str, Any] = {
            "history": (*self.info.history, how),
            "reliability": reliability,
            "strength": None,
            "diagnosis": {},
            "tuning": {},
            "measured": {},
        }
        return SafetyBias(values, error, self.info.model_copy(update=update), slope=slope)

    def check_order_0(self, what: str) -> None:
        """Raise UsageError if the bias has a slope, for functions of its values alone."""
        if self.slope is not None:
            raise UsageError(
                f"A bias of first order follows the logits; {what} knows its values alone.",
                "Take a bias of order 0 (tsdi estimate without --order 1), or tsdi export --to"
                " checkpoint.",
            )

    def scale(self, factor: float) -> "SafetyBias":
        """The bias times a number."""
        error = self.standard_error * abs(factor)
        known = self.info.reliability
        slope = self.slope
        if slope is not None:
            slope = replace(slope, write=slope.write * factor)
        return self.derived(self.values * factor, error, f"scale {factor:g}", known, slope)

    def decayed(self, factor: float) -> "SafetyBias":
        """The bias with step i times factor ** i.

        Raises:
            UsageError: If the factor is not in 0..1.
        """
        if not 0 <= factor <= 1:
            raise UsageError(f"A decay is between 0 and 1, not {factor:g}.")
        if factor != 1:
            self.check_order_0("a decay")
        factors = factor ** torch.arange(self.steps, dtype=torch.float32)[:, None]
        error = self.standard_error * factors
        known = self.info.reliability
        return self.derived(self.values * factors, error, f"decay {factor:g}", known, self.slope)

    def add(self, other: "SafetyBias") -> "SafetyBias":
        """The sum of two biases for one tokenizer; errors add as those of independent estimates.

        Raises:
            MismatchError: If tokenizers or shapes differ.
        """
        for one in (self, other):
            one.check_order_0("a sum")
        self.check_comparable(other)
        error = (self.standard_error.square() + other.standard_error.square()).sqrt()
        return self.derived(self.values + other.values, error, f"add {other!r}")

    def truncate(self, steps: int) -> "SafetyBias":
        """The bias with its first steps only.

        Raises:
            UsageError: If the bias has fewer.
        """
        if not 1 <= steps <= self.steps:
            raise UsageError(f"Cannot take {steps} of {self.steps} steps.")
        values, error = self.values[:steps], self.standard_error[:steps]
        slope = self.slope
        if slope is not None:
            slope = replace(slope, centre=slope.centre[:steps])
        reliability = self.info.reliability[:steps]
        return self.derived(values, error, f"truncate {steps}", reliability, slope)

    def top_k(self, k: int) -> "SafetyBias":
        """The bias with the k largest shifts of every step by absolute value, the others 0.

        Its file holds these alone.

        Raises:
            UsageError: If k is not between 1 and the vocabulary size.
        """
        if not 1 <= k <= self.vocab:
            raise UsageError(f"Cannot take the top {k} of {self.vocab} tokens.")
        self.check_order_0("top_k")
        keep = torch.zeros_like(self.values, dtype=torch.bool)
        keep.scatter_(1, self.values.abs().topk(k).indices, value=True)
        values, error = self.values.where(keep, 0.0), self.standard_error.where(keep, 0.0)
        return self.derived(values, error, f"top_k {k}")

    def check_comparable(self, other: "SafetyBias", steps: int | None = None) -> None:
        """Raise MismatchError unless tokenizers and, over some steps, shapes are equal."""
        if self.info.tokenizer_sha256 != other.info.tokenizer_sha256:
            raise MismatchError("The two biases are for different tokenizers.")
        if self.values[:steps].shape != other.values[:steps].shape:
            raise MismatchError(
                f"The two biases have shapes {tuple(self.values.shape)} and "
                f"{tuple(other.values.shape)}.",
                "Truncate the longer one.",
            )

    def strength_or_condition(self, strength: Strength | None) -> Strength:
        """The strength that is named, else the condition, else the recommended strength.

        Raises:
            UsageError: If there is none of them, or the strength is no valid one.
        """
        if isinstance(strength, Condition):
            return strength
        if strength is None and self.condition is not None:
            return self.condition
        return self.strength_or_recommended(strength)

    def strength_or_recommended(self, strength: float | None) -> float:
        """The strength that is named, else the recommended one, for all prompts.

        Raises:
            UsageError: If neither is there: without a diagnosis nothing is recommended; if the
                strength is none; or if none is named and the bias has a condition, which would be
                passed over.
        """
        if strength is not None:
            return check_strength(strength)
        if self.condition is not None:
            raise UsageError(
                "The strength of this bias depends on the prompt (its condition), which is not"
                " possible here.",
                "Name one for all prompts: --strength 1, in Python strength=1.0.",
            )
        if self.info.strength is None:
            raise UsageError(
                "This bias recommends no strength.",
                "Name one (--strength 1, in Python strength=1.0), or find one by tsdi.recommend or"
                " tsdi tune.",
            )
        return self.info.strength

    def logits_processor(
        self,
        prompt_length: int,
        strength: Strength | Sequence[Strength] | Tensor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> SafetyDebias:
        """A processor for ``model.generate(logits_processor=[...])``.

        Args:
            prompt_length: ``input_ids.shape[1]`` of the padded batch; 0 with ``inputs_embeds``.
            strength: Factor of the bias, one for all or one per row [batch]; None leaves it to the
                condition, or takes what the bias recommends.
            tokenizer: Tokenizer of the model; a bias that begins behind a marker finds it by the
                tokens' texts.

        Raises:
            UsageError: If a strength is none, or none is named and none recommended; or if the bias
                begins behind a marker and there is no tokenizer.
        """
        return SafetyDebias(self, prompt_length, strength, tokenizer)

    def check_no_anchor(self) -> None:
        """Raise UsageError if the bias begins behind a marker, for callers without anchors."""
        if self.info.anchor:
            raise UsageError(
                f"The bias begins behind {self.info.anchor!r}, which is not looked for here.",
                "Use tsdi's transformers engine, or estimate without --end-of-thinking.",
            )

    def with_diagnosis(self, strength: float, diagnosis: dict[str, Any]) -> "SafetyBias":
        """The bias with a recommended strength and its diagnosis, in place of a tuning."""
        found = {"strength": strength, "diagnosis": diagnosis, "tuning": {}, "measured": {}}
        info = self.info.model_copy(update=found)
        return SafetyBias(self.values, self.standard_error, info, self.condition, self.slope)

    def with_tuning(self, strength: float | None, evidence: dict[str, Any]) -> "SafetyBias":
        """The bias with a tuning's evidence, and its condition or a strength for all prompts."""
        found = {"strength": strength, "tuning": evidence, "measured": {}}
        info = self.info.model_copy(update=found)
        kept = self.condition if strength is None else None
        return SafetyBias(self.values, self.standard_error, info, kept, self.slope)

    def with_condition(self, condition: Condition | None) -> "SafetyBias":
        """The bias with a condition, which sets the strength where none is named.

        A tuning is left out, since it was of what the bias had before.

        Args:
            condition: Condition of `tsdi.fit_condition`; None removes the present one.

        Raises:
            MismatchError: If it was fitted with another tokenizer or chat template, or reads tokens
                that the bias has not.
            UsageError: If the bias begins behind a marker.
        """
        if condition is not None:
            hashes = self.info.tokenizer_sha256, self.info.template_sha256
            condition.check_belongs(*hashes, self.vocab)
            self.check_no_anchor()
        found: dict[str, Any] = {"measured": {}}
        if self.info.tuning and condition is not self.condition:
            found |= {"tuning": {}, "strength": self.info.diagnosis.get("strength")}
        info = self.info.model_copy(update=found)
        return SafetyBias(self.values, self.standard_error, info, condition, self.slope)

    def note_other(self, model: str) -> None:
        """Log it where the bias, or its condition, was made for another model than this."""
        if model != self.info.aligned:
            _LOG.info("The bias was estimated for %s; this is %s.", self.info.aligned, model)
        fitted = self.condition.evidence.get("model") if self.condition else None
        if fitted not in (None, model):
            _LOG.info("The condition was fitted to %s; this is %s.", fitted, model)

    def with_measured(self, figures: dict[str, Any]) -> "SafetyBias":
        """The bias with figures of the model as it is and debiased, for its card.

        They are of `tsdi.evaluation.measured.measured`.
        """
        info = self.info.model_copy(update={"measured": figures})
        return SafetyBias(self.values, self.standard_error, info, self.condition, self.slope)

    def check(
        self,
        tokenizer: PreTrainedTokenizerBase | None = None,
        model: PreTrainedModel | None = None,
    ) -> None:
        """Raise MismatchError unless the bias belongs to this tokenizer and fits this model."""
        if tokenizer is not None:
            self.info.check_tokenizer(tokenizer)
        if model is not None:
            self.check_width(vocabulary_width(model))

    def check_width(self, width: int) -> None:
        """Raise MismatchError unless the bias fits a model that gives this many logits."""
        if width < self.vocab or (width > self.vocab and self.info.tokenizer_size > self.vocab):
            raise MismatchError(
                f"The bias is for {self.vocab} tokens, the model has {width}.",
                "Use the model for which it was estimated.",
            )

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the bias to a folder of its own.

        Args:
            save_directory: The folder; a bias in it is replaced.
            options: As in huggingface_hub's ``ModelHubMixin``.

        Raises:
            UsageError: If the folder holds a model.
            FormatError: If the bias could not be read again (docs/reference/format.md).
        """
        if (Path(save_directory) / "config.json").exists():  # which the mixin would delete
            raise UsageError(
                f"{save_directory} holds a model (config.json).",
                "Save the bias in a folder of its own.",
            )
        return super().save_pretrained(save_directory, **options)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The model card: figures, diagnosis, tuning, provenance and use."""
        kwargs["body"] = card_body(self.info, (self.steps, self.vocab), self.condition)
        card = super().generate_model_card(*args, **kwargs)
        if self.info.aligned_revision:  # which models of the hub have
            card.data["base_model"] = self.info.aligned.partition("@")[0]
        return card

    def _save_pretrained(self, save_directory: Path) -> None:
        parts = self.values, self.standard_error, self.info, self.condition, self.slope
        write(save_directory, *parts)
        card = save_directory / "README.md"
        if card.exists() and MARK in card.read_text(encoding="utf-8", errors="replace"):
            card.unlink()  # of the bias that was there; the mixin writes this one's

    @classmethod
    def from_pretrained(  # type: ignore[override]  # every argument by name, no **kwargs
        cls,
        name: str | Path,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        model: PreTrainedModel | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> "SafetyBias":
        """Load a bias from a folder or the hub, and check it against tokenizer and model.

        Args:
            name: Folder, or hub id such as "org/bias" or "org/bias@revision".
            tokenizer: The tokenizer that it is to be used with.
            model: The model that it is to be used with.
            revision: Branch, tag or commit on the hub.
            cache_dir: As in huggingface_hub, like the rest.
            force_download: Download even what is in the cache.
            local_files_only: Take what is in the cache.
            token: The user's token for private repositories.

        Raises:
            FormatError: If there is no valid bias.
            MismatchError: If it is for another tokenizer, chat template or model.
        """
        how = {
            "revision": revision,
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
        }
        bias = SafetyBias(*read(str(name), how))
        bias.check(tokenizer, model)
        return bias
