"""The parts of a month's examples.

The newest month of a window is parted in three: the model learns from `TRAIN`; early stopping, the learning rate's
decay, calibration and every choice between fits look at `VALIDATION`; the gate alone looks at `EVALUATION`. Earlier
months are trained on whole: nothing is judged by them, and the newest of their rows are the nearest to the model's use.
"""

from __future__ import annotations

TRAIN = "train"
VALIDATION = "validation"
#: TFX's name for it.
EVALUATION = "eval"
#: By time each comes after the one before.
SPLITS = (TRAIN, VALIDATION, EVALUATION)
