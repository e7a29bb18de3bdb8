"""Errors that a person can act on; each carries the exit code with which the command line ends."""

from __future__ import annotations


class AdclickError(Exception):
    """A failure with a cause and a remedy.

    Attributes:
        message: What is wrong, naming the file, row, field, metric or slice.
        remedy: What to do about it, or an empty string.
        exit_code: The process exit code that stands for this kind of failure.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}\n{remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class ConfigError(AdclickError):
    """The command, the config or the input location is wrong; nothing ran."""

    exit_code = 2


class DataRefused(AdclickError):
    """The data was read and found unfit to train on; nothing was trained."""

    exit_code = 3


class ModelRefused(AdclickError):
    """A model was trained and did not pass a gate; nothing was pushed."""

    exit_code = 4


class ModelHeld(AdclickError):
    """A model was blessed, and a roll-back keeps it from being served."""

    exit_code = 5


class SkewFound(AdclickError):
    """The traffic of a served model stands further from its training data, or its clicks, than the thresholds allow."""

    exit_code = 6


class SubmissionRefused(AdclickError):
    """Vertex AI or Kubeflow refused a run or a schedule, or could not be reached; nothing was started."""

    exit_code = 7
