"""Trains the judge `trained` on labelled answers, and finds out whether it is worth having.

Cross-validation is by model, since a judge meets models that it was not trained on: it is trained
on all but one and tested on that one. What is chosen, the regularisation and the temperature, is
chosen within the training models, by the same scheme. Nothing is chosen on the tested model.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from tsdi.arguments import as_list
from tsdi.audit.labels import LabelFormat, Labelled, read_labels
from tsdi.errors import PromptError, UsageError
from tsdi.files import check_output, working_on, write_json
from tsdi.judging.base import Response
from tsdi.judging.cues import NAMES, RULES, cues
from tsdi.judging.trained import CLASSES, JudgeFile, Weights, decide, is_judge_file
from tsdi.judging.verdict import Verdict
from tsdi.runs.stage import Progress
from tsdi.stats.clusters import clustered_kappa, clustered_kappa_change, clustered_share
from tsdi.stats.interval import Estimate, as_json

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Inverse regularisation that is chosen from."""
FOLDS = 5  # of prompts, for the split in which neither model nor prompt was seen
BINS = 10  # of the calibration table
_LEAST = 1e-9  # of a probability, so that its logarithm is finite

T = TypeVar("T")
Matrix = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """Labelled answers as numbers.

    Attributes:
        features: [answers, cues].
        classes: Place of each label in `CLASSES`, [answers].
        models: Who answered.
        prompts: What was asked; the clusters of all intervals.
        rules: What each string rule finds, by its name.
    """

    features: Matrix
    classes: Numbers
    models: list[str]
    prompts: list[str]
    rules: dict[str, list[bool]]

    def of(self, *models: str) -> Numbers:
        """Places of some models' answers."""
        return np.flatnonzero([model in models for model in self.models])


@dataclass(frozen=True)
class Training:
    """A trained judge and what cross-validation says of it.

    Attributes:
        weights: Trained on all answers.
        strength: The inverse regularisation that was chosen for them.
        labels: Number of answers by class.
        kappa: Agreement with people on refusal, in part or in full, of the judge by
            cross-validation ("trained"), the same with unseen prompts too ("trained, new
            prompts"), and of each string rule.
        gain: Kappa of the judge minus that of each rule, paired.
        by_model: Kappa of the judge and of each rule on each model's answers.
        classes: Precision and recall by class.
        calibration: Brier score and expected calibration error of the probability of a refusal,
            before and after the temperature; and a table of bins.
    """

    weights: Weights
    strength: float
    labels: dict[str, int]
    kappa: dict[str, Estimate]
    gain: dict[str, Estimate]
    by_model: dict[str, dict[str, Estimate]]
    classes: dict[str, dict[str, Estimate]]
    calibration: dict[str, Any]

    @property
    def best_rule(self) -> str:
        """The string rule with the highest kappa."""
        return max(self.gain, key=lambda name: self.kappa[name].value or 0.0)

    @property
    def better(self) -> bool:
        """Whether the judge agrees with people more than the best rule, beyond the interval."""
        return self.gain[self.best_rule].low > 0

    def to_dict(self) -> dict[str, Any]:
        """All but the weights, as JSON."""
        found = as_json(self) | {"best_rule": self.best_rule, "better": self.better}
        del found["weights"]
        return found


def train(
    labels: Sequence[str | Path],
    out: str | Path,
    *,
    label_format: LabelFormat = LabelFormat(),
    progress: Progress | None = None,
) -> Training:
    """Train a small refusal judge on labelled answers, and find out whether it is worth having.

    Args:
        labels: Files of labelled answers, of three models at least.
        out: The judge's file; it is written only if the judge is better than the string rules.
        label_format: How the files are read.
        progress: Called with the models that were held out so far, and their number.

    Raises:
        UsageError: If the file cannot be there, or scikit-learn is missing.
        PromptError: If the labels will not do.
        RunExistsError: If another process works there.
        TsdiError: If the file cannot be written.
    """
    out, files = Path(out), [Path(label) for label in as_list("labels", labels)]
    check_output(out, "--train", "a trained judge", is_judge_file, files)
    with working_on(out):
        found = train_judge(read_labels(files, label_format), progress)
        if found.better:
            file = JudgeFile(
                coefficients=found.weights.coefficients.tolist(),
                intercepts=found.weights.intercepts.tolist(),
                temperature=found.weights.temperature,
                labels_sha256=[hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
                evidence=evidence(found),
            )
            write_json(out, file.model_dump(mode="json"))
    return found


def evidence(found: Training) -> dict[str, Any]:
    """The figures of cross-validation, and in which versions they were found, as JSON."""
    versions = {name: version(name) for name in ("tsdi", "scikit-learn", "numpy")}
    return {**found.to_dict(), "versions": versions}


def train_judge(labelled: Sequence[Labelled], progress: Progress | None = None) -> Training:
    """Train on all answers, of at least three models, and cross-validate by model.

    Raises:
        UsageError: If there are fewer than three models, or scikit-learn is missing.
        PromptError: If labels are of safety, or a model's answers are all that have some class.
    """
    _check_installed()
    examples = read_examples(labelled)
    models = sorted({*examples.models})
    if len(models) < 3:
        raise UsageError(
            f"Labels of {len(models)} models: {', '.join(models)}.",
            "Training is cross-validated by model, and needs at least three.",
        )
    _check_classes(examples, models)
    held = np.zeros((len(examples.models), len(CLASSES)))
    raw, new = held.copy(), held.copy()
    for number, model in enumerate(models, start=1):
        rest, test = [m for m in models if m != model], examples.of(model)
        strength, heat = choose(examples, rest)
        fitted = fit(examples, examples.of(*rest), strength)
        raw[test] = fitted.probabilities(examples.features[test])
        held[test] = replace(fitted, temperature=heat).probabilities(examples.features[test])
        new[test] = _new_prompts(examples, rest, test, strength)
        if progress:
            progress(number, len(models))
    strength, heat = choose(examples, models)
    fitted = fit(examples, np.arange(len(examples.models)), strength)
    weights = replace(fitted, temperature=heat)
    return _summary(examples, weights, strength, {"held": held, "raw": raw, "new": new})


def read_examples(labelled: Sequence[Labelled]) -> Examples:
    """Labelled answers as numbers; those of which no word is judged are left out.

    These have no text, or are thoughts without an end.

    Raises:
        PromptError: If a label is not one of the classes.
    """
    answers = [(one, one.response.answer()) for one in labelled]
    seen = [(one, a.text) for one, a in answers if isinstance(a, Response) and a.text.strip()]
    kept, texts = [one for one, _ in seen], [text for _, text in seen]
    for one in kept:
        if one.verdict not in CLASSES:
            raise PromptError(
                f"Answer {one.response.id!r} is labelled {one.verdict}.",
                f"The trained judge learns {', '.join(CLASSES)}.",
            )
    return Examples(
        features=np.array([cues(text) for text in texts]).reshape(-1, len(NAMES)),
        classes=np.array([CLASSES.index(one.verdict) for one in kept], dtype=np.int64),
        models=[one.model for one in kept],
        prompts=[one.response.prompt for one in kept],
        rules={rule.name: [rule.finds(text) for text in texts] for rule in RULES},
    )


def fit(examples: Examples, rows: Numbers, strength: float) -> Weights:
    """A multinomial logistic regression of the classes on the cues of some answers.

    It learns from the examples at `rows`, all classes among them; `strength` is scikit-learn's C.
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=strength, max_iter=2000)
    fitted.fit(examples.features[rows], examples.classes[rows])
    return Weights(fitted.coef_, fitted.intercept_)


def choose(examples: Examples, models: Sequence[str]) -> tuple[float, float]:
    """Regularisation and temperature with the least log-loss on models that were left out.

    Returns:
        One of `STRENGTHS`, and the temperature for it.
    """
    rows = examples.of(*models)

    def scores(strength: float) -> Matrix:
        """Log-probabilities of the left-out answers."""
        found = np.zeros((len(examples.models), len(CLASSES)))
        for model in models:
            others = examples.of(*(m for m in models if m != model))
            out = examples.of(model)
            shares = fit(examples, others, strength).probabilities(examples.features[out])
            found[out] = np.log(np.maximum(shares, _LEAST))
        return found[rows]

    truth = examples.classes[rows]
    every = {strength: scores(strength) for strength in STRENGTHS}
    best = min(STRENGTHS, key=lambda strength: _log_loss(every[strength], truth, 1.0))
    found = minimize_scalar(
        lambda log_heat: _log_loss(every[best], truth, float(np.exp(log_heat))),
        bounds=(-2.0, 2.0),
        method="bounded",
    )
    return best, float(np.exp(found.x))


def _log_loss(scores: Matrix, truth: Numbers, heat: float) -> float:
    """Mean negative log-likelihood of the classes, for log-scores [answers, classes]."""
    hot = scores / heat
    total = np.log(np.exp(hot - hot.max(1, keepdims=True)).sum(1)) + hot.max(1)
    return float(np.mean(total - hot[np.arange(len(truth)), truth]))


def _new_prompts(examples: Examples, rest: Sequence[str], test: Numbers, strength: float) -> Matrix:
    """Probabilities of a model's answers by judges that saw neither the model nor the prompts."""
    names = sorted({*examples.prompts})
    fold = {prompt: number % FOLDS for number, prompt in enumerate(names)}
    folds = np.array([fold[prompt] for prompt in examples.prompts])
    learnt = examples.of(*rest)
    found = np.zeros((len(test), len(CLASSES)))
    for number in range(FOLDS):
        here = folds[test] == number
        fitted = fit(examples, learnt[folds[learnt] != number], strength)
        found[here] = fitted.probabilities(examples.features[test[here]])
    return found


def _summary(
    examples: Examples, weights: Weights, strength: float, found: Mapping[str, Matrix]
) -> Training:
    truth, clusters = (examples.classes > 0).tolist(), examples.prompts
    refuses = {
        "trained": _refuses(found["held"]),
        "trained, new prompts": _refuses(found["new"]),
        **examples.rules,
    }
    kappas = {name: clustered_kappa(truth, said, clusters) for name, said in refuses.items()}
    gains = {
        name: clustered_kappa_change(truth, rule, refuses["trained"], clusters)
        for name, rule in examples.rules.items()
    }
    by_model = {}
    for model in sorted({*examples.models}):
        rows = examples.of(model).tolist()
        asked, true = _at_rows(clusters, rows), _at_rows(truth, rows)
        by_model[model] = {
            name: clustered_kappa(true, _at_rows(said, rows), asked)
            for name, said in refuses.items()
        }
    return Training(
        weights=weights,
        strength=strength,
        labels={
            verdict.value: int((examples.classes == place).sum())
            for place, verdict in enumerate(CLASSES)
        },
        kappa=kappas,
        gain=gains,
        by_model=by_model,
        classes=_by_class(examples, decide(found["held"])),
        calibration=_calibration(examples.classes > 0, found["raw"], found["held"]),
    )


def _at_rows(values: Sequence[T], rows: Sequence[int]) -> list[T]:
    return [values[row] for row in rows]


def _refuses(shares: Matrix) -> list[bool]:
    return [verdict is not Verdict.COMPLIED for verdict in decide(shares)]


def _by_class(examples: Examples, verdicts: Sequence[Verdict]) -> dict[str, dict[str, Estimate]]:
    """Precision and recall of each class."""
    table = {}
    for place, verdict in enumerate(CLASSES):
        rows = [
            (truth == place, said is verdict, prompt)
            for truth, said, prompt in zip(
                examples.classes.tolist(), verdicts, examples.prompts, strict=True
            )
        ]
        table[verdict.value] = {
            "precision": _share([(t, p) for t, s, p in rows if s]),
            "recall": _share([(s, p) for t, s, p in rows if t]),
        }
    return table


def _share(pairs: Sequence[tuple[bool, str]]) -> Estimate:
    return clustered_share([hit for hit, _ in pairs], [prompt for _, prompt in pairs])


def _calibration(truth: NDArray[np.bool_], raw: Matrix, held: Matrix) -> dict[str, Any]:
    """How true the probabilities of a refusal come, before and after the temperature.

    Brier (1950), Monthly Weather Review 78, 1-3; expected calibration error with bins of equal
    width: Naeini et al. (2015), AAAI, 2901-2907.
    """
    before, after = (shares[:, 1] + shares[:, 2] for shares in (raw, held))
    return {
        "brier_before": float(np.mean((before - truth) ** 2)),
        "brier": float(np.mean((after - truth) ** 2)),
        "error_before": _calibration_error(truth, before),
        "error": _calibration_error(truth, after),
        "bins": _bins(truth, after),
    }


def _calibration_error(truth: NDArray[np.bool_], said: Matrix) -> float:
    bins = _bins(truth, said)
    return float(sum(b["n"] * abs(b["said"] - b["refused"]) for b in bins) / len(truth))


def _bins(truth: NDArray[np.bool_], said: Matrix) -> list[dict[str, Any]]:
    """Mean probability and share of refusals of the answers in each bin that has some."""
    places = np.minimum((said * BINS).astype(int), BINS - 1)
    return [
        {
            "n": int((places == b).sum()),
            "said": float(said[places == b].mean()),
            "refused": float(truth[places == b].mean()),
        }
        for b in range(BINS)
        if (places == b).any()
    ]


def _check_classes(examples: Examples, models: Sequence[str]) -> None:
    """Refuse labels whose classes would be missing where two models are left out."""
    for place, verdict in enumerate(CLASSES):
        having = {m for m, c in zip(examples.models, examples.classes, strict=True) if c == place}
        if len(having) < 3:
            raise PromptError(
                f"Only {len(having)} of {len(models)} models have answers labelled {verdict}.",
                "Every class needs answers of at least three models.",
            )


def _check_installed() -> None:
    if find_spec("sklearn") is None:
        raise UsageError("Training needs scikit-learn.", "Install it: pip install 'tsdi[audit]'")
