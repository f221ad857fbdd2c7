"""Settings of estimating a bias."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tsdi.arguments import check_counts, check_number, check_whole
from tsdi.bias.pool import TokenPool
from tsdi.bias.random_prompts import RandomPrompts, random_prompts
from tsdi.errors import UsageError
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat


@dataclass(frozen=True)
class Estimation:
    """Settings that decide a bias's numbers, but for the two models.

    Attributes:
        prompts: Number of random prompts, at most.
        steps: Response positions to estimate.
        prompt_tokens: Random tokens in a prompt, those of the template not counted.
        pool: Token pool, or its name as in ``TokenPool.from_name``.
        ngram: Pool tokens that are drawn together, as they follow one another.
        seed: Decides the random prompts.
        groups: Groups for the batch-means error.
        target_error: Stop at the first of 2, 4, 8, ... prompts per group at which the root mean
            square over tokens of the standard error is at most this at every step, in logits.
        chat: Chat format of prompts; default: the tokenizer's own chat template.
        anchor: End-of-thinking marker after which step 0 is, such as "</think>".
        reference_format: Prompt format in which the reference reads the same random tokens, such as
            that of a base model; None is the aligned model's.

    Raises:
        UsageError: If there are too few prompts or groups for an error, or the target is none.
    """

    prompts: int = 512
    steps: int = 16
    prompt_tokens: int = 48
    pool: TokenPool | str = "neutral"
    ngram: int = 1
    seed: int = 0
    groups: int = 16
    target_error: float | None = None
    chat: ChatFormat = OWN_TEMPLATE
    anchor: str = ""
    reference_format: str | None = None

    def __post_init__(self) -> None:
        check_counts(self, "prompts", "steps", "prompt_tokens", "ngram", "groups")
        check_whole("seed", self.seed, 0)
        if self.groups < 2 or self.prompts < self.groups:
            raise UsageError(
                f"{self.prompts} random prompts in {self.groups} groups give no standard error.",
                "Take at least 2 groups and at least as many prompts as groups.",
            )
        if self.target_error is not None:
            check_number("target_error", self.target_error, above=0)

    @property
    def looks(self) -> list[int]:
        """Numbers of prompts at which the error is looked at, the last one being all of them."""
        looks, number = [], 2 * self.groups
        while self.target_error is not None and number < self.prompts:
            looks.append(number)
            number *= 2
        return [*looks, self.prompts]

    @property
    def reference_chat(self) -> ChatFormat:
        """The chat format in which the reference reads prompts."""
        return self.chat if self.reference_format is None else ChatFormat(self.reference_format)

    def random_prompts(self, tokenizer: PreTrainedTokenizerBase) -> RandomPrompts:
        """The endless list of random prompts for a tokenizer."""
        return random_prompts(
            tokenizer,
            TokenPool.from_name(self.pool, tokenizer),
            prompt_tokens=self.prompt_tokens,
            steps=self.steps,
            seed=self.seed,
            chat_format=self.chat,
            anchor=self.anchor,
            ngram=self.ngram,
        )
