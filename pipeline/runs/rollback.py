"""`adclick rollback`: an earlier version is served at once, and stays so until it is released."""

from __future__ import annotations

from pathlib import Path

from adclick.pipeline.config.settings import load_config
from adclick.schema.errors import ConfigError
from adclick.storage.model_versions import ModelVersions


def run_rollback(config: Path, version: int | None, reason: str | None, release: bool) -> str:
    """Rolls back, or releases a roll-back; says what came of it.

    Raises:
        ConfigError: There is nothing to go back to or to release, or the reason is missing.
    """
    settings = load_config(config)
    versions = ModelVersions(settings.push_base)
    if release:
        if version is not None or reason is not None:
            raise ConfigError("--release takes neither a version nor a reason", "It serves the newest held version.")
        served = versions.release()
        if served is None:
            return f"Released: the next blessed model will be served. Until then version {versions.served[-1]} is."
        return f"Released: version {served}, which was held, is served."
    if not (reason or "").strip():
        raise ConfigError("a roll-back needs --reason TEXT", "It is kept, for those who ask later.")
    done = versions.roll_back(version, str(reason).strip())
    withdrawn = f" Withdrawn: {', '.join(map(str, done.withdrawn))}." if done.withdrawn else ""
    return (
        f"Version {done.served} is served in place of {done.replaced}.{withdrawn}\n"
        "Models that later runs bless are held back until `adclick rollback --release`."
    )
