"""``tsdi reproduce``: equal, within tolerance, or different."""

import json

import pytest
import torch

from tests.cli.conftest import tsdi
from tsdi.bias import SafetyBias


def changed(bias, folder, values=None, **record):
    """The bias with other values, or another record."""
    found = SafetyBias.from_pretrained(bias)
    info = found.info.model_copy(update=record)
    values = found.values if values is None else values(found)
    SafetyBias(values, found.standard_error, info).save_pretrained(folder)
    return folder


def test_a_bias_is_equal_to_what_its_record_gives(bias):
    result = tsdi("reproduce", bias)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("equal: the largest difference, at step 0, is 0 logits")


def test_what_was_done_to_it_is_done_again(bias, tmp_path):
    made = SafetyBias.from_pretrained(bias).truncate(2).top_k(9).scale(0.5).decayed(0.75)
    made.save_pretrained(tmp_path / "made")
    result = tsdi("reproduce", tmp_path / "made", "--json")
    assert json.loads(result.stdout)["verdict"] == "equal"


@pytest.mark.parametrize(
    ("share", "verdict", "code"), [(0.05, "within tolerance", 0), (0.2, "different", 1)]
)
def test_a_difference_counts_by_the_standard_error(bias, tmp_path, share, verdict, code):
    sign = torch.tensor([1.0, -1.0]).repeat(10_000)
    folder = changed(
        bias,
        tmp_path / "other",
        lambda found: found.values + share * found.standard_error * sign[: found.vocab],
        versions={"torch": "1.0"},
    )
    result = tsdi("reproduce", folder)
    assert (result.stdout.partition(":")[0], result.exit_code) == (verdict, code)
    assert "torch was 1.0, and is" in result.stdout


def test_another_seed_is_different(bias, tmp_path):
    assert tsdi("reproduce", changed(bias, tmp_path / "other", seed=5)).exit_code == 1


def test_models_may_have_moved(bias, models, tmp_path):
    folder = changed(bias, tmp_path / "moved", aligned="gone/a", reference="gone/b")
    where = models / "aligned", models / "reference"
    assert tsdi("reproduce", folder, *where).exit_code == 0


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"pool_sha256": "0" * 64}, "token pool 'neutral' is not the one of the record"),
        ({"stand_in": "ablated"}, "estimated without a reference"),
        ({"history": ("add another",)}, "made by 'add another'"),
        ({"history": ("scale far",)}, "made by 'scale far'"),
        ({"tokenizer_sha256": "0" * 64}, "not for this one"),
    ],
)
def test_a_record_that_does_not_do_is_refused(bias, tmp_path, record, said):
    result = tsdi("reproduce", changed(bias, tmp_path / "other", **record))
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
