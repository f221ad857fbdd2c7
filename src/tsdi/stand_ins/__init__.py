"""What stands in for the reference of a model that has none: from the model and labelled prompts.

`table.STAND_INS` has them by name. Each is a function of a `Subject` that gives a `SafetyBias`:
mostly that of the model against itself, changed, by the same estimator as a pair's; and each is
scaled on validation prompts (`calibration`), so that at strength 1 all of them take the same from
the refusal log-odds. What is left to tell them apart is what else they do.
"""
