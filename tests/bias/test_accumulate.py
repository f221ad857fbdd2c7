"""Partial results: they merge exactly, survive a kill, and shrink batches where memory is short."""

import itertools
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from tests import tiny
from tsdi.bias import Estimation, TokenPool, estimate_bias
from tsdi.bias import accumulate as sums
from tsdi.bias.accumulate import GroupSums, Summing, accumulate, group_means
from tsdi.errors import FormatError, MismatchError, ModelError, UsageError

GROUPS = 4


@pytest.fixture(scope="module", params=["llama", "gemma2"], ids=["head inputs", "streaming"])
def model(request):
    return tiny.model(request.param)


def part(model, start, stop, **changes):
    kept = {key: changes.pop(key) for key in ("groups", "name", "files", "kind") if key in changes}
    summing = Summing(**{"groups": GROUPS, "name": "tiny", **kept})
    options = {"batch_size": 8, **changes}
    return accumulate(
        model, options.pop("prompts", tiny.prompts()), start, stop, summing, **options
    )


class TestMerging:
    RANGES = ((0, 5), (5, 16), (16, 24))

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_parts_in_any_order_equal_the_single_run(self, model, order):
        parts = [part(model, *self.RANGES[i]) for i in order]
        merged, single = parts[0].merge(parts[1]).merge(parts[2]), part(model, 0, 24)
        assert merged.ranges == single.ranges == ((0, 24),)
        assert merged.prompts == 24
        assert torch.equal(merged.counts, single.counts)
        assert tiny.error(merged.sums, single.sums) < 1e-6
        assert tiny.error(group_means(model, merged), group_means(model, single)) < 1e-5

    def test_prompt_k_is_in_group_k_mod_g(self, model):
        assert part(model, 5, 7).counts.tolist() == [0, 1, 1, 0]

    def test_a_gap_is_kept_on_record(self, model):
        assert part(model, 8, 10).merge(part(model, 0, 4)).ranges == ((0, 4), (8, 10))

    @pytest.mark.parametrize("other", [(0, 8), (7, 9), (2, 3)])
    def test_prompts_counted_twice_are_refused(self, model, other):
        with pytest.raises(MismatchError, match="overlap"):
            part(model, 0, 8).merge(part(model, *other))

    @pytest.mark.parametrize(
        "changes",
        [
            {"prompts": tiny.prompts(seed=1)},
            {"prompts": tiny.prompts(prompt_tokens=7)},
            {"prompts": tiny.prompts(steps=2)},
            {"groups": 2},
            {"name": "another"},
        ],
        ids=["seed", "length", "steps", "groups", "model"],
    )
    def test_parts_of_different_estimates_are_refused(self, model, changes):
        with pytest.raises(MismatchError, match="do not belong to one estimate"):
            part(model, 0, 8).merge(part(model, 8, 12, **changes))

    def test_the_two_paths_cannot_be_mixed(self):
        model = tiny.model()
        with pytest.raises(MismatchError):
            part(model, 0, 8, kind="logits").merge(part(model, 8, 12, kind="head_inputs"))

    def test_an_empty_group_has_no_mean(self, model):
        with pytest.raises(UsageError, match="3 random prompts do not fill 4 groups"):
            group_means(model, part(model, 0, 3))

    @pytest.mark.parametrize("bounds", [(4, 4), (5, 4), (-1, 3)])
    def test_an_empty_range_is_refused(self, model, bounds):
        with pytest.raises(UsageError, match="No prompts to run"):
            part(model, *bounds)


class TestFile:
    def test_round_trip(self, model, tmp_path):
        made = part(model, 0, 4).merge(part(model, 8, 12))
        made.save(tmp_path / "part.safetensors")
        read = GroupSums.load(tmp_path / "part.safetensors")
        assert (read.kind, read.origin, read.ranges) == (made.kind, made.origin, made.ranges)
        assert torch.equal(read.counts, made.counts)
        assert torch.equal(read.sums, made.sums)

    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "part.safetensors"
        part(tiny.model(), 0, 8).save(path)
        return path

    @pytest.mark.parametrize("kept", [0, 7, 100, -1])
    def test_a_truncated_file_is_refused(self, file, kept):
        file.write_bytes(file.read_bytes()[:kept])
        self.refused(file)

    @pytest.mark.parametrize(
        "tensors",
        [
            {"weight": torch.zeros(2)},
            {"counts": torch.ones(4), "sums": torch.zeros(4, 1, 1), "ranges": torch.zeros(3)},
            {"counts": torch.ones(3), "sums": torch.zeros(4, 1, 1), "ranges": torch.zeros(1, 2)},
        ],
        ids=["foreign", "ranges no pairs", "counts for other groups"],
    )
    def test_other_tensors_are_refused(self, file, tensors):
        safetensors.torch.save_file(tensors, file, {"kind": "logits", "origin": "x"})
        self.refused(file)

    def test_a_missing_file_and_a_text_file_are_refused(self, file):
        self.refused(file.with_name("missing"))
        file.write_text("hello, world\n" * 9)
        self.refused(file)

    def refused(self, file):
        with pytest.raises(FormatError) as caught:
            GroupSums.load(file)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 2 bytes"),
    RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB."),
]


class TestShortMemory:
    def limited(self, most, error=OUT_OF_MEMORY[0]):
        """A model on which forward passes of more rows than ``most`` fail."""
        model = tiny.model()

        def check(_module, _args, kwargs):
            if len(kwargs["input_ids"]) > most:
                raise error

        model.register_forward_pre_hook(check, with_kwargs=True)
        return model

    @pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu", "hip"])
    @pytest.mark.parametrize("most", [1, 3, 4])
    def test_the_batch_is_halved_until_it_fits(self, most, error):
        done = []
        found = part(self.limited(most, error), 0, 24, batch_size=16, progress=done.append)
        largest = {1: 1, 3: 2, 4: 4}[most]
        assert done == [largest] * (24 // largest)
        assert tiny.error(found.sums, part(tiny.model(), 0, 24).sums) < 1e-6
        assert found.counts.tolist() == [6, 6, 6, 6]

    def test_the_batch_that_the_user_asked_for_is_never_exceeded(self):
        assert part(self.limited(2), 0, 8, batch_size=2).prompts == 8

    def test_other_errors_are_passed_on(self):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            part(self.limited(4, RuntimeError("shapes cannot be multiplied")), 0, 24)

    def test_a_single_row_that_does_not_fit_is_a_clear_error(self):
        with pytest.raises(ModelError, match=r"single row of \d+ tokens"):
            part(self.limited(0), 0, 24, kind="head_inputs")


@pytest.fixture(scope="module")
def pair():
    reference = tiny.model()
    return tiny.moved(reference), reference


OPTIONS = Estimation(prompts=24, steps=3, prompt_tokens=6, groups=GROUPS, pool="tokenizer")


class TestKilledRun:
    @pytest.fixture(autouse=True)
    def often(self, monkeypatch):
        monkeypatch.setattr(sums, "BATCHES_PER_CHECKPOINT", 2)

    def run(self, pair, folder=None, progress=None, **changes):
        settings = replace(OPTIONS, **changes)
        return estimate_bias(
            *pair,
            tiny.tokenizer(),
            settings,
            batch_size=2,
            checkpoints=folder,
            progress=progress,
        )

    def kill_after(self, pair, number, folder, **changes):
        done = []

        def progress(more):
            done.append(more)
            if sum(done) >= number:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.run(pair, folder, progress=progress, **changes)

    def rows_of(self, pair, folder, **changes):
        """Whole prompts that each model runs, the first checks of the head apart, and the bias."""
        with tiny.rows_run(pair[0]) as aligned, tiny.rows_run(pair[1]) as reference:
            bias = self.run(pair, folder, **changes)
        length = tiny.prompts().length
        counts = [
            sum(len(ids) for ids in seen if ids.shape[1] == length) for seen in (aligned, reference)
        ]
        return counts, bias

    def test_it_goes_on_from_its_checkpoints(self, pair, tmp_path, monkeypatch):
        monkeypatch.setattr(sums.head, "is_linear", lambda *_: True)
        self.kill_after(pair, 35, tmp_path)  # reference done, aligned after 11, 8 of them saved
        done = []
        (aligned, reference), bias = self.rows_of(pair, tmp_path, progress=done.append)
        assert (aligned, reference) == (24 - 8, 0)
        assert sum(done) == 48, "the progress bar must come to its end"
        assert tiny.error(bias.values, self.run(pair).values) < 1e-6
        assert bias.info == self.run(pair).info

    def test_a_finished_run_runs_nothing_again(self, pair, tmp_path):
        first = self.run(pair, tmp_path)
        counts, again = self.rows_of(pair, tmp_path)
        assert counts == [0, 0]
        assert torch.equal(first.values, again.values)

    @pytest.mark.parametrize(
        "changes",
        [
            {"seed": 1},
            {"groups": 2},
            {"steps": 2},
            {"pool": TokenPool.from_text(tiny.TEXT, tiny.tokenizer())},
        ],
        ids=["seed", "groups", "steps", "pool"],
    )
    def test_checkpoints_of_other_settings_are_refused(self, pair, tmp_path, changes):
        self.kill_after(pair, 8, tmp_path)
        with pytest.raises(MismatchError, match=r"partial-reference.* other settings"):
            self.run(pair, tmp_path, **changes)

    def test_parts_of_several_workers_make_the_single_runs_bias(self, pair, tmp_path):
        drawn = tiny.prompts()
        summing = Summing(GROUPS, "LlamaForCausalLM")
        for name, model in zip(("aligned", "reference"), pair, strict=True):
            parts = [accumulate(model, drawn, *r, summing) for r in ((12, 24), (0, 12))]
            parts[0].merge(parts[1]).save(tmp_path / f"partial-{name}.safetensors")
        counts, bias = self.rows_of(pair, tmp_path)
        assert counts == [0, 0]
        assert tiny.error(bias.values, self.run(pair).values) < 1e-6

    def test_a_checkpoint_with_a_gap_is_refused(self, pair, tmp_path):
        sums = accumulate(pair[1], tiny.prompts(), 4, 8, Summing(GROUPS, "LlamaForCausalLM"))
        sums.save(tmp_path / "partial-reference.safetensors")
        with pytest.raises(MismatchError, match="is a part"):
            self.run(pair, tmp_path)

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("sums", lambda sums: sums * torch.nan),
            ("sums", lambda sums: sums / 0),
            ("sums", torch.Tensor.float),
            ("counts", torch.neg),
            ("ranges", torch.neg),
            ("ranges", lambda ranges: ranges.flip(1)),
        ],
    )
    def test_a_checkpoint_with_senseless_numbers_is_refused(self, pair, tmp_path, name, change):
        self.run(pair, tmp_path)
        path = tmp_path / "partial-aligned.safetensors"
        with safetensors.safe_open(path, "pt") as file:
            meta = file.metadata()
        tensors = safetensors.torch.load_file(path)
        tensors[name] = change(tensors[name]).contiguous()
        safetensors.torch.save_file(tensors, path, meta)
        with pytest.raises(FormatError, match=r"partial-aligned.* Delete it"):
            self.run(pair, tmp_path)

    def test_a_damaged_checkpoint_is_refused(self, pair, tmp_path):
        (tmp_path / "partial-reference.safetensors").write_bytes(b"half")
        with pytest.raises(FormatError, match="partial-reference"):
            self.run(pair, tmp_path)

    def test_more_prompts_go_on_from_fewer(self, pair, tmp_path):
        self.run(pair, tmp_path, prompts=16)
        assert tiny.error(self.run(pair, tmp_path).values, self.run(pair).values) < 1e-6

    def test_fewer_prompts_than_are_done_are_refused(self, pair, tmp_path):
        self.kill_after(pair, 24, tmp_path)
        with pytest.raises(UsageError, match=r"20 .*8"):
            self.run(pair, tmp_path, prompts=8)

    def test_an_early_stop_is_not_judged_on_unequal_prompts(self, pair, tmp_path):
        target = float(self.run(pair, prompts=16).standard_error.square().mean(-1).sqrt().max())
        options = {"prompts": 32, "target_error": target * 1.001}
        whole = self.run(pair, **options)
        assert whole.info.prompts == 16
        self.kill_after(pair, 26, tmp_path, **options)  # the reference is at 16, aligned at 8
        resumed = self.run(pair, tmp_path, **options)
        assert resumed.info == whole.info
        assert tiny.error(resumed.values, whole.values) < 1e-6
        assert self.run(pair, tmp_path, **options).info == whole.info, "a finished run"
