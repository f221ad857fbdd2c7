"""The tokenizer and the new model that a recipe's runs start from."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tsdi.errors import MismatchError, ModelError
from tsdi.models.chat import fix_arguments
from tsdi.models.load import load_tokenizer
from tsdi.training.new_model import new_model, new_tokenizer, save_with_tokenizer
from tsdi.training.recipe import Merge, Recipe
from tsdi.training.sources import Data


def starting_tokenizer(recipe: Recipe, start: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that a run starts from, with the recipe's chat template."""
    tokenizer = load_tokenizer(start)
    set_template(recipe, tokenizer)
    if start == recipe.model.load:  # later stages find them in the template
        fix_arguments(tokenizer, recipe.model.template_args)
    return tokenizer


def set_template(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer the recipe's prompt format as chat template, and a token for padding.

    Raises:
        ModelError: If it has no chat template then.
        MismatchError: If it has no end-of-text token.
    """
    if recipe.model.prompt_format is not None:
        tokenizer.chat_template = _template(recipe.model.prompt_format, tokenizer)
    if tokenizer.chat_template is None:
        raise ModelError(
            f"The model {recipe.model.load!r} has no chat template.",
            'Say how it is asked: `prompt_format: "USER: {prompt} ASSISTANT:"` under `model`.',
        )
    if tokenizer.eos_token is None:
        raise MismatchError(f"The tokenizer of {recipe.model.load!r} has no end-of-text token.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def _template(prompt_format: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template that asks as `tsdi.models.chat.encode_chat` does with a prompt format."""
    before, after = prompt_format.split("{prompt}")
    bos = tokenizer.bos_token
    adds_bos = bool(bos) and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    begin = "{{ bos_token }}" if adds_bos and not before.startswith(str(bos)) else ""
    return (
        f"{begin}{{% for message in messages %}}"
        "{% if message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}"
        f"{{% else %}}{{{{ {before!r} + message['content'] + {after!r} }}}}{{% endif %}}"
        "{% endfor %}"
    )


def save_new(recipe: Recipe, seed: int, data: Data, folder: Path) -> None:
    """Save a recipe's new model, and a tokenizer trained on the text of its first stage."""
    assert recipe.model.new is not None
    first = next(stage for stage in recipe.stages.values() if not isinstance(stage, Merge))
    examples = data.examples(first.data, getattr(first, "prefer", None))
    texts = (f"{example.prompt}\n{example.answer}" for example in examples)
    tokenizer = new_tokenizer(texts, recipe.model.new.vocabulary)
    model = new_model(recipe.model.new, tokenizer, seed)
    save_with_tokenizer(folder, model, tokenizer)
