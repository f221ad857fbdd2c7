"""Conditions and controls of a study, fitted to its labelled prompts, once for each model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.baselines.conditions import fit_log_odds, fit_top, shuffled
from tsdi.bias.knobs import Strengths
from tsdi.bias.refusal_log_odds import Phrases
from tsdi.condition import Condition, Fitting, Labelled
from tsdi.condition.discriminant import fit_direction
from tsdi.condition.prompts import HeadInputs, read_labelled
from tsdi.condition.tokens import read_head, to_tokens
from tsdi.models.chat import ChatFormat, template_sha256, tokenizer_sha256
from tsdi.models.compatibility import tokenizer_size
from tsdi.study.settings import Setting


@dataclass
class Conditions:
    """Cached conditions by model, by labels (true or shuffled), and by visible logits.

    Attributes:
        tokenizer: The tokenizer of all models.
        prompts: Labelled prompts of the fits.
        phrases: Beginnings of refusing and complying answers.
        openers: First tokens of these.
        chat_format: Chat format of the prompts.
        seed: Seed of shuffled labels.
    """

    tokenizer: PreTrainedTokenizerBase
    prompts: Sequence[Labelled]
    phrases: Phrases
    openers: tuple[list[int], list[int]]
    chat_format: ChatFormat
    seed: int
    _read: dict[str, HeadInputs] = field(default_factory=dict, init=False)
    _fitted: dict[tuple[str, str, str], Condition] = field(default_factory=dict, init=False)

    def of(self, name: str, model: PreTrainedModel, setting: Setting) -> Condition:
        """A model's condition with the strengths of a setting."""
        labels, sees = str(setting["labels"]), str(setting["sees"])
        key = name, labels, sees
        if key not in self._fitted:
            self._fitted[key] = self._fit(model, self._labelled(name, model, labels), sees)
        keys = ("low", "high", "width", "threshold")
        by = Strengths(*(float(setting.get(one) or 0.0) for one in keys))
        return replace(
            by.of(self._fitted[key]),
            tokenizer_sha256=tokenizer_sha256(self.tokenizer),
            template_sha256=template_sha256(self.tokenizer, self.chat_format),
        )

    def _labelled(self, name: str, model: PreTrainedModel, labels: str) -> HeadInputs:
        if name not in self._read:
            self._read[name] = read_labelled(
                model, self.tokenizer, self.prompts, self.phrases, batch_size=32
            )
        known = self._read[name]
        return known if labels == "own" else shuffled(known, self.seed)

    def _fit(self, model: PreTrainedModel, known: HeadInputs, sees: str) -> Condition:
        if sees == "log-odds":
            return fit_log_odds(model, known, *self.openers)
        if sees == "top-20":
            return fit_top(model, known, tokenizer_size(self.tokenizer))
        direction = fit_direction(known.inputs, known.harmful, known.groups)
        linear = read_head(model, self.tokenizer, known.inputs.shape[1])
        found = to_tokens(direction, known.inputs, linear, Fitting().tokens)
        return Condition(found.tokens, found.weights, found.intercept)
