"""Errors that a person can act on; each carries the exit code with which the command line ends."""

from __future__ import annotations

import errno
import importlib.util
import os

#: What the system says no to, where the program is not at fault.
_REFUSALS = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOTDIR,
        errno.ENAMETOOLONG,
        errno.ELOOP,
    }
)


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


def refusal_of_import(error: ModuleNotFoundError) -> ConfigError | None:
    """What a person should know where the environment lacks a package; None where a package lacks a module: a bug."""
    parts = (error.name or "").split(".")
    package = ".".join(parts[: 2 if parts[0] == "adclick" else 1])
    if not package or importlib.util.find_spec(package) is not None:
        return None
    return ConfigError(
        f"this environment has no package {package!r}: it was made for another version of adclick, or for less of it",
        "In a checkout: make setup. Elsewhere install adclick with the extra that the command needs, such as "
        "adclick[pipeline] or adclick[stream].",
    )


def refusal_of_system(number: int | None, path: object) -> ConfigError | None:
    """What a person should know where the system refuses a file or folder; None for any other failure.

    Args:
        number: The error's number, see `errno`.
        path: The file or folder.
    """
    if number not in _REFUSALS or path is None:
        return None
    remedy = {
        errno.ENOSPC: "Make room, or choose another place.",
        errno.EDQUOT: "Make room, or choose another place.",
        errno.ENOTDIR: "A part of the path is a file: correct the path.",
    }.get(number, "Give the account that runs this the right to it, or choose another place.")
    return ConfigError(f"{os.fsdecode(path) if isinstance(path, bytes) else path}: {os.strerror(number)}", remedy)
