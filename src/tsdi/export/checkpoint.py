"""Checkpoints that decode debiased in transformers and its server."""

import os
import shutil
from pathlib import Path
from typing import Any

from tsdi.bias import SafetyBias
from tsdi.bias.file import TENSORS_FILE
from tsdi.bias.info import BiasInfo
from tsdi.errors import ModelError, UsageError
from tsdi.files import file_sha256, parse_json, write_bytes, write_folder
from tsdi.models.chat import fix_arguments, template_sha256
from tsdi.models.load import load_tokenizer
from tsdi.models.names import locate

_LEFT_OUT = (".git", ".cache")
_COPY = "Put the file itself there, or delete it."
_GENERATE = Path(__file__).with_name("custom_generate.py")
_CARD = """---
library_name: transformers
tags: [custom_generate, tsdi, over-refusal]
base_model: {model}
---

# {model}, debiased while decoding

The weights are those of {model}. `custom_generate/generate.py` subtracts a safety bias (`tsdi/`,
{steps} steps, strength {strength:g}) from the logits of the first response tokens: TSDI, arXiv
2502.02153. The bias was estimated as {aligned} minus {reference}.

**Only with the flag:** load with `trust_remote_code=True`. Without it transformers does not say so
and decodes plainly, as {model} does; so does continuous batching, which calls no `generate`, and so
does every other engine (use tsdi's processors there).

**To serve it, take `tsdi serve {model} --bias BIAS --engine transformers`.** `transformers serve
--trust-remote-code` trusts every model and not this one alone: whoever reaches the server may have
it load any folder or repository (`POST /load_model`), whose code then runs on your machine.

Strength 0 in a call decodes plainly: `model.generate(..., tsdi_strength=0.0)`. Measure safety by
category on your own prompts before you deploy it: what a refusal owed to the bias alone goes, too.
"""


def write_checkpoint(bias: SafetyBias, strength: float, source: str, out: Path, name: str) -> None:
    """Write a copy of a checkpoint that decodes debiased when its own code is trusted.

    The caller has checked the bias against the tokenizer. The folder does not exist yet, and
    appears whole or not at all.

    Raises:
        UsageError: If the bias begins behind a marker, or the model brings code of its own.
        ModelError: If the model's files cannot be had, or are no files of its own.
        TsdiError: If the folder cannot be written.
    """
    bias.check_no_anchor()
    bias.check_order_0("--to transformers")
    files = _files(source)
    if out.resolve().is_relative_to(files.resolve()):
        raise UsageError(f"{out} is inside the model's folder.", "Name a folder of its own.")
    check_files(files)
    if brings_code(files):
        raise UsageError(
            f"{name} comes with code of its own, which would be trusted along with ours.",
            "Take another engine.",
        )
    card = _CARD.format(
        model=name,
        steps=bias.steps,
        strength=strength,
        aligned=bias.info.aligned,
        reference=bias.info.reference,
    )
    with write_folder(out) as made:
        ignored = shutil.ignore_patterns(*_LEFT_OUT)
        shutil.copytree(files, made, ignore=ignored, dirs_exist_ok=True)
        info = _at_strength(bias.info, strength).model_copy(update=_fix_template(made, bias))
        (made / "custom_generate").mkdir()
        SafetyBias(bias.values, bias.standard_error, info).save_pretrained(made / "tsdi")
        digest = file_sha256(made / "tsdi" / TENSORS_FILE)
        code = _GENERATE.read_text(encoding="utf-8")
        code = code.replace('BIAS_SHA256 = ""', f'BIAS_SHA256 = "{digest}"')
        code = code.replace("STRENGTH = 1.0", f"STRENGTH = {strength!r}")
        write_bytes(made / "custom_generate" / "generate.py", code.encode())
        write_bytes(made / "README.md", card.encode())


def _at_strength(info: BiasInfo, strength: float) -> BiasInfo:
    """Provenance with a strength; one that is not what the bias recommends is in its history."""
    if strength == info.strength:
        return info
    history = (*info.history, f"strength {strength}")
    return info.model_copy(update={"strength": strength, "history": history})


def _fix_template(made: Path, bias: SafetyBias) -> dict[str, Any]:
    """Write the bias's template arguments into the template; returns changed config fields."""
    if not bias.info.template_args:
        return {}
    tokenizer = load_tokenizer(str(made))
    fix_arguments(tokenizer, bias.info.template_args)
    write_bytes(made / "chat_template.jinja", str(tokenizer.chat_template).encode())
    return {"template_args": {}, "template_sha256": template_sha256(tokenizer)}


def check_files(folder: Path) -> None:
    """Raise ModelError unless a model's files are files of its own.

    A link to a file elsewhere would become a file of the copy, whatever it holds. The hub's cache
    links every file of a snapshot to one in the same repository's ``blobs``.
    """
    own = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        own.append(folder.resolve().parents[1] / "blobs")
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        for name in folders + files:
            path = Path(place, name)
            target = path.resolve()
            if path.is_symlink() and not any(map(target.is_relative_to, own)):
                raise ModelError(f"{path} is a link to {target}, outside the model.", _COPY)
            if not (target.is_file() or (path.is_dir() and not path.is_symlink())):
                raise ModelError(f"{path} is neither a file nor a folder.", _COPY)


def brings_code(files: Path) -> bool:
    """Whether a checkpoint has code that would run once code is trusted: its own, or elsewhere.

    Raises:
        ModelError: If a file that may name code cannot be read.
    """
    configs = map(_read_json, files.glob("*config*.json"))
    named = any(isinstance(config, dict) and config.get("auto_map") for config in configs)
    return named or any(files.rglob("*.py"))


def _read_json(file: Path) -> Any:
    try:
        return parse_json(file.read_bytes(), finite=False)
    except ValueError as error:
        raise ModelError(f"{file} is no JSON: {error}.", "Copy or download it again.") from error


def _files(model: str) -> Path:
    place = locate(model)
    try:
        return Path(place.folder())
    except ModelError:
        raise
    except Exception as error:  # the hub raises a dozen kinds
        raise ModelError(
            f"The files of {model} cannot be had: {str(error).splitlines()[0]}",
            "Name a folder, or a model of the hub.",
        ) from error
