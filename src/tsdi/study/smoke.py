"""Studies made small enough to be tried out in minutes, on any machine, without downloads."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdi.files import read_object, write_json
from tsdi.study.config import Study
from tsdi.study.members import members

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTS = {"harmless": 12, "lookalike": 12, "harmful": 32}
STEPS = 4
SEEDS = 3
_HIDDEN, _LAYERS, _HEADS, _CONTEXT = 32, 2, 2, 512


def shrink(study: Study, base: Path, out: Path) -> tuple[Study, Path]:
    """The same study with tiny models and prompts in the place of its own.

    Organisms are trained for a few steps. Models become random ones of the same architecture as far
    as it is known without a download (Llama otherwise), every one with weights of its own, with a
    tokenizer trained on tsdi's own neutral text; prompts become the organism's, and the judge
    refusal phrases. So all of the study's code is run, and its figures mean nothing.

    Args:
        study: The study.
        base: Where its relative paths start.
        out: The study's folder; models are put there.

    Returns:
        The small study, and where its paths start.
    """
    content = study.model_dump(mode="json", exclude_defaults=True)
    content["generation"] = {"max_new_tokens": 8, "batch_size": 32, "dtype": "float32"}
    content["estimation"] = study.estimation.model_dump(mode="json", exclude_defaults=True)
    content["estimation"] |= {"prompts": 32, "steps": STEPS, "prompt_tokens": 8}
    content["prompts"] = {
        split: [{"load": f"organism:{split}", "limit": PROMPTS}] for split in ("validation", "test")
    }
    content["title"] = f"{study.title} (smoke: the figures mean nothing)"
    for entry in content["rules"]:
        settings = entry.get("settings", {})
        if "steps" in settings:
            settings["steps"] = list(dict.fromkeys(min(n, STEPS) for n in settings["steps"]))
    if study.organism is not None:
        content["organism"] |= {"smoke": True, "iterations": [1, 2]}
        content["organism"]["betas"] = content["organism"]["betas"][:2]
        content["organism"]["seeds"] = content["organism"]["seeds"][:SEEDS]
        content.pop("main", None)
        content["ks"] = [1, 2]
        return Study.model_validate(content), base
    content["estimation"]["pool"] = "neutral"
    content["judge"] = {"name": "refusal-phrases"}
    folder = (out / "smoke-models").resolve()
    content["models"] = [_in_folder(model, folder) for model in content["models"]]
    small = Study.model_validate(content)
    paths = {path for member in members(small, base, out) for path in member.paths.values()}
    _random_models(folder, sorted(Path(path).name for path in paths))
    return small, base


def _in_folder(model: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A study's model with its paths in the folder of the tiny ones."""

    def place(path: str) -> str:
        return str(folder / _flat(path))

    changed = dict(model)
    for key in ("path", "reference", "sft"):
        if key in model:
            changed[key] = place(model[key])
    if "proxy" in model:
        changed["proxy"] = [place(path) for path in model["proxy"]]
    if "others" in model:
        changed["others"] = {name: place(path) for name, path in model["others"].items()}
    return changed


def _flat(name: str) -> str:
    """A name as one folder's, with the grid's keys left as they are."""
    return name.replace("/", "--")


def _random_models(folder: Path, names: Iterable[str]) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    note = folder / "models.json"
    wanted = json.loads(json.dumps({"names": list(names), "hidden": _HIDDEN}))
    if note.exists() and read_object(note, "Delete its folder.") == wanted:
        return
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        max_position_embeddings=_CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=_HIDDEN,
        intermediate_size=2 * _HIDDEN,
        num_hidden_layers=_LAYERS,
    )
    for number, name in enumerate(wanted["names"]):
        torch.manual_seed(number)
        LlamaForCausalLM(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    write_json(note, wanted)


def _tokenizer() -> "PreTrainedTokenizerBase":
    from importlib.resources import files

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    text = files("tsdi.bias").joinpath("neutral.txt").read_text(encoding="utf-8")
    special = ["<pad>", "<s>", "</s>"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        text.splitlines(),
        trainers.BpeTrainer(
            vocab_size=512,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} {% endfor %}"
        "[assistant]"
    )
    return tokenizer
