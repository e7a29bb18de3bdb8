"""Which addresses a platform's steps can reach: known before anything is compiled."""

from __future__ import annotations

from adclick.pipeline.config.settings import Config
from adclick.pipeline.targets.platforms.platform import Platform
from adclick.schema.errors import ConfigError
from adclick.storage.bucket import is_s3_address


def check_addresses(config: Config, platform: Platform) -> None:
    """Refuses what no step's container can reach, or the platform cannot keep; raises `ConfigError`."""
    addresses = {
        "data.root": config.data.root,
        "output": config.output,
        "pipeline_root": config.artifacts,
        "serving.push_directory": config.push_base,
    }
    local = [f"{key} is {address}" for key, address in addresses.items() if "://" not in address]
    if local:
        raise ConfigError(
            f"the steps of a platform cannot reach local folders: {'; '.join(local)}",
            "Give addresses in a bucket, gs:// or s3://; pipeline_root and serving.push_directory lie below output "
            "where they are not given.",
        )
    platform.check_addresses(config)
    if config.platform.beam_arguments and is_s3_address(config.artifacts):
        raise ConfigError(
            f"platform.beam_arguments: steps whose artifacts are in S3, {config.artifacts}, work on copies in their "
            "pods, where no other engine's workers see them",
            "Leave platform.beam_arguments out, or give a pipeline_root in gs://.",
        )
