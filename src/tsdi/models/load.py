"""Loading causal language models, adapters, classifiers and tokenizers, by name."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from tsdi.arguments import Name, as_name
from tsdi.errors import ModelError, UsageError
from tsdi.files import parse_json
from tsdi.models.fit import check_adapter_fit, check_finite, check_fit, check_kinds, check_quantiser
from tsdi.models.gguf_file import check_all_read, check_positions, fit_tokenizer, misshapen
from tsdi.models.names import REMEDY, check_is_model, locate
from tsdi.models.shipped import resolve_dtype, resolve_model

_ADAPTER = "adapter_config.json"
DTYPES = ("auto", "float32", "bfloat16", "float16")
_STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
"""Ways in which accelerate spreads a model over devices."""


@dataclass(frozen=True)
class LoadOptions:
    """Options of loading weights: data type, devices, and remote code.

    Attributes:
        dtype: One of ``DTYPES``; "auto" is what the checkpoint was saved in, and float32 for the
            models that come with tsdi.
        device_map: As in transformers ("auto", "cuda:1", ...); None loads to the best device.
        trust_remote_code: Run code that comes with the checkpoint; off unless asked for by name.
    """

    dtype: str = "auto"
    device_map: str | None = None
    trust_remote_code: bool = False

    def dtype_for(self, name: str) -> str:
        """The dtype to load a model of this name in."""
        return resolve_dtype(name, self.dtype)


def load_tokenizer(name: Name, options: LoadOptions = LoadOptions()) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder, a GGUF file or the hub.

    Args:
        name: Folder, GGUF file, hub id ("ORG/NAME" or "ORG/NAME@REVISION") or shipped model
            ("organism/aligned").
        options: Whether its code may run.

    Raises:
        ModelError: If there is none.
    """
    name = as_name("The tokenizer", name)
    place = locate(name)
    if not any(file.startswith("tokenizer") for file in place.files):
        base = adapter_base(name)
        if base is not None:
            return load_tokenizer(base, options)  # PEFT alone saves none
        if not any(file.startswith(("config.json", "vocab")) for file in place.files):
            check_is_model(name, place)  # says what it is instead
    with _load_errors(name, "tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            place.name, trust_remote_code=options.trust_remote_code, **place.arguments
        )
    if place.gguf is not None:
        tokenizer.name_or_path = name
        fit_tokenizer(place.gguf, tokenizer)
    return tokenizer


def load_model(
    name: Name,
    options: LoadOptions = LoadOptions(),
    arguments: Mapping[str, Any] = MappingProxyType({}),
) -> PreTrainedModel:
    """Load a causal language model, or an adapter with its base model, from a folder or the hub.

    Args:
        name: Folder, GGUF file, hub id ("ORG/NAME" or "ORG/NAME@REVISION") or shipped model
            ("organism/aligned").
        options: Options of loading the weights.
        arguments: Further ones of ``from_pretrained``, such as attn_implementation.

    Raises:
        ModelError: If there is no such model, or it is not a causal language model.
    """
    name = as_name("The model", name)
    adapter = adapter_base(name)
    if adapter is not None:
        model = load_model(adapter, options, arguments)
        return attach_adapter(model, name, "default")
    kind = generator_class(name, options)
    model = _load(kind, name, options, arguments)
    if resolve_model(name) != name:  # shown instead of where tsdi is installed
        model.config._name_or_path = name
    if kind is AutoModelForImageTextToText:
        _check_text_alone(name, model)
    return model


def load_classifier(name: str, options: LoadOptions = LoadOptions()) -> PreTrainedModel:
    """Load a sequence classifier from a folder or the hub.

    Raises:
        ModelError: If there is no such model, or its weights are not those of a trained classifier.
    """
    _check_options(options)
    return _load(AutoModelForSequenceClassification, name, options, {})


def _load(
    kind: Any, name: str, options: LoadOptions, arguments: Mapping[str, Any]
) -> PreTrainedModel:
    model = load_checked(
        kind,
        name,
        dtype=options.dtype,
        device_map=options.device_map or ("cuda" if torch.cuda.is_available() else None),
        trust_remote_code=options.trust_remote_code,
        **arguments,
    )
    model.eval()
    return model


def load_checked(kind: Any, name: str, **arguments: Any) -> PreTrainedModel:
    """Load a checkpoint by ``kind.from_pretrained``, and check that every tensor fits.

    The weights of a GGUF file become plain numbers, which can be trained and saved.

    Raises:
        ModelError: If there is no such model, or tensors are missing, left over or of another
            shape; transformers alone would go on with random ones.
        NumericalError: If a tensor has NaN or infinite numbers.
    """
    place = locate(name)
    check_is_model(name, place)
    check_quantiser(name, place)
    arguments["dtype"] = resolve_dtype(name, arguments.get("dtype") or "auto")
    if place.gguf is not None:  # kept packed they would be multiplied by code from the hub
        arguments["quantization_config"] = GgufConfig(dequantize=True)
    with _load_errors(name, "model"), _quiet():
        model, info = kind.from_pretrained(
            place.name,
            **arguments | place.arguments,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
        folder = place.here()
    if place.gguf is not None:
        info["mismatched_keys"] = {*info["mismatched_keys"], *misshapen(model)}
    check_fit(name, model, info)
    check_kinds(name, folder, model)
    check_finite(name, model.state_dict())
    if place.gguf is not None:
        check_all_read(name, place.gguf, model)
        model.name_or_path = model.config._name_or_path = name  # which adapters name as their base
    loaded: PreTrainedModel = model
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of transformers about faults that tsdi reports as errors."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def adapter_base(name: str) -> str | None:
    """The base model's name, with its revision if one is given, if ``name`` is a PEFT adapter.

    Raises:
        ModelError: If there is nothing of that name, or an adapter names no base model.
    """
    place = locate(name)
    if _ADAPTER not in place.files:
        return None
    with _load_errors(name, "adapter"):
        config = parse_json(place.fetch(_ADAPTER).read_bytes(), finite=False)
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"{name}/{_ADAPTER} names no base model.", "Save the adapter again with PEFT."
        )
    try:
        on_adapter = _ADAPTER in locate(base).files
    except ModelError as error:
        raise ModelError(f"{name} is an adapter on {base}. {error.problem}", error.remedy) from None
    if on_adapter:
        raise ModelError(
            f"{name} is an adapter on {base}, which is an adapter itself.",
            "Merge that one into its base model first.",
        )
    revision = config.get("revision")
    return f"{base}@{revision}" if revision and not Path(base).exists() else base


def attach_adapter(model: PreTrainedModel, name: str, adapter: str) -> PreTrainedModel:
    """Put a PEFT adapter on a base model.

    Raises:
        ModelError: If PEFT is not installed, or the adapter does not fit or changes no weights.
        NumericalError: If it has NaN or infinite numbers.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError(f"{name} is a PEFT adapter.", "pip install 'tsdi[peft]'") from error
    with _adapter_errors(name):
        folder = _weights_adapter(name)
        wrapped: Any = PeftModel.from_pretrained(model, folder, adapter_name=adapter)
        check_adapter_fit(wrapped, name, folder, adapter)
    attached: PreTrainedModel = wrapped.eval()
    return attached


def add_adapter(model: Any, name: str, adapter: str) -> None:
    """Put a further adapter on a model that has one.

    Raises:
        ModelError: If it does not fit, or not beside the other one.
        NumericalError: If it has NaN or infinite numbers.
    """
    with _adapter_errors(name):
        folder = _weights_adapter(name)
        model.load_adapter(folder, adapter)
        check_adapter_fit(model, name, folder, adapter)


def _weights_adapter(name: str) -> str:
    """The folder of an adapter that changes weights."""
    from peft import PeftConfig

    folder = adapter_folder(name)
    config = PeftConfig.from_pretrained(folder)
    if config.is_prompt_learning:
        kind = str(config.peft_type).removeprefix("PeftType.")
        raise ModelError(
            f"{name} is an adapter of the kind {kind}, which puts trained vectors"
            " before the prompt: these are not supported.",
            "Give one that changes weights, such as LoRA.",
        )
    return folder


def adapter_folder(name: str) -> str:
    """A folder with an adapter's files, downloaded if it is on the hub.

    Raises:
        ModelError: If there is no adapter in safetensors of that name.
    """
    place = locate(name)
    check_is_model(name, place)
    return place.folder("adapter_*")


@contextmanager
def _adapter_errors(name: str) -> Iterator[None]:
    with _load_errors(name, "adapter"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found missing adapter keys")  # refused by name instead
        yield


def _check_options(options: LoadOptions) -> None:
    if options.dtype not in DTYPES:
        raise UsageError(f"Unknown dtype {options.dtype!r}.", f"Choose from {', '.join(DTYPES)}.")
    if options.device_map not in (None, *_STRATEGIES):
        _check_device(options.device_map)


def _check_device(name: str) -> None:
    """Raise UsageError for a device that PyTorch does not know, or this machine does not have."""
    has = "cpu or cuda:0" if torch.cuda.is_available() else "cpu"
    remedy = f"Take {', '.join(_STRATEGIES)}, or a device such as {has}."
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"Unknown device map {name!r}.", remedy) from None
    kind = device.type
    if kind == "meta":
        raise UsageError("The device map 'meta' loads no weights.", remedy)
    backend = getattr(torch, kind, None)
    if backend is not None and (device.index or 0) >= backend.device_count():
        raise UsageError(f"PyTorch finds no {name} on this machine.", remedy)


def generator_class(name: str, options: LoadOptions = LoadOptions()) -> Any:
    """The class of transformers that loads a model to generate text from text.

    Of vision-language models the language side is used.

    Raises:
        ModelError: If there is no such model, or it does not generate text left to right.
    """
    _check_options(options)
    place = locate(name)
    check_is_model(name, place)
    if place.is_export and options.trust_remote_code:  # its bias, and then ours
        raise UsageError(f"{name} is an export of tsdi.", "Leave out --trust-remote-code.")
    with _load_errors(name, "model"):
        config = AutoConfig.from_pretrained(
            place.name, trust_remote_code=options.trust_remote_code, **place.arguments
        )
    if place.gguf is not None:
        check_positions(name, place.gguf, config)
    kind = _kind(config)
    if kind is None and not options.trust_remote_code:
        raise ModelError(
            f"{name} is a {config.model_type} model, not a causal language model.",
            "tsdi needs one that generates text left to right.",
        )
    return kind or AutoModelForCausalLM


def _kind(config: PretrainedConfig) -> Any:
    saved_as = " ".join(config.architectures or ["CausalLM"])
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        return None
    seeing = AutoModelForImageTextToText._model_mapping.get(type(config), None)
    if getattr(seeing, "__name__", None) in saved_as.split():
        return AutoModelForImageTextToText
    # transformers would also turn an encoder such as BERT into something that looks causal.
    causal = any(part in saved_as for part in ("CausalLM", "LMHead", "ConditionalGeneration"))
    known = type(config) in AutoModelForCausalLM._model_mapping
    return AutoModelForCausalLM if causal and known else None


@torch.no_grad()
def _check_text_alone(name: str, model: PreTrainedModel) -> None:
    """Raise ModelError unless a model that also sees answers to text without a picture."""
    ids = torch.tensor([[0, 1, 2]], device=model.device)
    try:
        call: Any = model
        fits = call(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape[:2] == (1, 3)
    except Exception:  # whatever it asks of a picture that is none
        fits = False
    if not fits or model.get_output_embeddings() is None:
        raise ModelError(
            f"{name} is a {model.config.model_type} model, which reads no text without a picture.",
            "tsdi needs one that generates text from text alone.",
        )


@contextmanager
def _load_errors(name: str, what: str) -> Iterator[None]:
    remedy = REMEDY
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, ImportError, RuntimeError) as error:
        reason = _reason(error)
        if should_reduce_batch_size(error):
            remedy = "Memory is too short: take --dtype bfloat16 or --device-map auto."
        elif "trust_remote_code" in str(error):
            remedy = "It needs code of its own: read that, then add --trust-remote-code."
        elif "gated repo" in str(error):
            remedy = "Accept its licence on its page on the hub, then log in: hf auth login."
        there = "the file" if Path(name).is_file() else "the folder"
        place = there if Path(name).exists() else "from the hub"
        raise ModelError(f"Cannot load the {what} of {name} ({place}): {reason}", remedy) from error
    except Exception as error:  # safetensors raises its own class for a truncated file
        if type(error).__name__ != "SafetensorError":
            raise
        raise ModelError(
            f"Cannot load the {what} of {name}: a weight file is damaged ({error}).",
            "Copy or download it again.",
        ) from error


def _reason(error: Exception) -> str:
    """The first line of a library's error, and the second where the first only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if isinstance(error, KeyError):
        return f"it lacks {lines[0]}"
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
