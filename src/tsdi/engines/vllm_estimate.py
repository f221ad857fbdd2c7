"""A model's logits over random prompts, added up in vLLM (`tsdi.engines.vllm_sums`)."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tsdi.bias.accumulate import GroupSums
from tsdi.bias.random_prompts import RandomPrompts
from tsdi.engines.vllm import close_llm, dtype_of, open_llm
from tsdi.engines.vllm_settings import SUMMING
from tsdi.errors import ModelError, NumericalError, UsageError
from tsdi.models.fingerprint import fingerprint
from tsdi.models.load import LoadOptions, adapter_base
from tsdi.models.names import check_no_export, locate

KIND = "vllm_logits"


class VllmSums:
    """Sums of one model's logits over random prompts, in groups k mod `groups`.

    The logits are those that vLLM draws from, so of its kernels and its quantisation. The model is
    loaded when the first prompts are added.

    Args:
        model: Folder or hub id.
        prompts: The random prompts.
        groups: Number of groups.
        options: Options of loading the weights.
        args: vLLM's own arguments.

    Raises:
        UsageError: If the model is an adapter, or an export of tsdi.
    """

    def __init__(
        self,
        model: str,
        prompts: RandomPrompts,
        groups: int,
        options: LoadOptions,
        args: Mapping[str, Any],
    ) -> None:
        check_no_export(model)
        if adapter_base(model) is not None:
            raise UsageError(
                f"{model} is an adapter; vLLM adds the logits of whole models.",
                "Merge it into its base model first, or take --engine transformers.",
            )
        self._model, self._prompts, self._groups = model, prompts, groups
        self._options, self._args = options, args
        self._llm: Any = None

    @property
    def revision(self) -> str | None:
        """The commit of a model from the hub."""
        return locate(self._model).revision

    @property
    def origin(self) -> str:
        """The identity of prompts, groups and model, as of `tsdi.bias.accumulate.GroupSums`."""
        used = json.dumps(dict(self._args), sort_keys=True)
        dtype = dtype_of(self._model, self._options)
        made = f"{self._prompts.sha256} groups={self._groups} model={self._model}"
        return f"{made} vllm {dtype} {self.revision} {used} files={fingerprint(self._model)}"

    def add(self, start: int, stop: int) -> GroupSums:
        """The sums over random prompts start to stop - 1.

        Raises:
            ModelError: If vLLM cannot load the model, or has read a prompt in parts or twice.
            NumericalError: If the model gives NaN or infinite numbers.
        """
        from vllm import SamplingParams, TokensPrompt

        llm, steps = self.open(), self._prompts.steps
        rows = self._prompts.ids(start, stop).tolist()
        read = self._prompts.length - steps + 1
        asked = [
            SamplingParams(
                temperature=0.0,
                max_tokens=steps,
                ignore_eos=True,
                detokenize=False,
                extra_args={
                    "tsdi_group": number % self._groups,
                    "tsdi_forced": [*row[read:], row[-1]],  # what the last step gives is not read
                },
            )
            for number, row in enumerate(rows, start)
        ]
        prompts = [TokensPrompt(prompt_token_ids=row[:read]) for row in rows]
        llm.generate(prompts, asked, use_tqdm=False)
        sums, counts = self._take(llm)
        wanted = torch.bincount(torch.arange(start, stop) % self._groups, minlength=self._groups)
        self._check(sums, counts, wanted)
        return GroupSums(KIND, self.origin, ((start, stop),), wanted, sums)

    def close(self) -> None:
        """Give the model's memory back."""
        if self._llm is not None:
            close_llm(self._llm)
            self._llm = None

    def open(self) -> Any:
        """The model in vLLM, loaded if it is not yet."""
        if self._llm is None:
            own = {
                **SUMMING,
                "max_model_len": self._prompts.length + 1,
                "max_num_batched_tokens": max(8192, self._prompts.length + 1),
                "additional_config": {
                    "tsdi_sums": {"groups": self._groups, "steps": self._prompts.steps}
                },
            }
            self._llm = open_llm(self._model, self._options, **{**own, **self._args})
        return self._llm

    def _take(self, llm: Any) -> tuple[Tensor, Tensor]:
        with TemporaryDirectory(prefix="tsdi-sums-") as folder:
            path = Path(folder) / "sums.safetensors"
            llm.collective_rpc("take_sums", args=(str(path),))
            taken = load_file(path)
        return taken["sums"], taken["counts"]

    def _check(self, sums: Tensor, counts: Tensor, wanted: Tensor) -> None:
        if not counts.equal(wanted[:, None].expand_as(counts)):
            raise ModelError(
                "vLLM has read a prompt in parts, or again, so that the sums are wrong.",
                "Give --engine-arg enable_chunked_prefill=false, and a lower max_num_seqs.",
            )
        if not bool(sums.isfinite().all()):
            raise NumericalError(
                f"{self._model} gives NaN or infinite logits in vLLM.",
                "Check its weights, or take --dtype float32 or bfloat16.",
            )
