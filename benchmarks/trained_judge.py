"""The judge that `tsdi audit --train` makes of XSTest's human-labelled answers, against the rules.

DIR holds xstest/completions_MODEL_human_and_gpt4_labels.csv.gz of five models. All figures are of
answers of a model that was left out of training, all choices made on the others.
"""

import time
from pathlib import Path

from benchmarks.common import Claim, Report, parser, progress
from tsdi.audit.labels import read_labels
from tsdi.audit.train_judge import STRENGTHS, train_judge
from tsdi.judging.trained import TrainedJudge


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True)
    arguments = made.parse_args()
    report = Report("trained_judge", arguments, {"regularisation_chosen_from": STRENGTHS})
    labelled = read_labels(sorted((arguments.data / "xstest").glob("completions_*.csv.gz")))
    found = train_judge(labelled, lambda done, total: progress(f"{done} of {total} models"))
    responses = [one.response for one in labelled]
    begin = time.perf_counter()
    TrainedJudge(found.weights, "", []).judge(responses)
    speed = len(responses) / (time.perf_counter() - begin)
    claims = [
        *(Claim.of(f"kappa, {name}", kappa) for name, kappa in found.kappa.items()),
        *(
            Claim.of(f"kappa, trained minus {name}", gain, 0.0 if name == found.best_rule else None)
            for name, gain in found.gain.items()
        ),
        *(
            Claim.of(f"kappa on {model}, trained", kappas["trained"])
            for model, kappas in found.by_model.items()
        ),
        *(
            Claim.of(f"{figure}, {name.lower()}", share)
            for name, shares in found.classes.items()
            for figure, share in shares.items()
        ),
        Claim("calibration error of P(refusal)", found.calibration["error"]),
        Claim("Brier score of P(refusal)", found.calibration["brier"]),
        Claim("answers a second", round(speed)),
    ]
    report.write(claims, found.to_dict())


if __name__ == "__main__":
    main()
