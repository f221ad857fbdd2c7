"""Checkpoints that decode debiased in transformers and its server."""

import hashlib
import shutil
from pathlib import Path

from tsdi.bias import SafetyBias
from tsdi.bias.value import TENSORS_FILE
from tsdi.errors import ModelError, UsageError
from tsdi.files import parse_json, write_bytes, write_folder
from tsdi.names import locate

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

**Only with the flag:** load with `trust_remote_code=True`, or serve by `transformers serve
--trust-remote-code`. Without it transformers does not say so and decodes plainly, as {model}
does; so does continuous batching, which calls no `generate`, and so does every other engine
(use tsdi's processors there).

Strength 0 in a call decodes plainly: `model.generate(..., tsdi_strength=0.0)`. Measure safety by
category on your own prompts before you deploy it: what a refusal owed to the bias alone goes, too.
"""


def write_checkpoint(
    bias: SafetyBias, strength: float, source: str, out: Path, name: str, *, link: bool = False
) -> None:
    """Write a copy of a checkpoint that decodes debiased when its own code is trusted.

    Args:
        bias: The safety bias, checked against the model's tokenizer by the caller.
        strength: How much of it is subtracted.
        source: Folder or hub id of the model.
        out: A folder that does not exist yet; it appears whole or not at all.
        name: What the model card calls the model.
        link: Link to the model's files instead of copying them.

    Raises:
        UsageError: If the bias begins behind a marker, or the model brings code of its own.
        ModelError: If the model's files cannot be had.
        TsdiError: If the folder cannot be written.
    """
    bias.check_no_anchor()
    files = _files(source)
    if out.resolve().is_relative_to(files.resolve()):
        raise UsageError(f"{out} is inside the model's folder.", "Name a folder of its own.")
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
    info = bias.info.model_copy(update={"strength": strength})
    with write_folder(out) as made:
        ignored = shutil.ignore_patterns(".git", ".cache")
        copy = _link if link else shutil.copy2
        shutil.copytree(files, made, ignore=ignored, dirs_exist_ok=True, copy_function=copy)
        (made / "README.md").unlink(missing_ok=True)  # not through a link
        (made / "custom_generate").mkdir()
        SafetyBias(bias.values, bias.standard_error, info).save_pretrained(made / "tsdi")
        digest = hashlib.sha256((made / "tsdi" / TENSORS_FILE).read_bytes()).hexdigest()
        code = _GENERATE.read_text(encoding="utf-8")
        code = code.replace('BIAS_SHA256 = ""', f'BIAS_SHA256 = "{digest}"')
        code = code.replace("STRENGTH = 1.0", f"STRENGTH = {strength!r}")
        write_bytes(made / "custom_generate" / "generate.py", code.encode())
        write_bytes(made / "README.md", card.encode())


def brings_code(files: Path) -> bool:
    """Whether a checkpoint has code that would run once code is trusted: its own, or elsewhere."""
    configs = (parse_json(file.read_bytes(), finite=False) for file in files.glob("*config*.json"))
    named = any(isinstance(config, dict) and config.get("auto_map") for config in configs)
    return named or any(files.rglob("*.py"))


def _link(source: str, place: str) -> None:
    Path(place).symlink_to(Path(source).resolve())


def _files(model: str) -> Path:
    place = locate(model)
    try:
        return Path(place.folder())
    except Exception as error:  # the hub raises a dozen kinds
        raise ModelError(
            f"The files of {model} cannot be had: {str(error).splitlines()[0]}",
            "Name a folder, or a model of the hub.",
        ) from error
