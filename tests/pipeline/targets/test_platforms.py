"""The table of platforms: each name has one, whose own libraries stay out until it is called."""

from __future__ import annotations

import subprocess
import sys

from adclick.pipeline.config.target import TARGETS
from adclick.pipeline.targets.platforms import PLATFORMS, platform_of


def test_each_name_of_the_command_line_is_one_platform() -> None:
    assert [platform.name for platform in PLATFORMS] == list(TARGETS)
    assert [platform_of(target).name for target in TARGETS] == list(TARGETS)
    endings = [ending for platform in PLATFORMS for ending in platform.file_endings]
    assert len(set(endings)) == len(endings)


def test_the_table_loads_no_platform_s_library() -> None:
    code = "import sys, adclick.pipeline.targets.platforms; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    assert not any(f"'{name}'" in loaded for name in ("kfp", "kfp_server_api", "google.cloud.aiplatform_v1", "tfx"))
