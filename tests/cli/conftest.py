import pytest
from typer.testing import CliRunner

from tests import tiny
from tsdi.cli.main import app


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folders of an aligned and a reference model, as users have them."""
    folder = tmp_path_factory.mktemp("models")
    for name, seed in (("aligned", 0), ("reference", 1)):
        tiny.model("llama", seed).save_pretrained(folder / name)
        tiny.tokenizer().save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="session")
def bias(models):
    """The folder of a bias that ``tsdi estimate`` made."""
    result = tsdi(*estimate(models, models / "bias"))
    assert result.exit_code == 0, result.output
    return models / "bias"


def estimate(models, out, *more):
    """A short ``tsdi estimate`` command; what is given replaces the usual."""
    pair = ["estimate", models / "aligned", models / "reference", "--out", out]
    usual = {"--n": 32, "--steps": 3, "--prompt-tokens": 8}
    kept = [word for one in usual.items() if one[0] not in more for word in one]
    return [*pair, *kept, *more]


def tsdi(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, list(map(str, arguments)))
