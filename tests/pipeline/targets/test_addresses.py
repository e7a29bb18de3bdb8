"""What a platform's steps cannot reach is said at once: before TFX and the platforms' libraries are loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adclick.pipeline.config.settings import load_config
from adclick.pipeline.onboarding import run_init
from adclick.pipeline.targets.addresses import check_addresses
from adclick.pipeline.targets.platforms import platform_of
from adclick.schema.errors import ConfigError


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    drop = folder / "drops" / "2026-10"
    drop.mkdir(parents=True)
    (drop / "log.csv").write_text("clicked,ad\n" + "0,a\n1,b\n0,b\n1,a\n" * 50)
    run_init(folder / "drops", folder, force=False)
    return folder / "config.yaml"


@pytest.mark.parametrize(
    "arguments",
    [["compile", "--output", "pipeline.yaml"], ["submit"], ["schedule", "--cron", "0 6 2 * *"]],
    ids=["compile", "submit", "schedule"],
)
def test_local_folders_are_refused_before_anything_heavy_is_loaded(config: Path, arguments: list[str]) -> None:
    arguments = ["adclick", *arguments, "--config", str(config), "--target", "kubeflow"]
    code = f"""
import sys
from adclick.pipeline.cli import app as cli
sys.argv = {arguments!r}
try:
    cli.main()
except SystemExit as end:
    print(end.code, sorted({{"tensorflow", "tfx", "kfp", "apache_beam"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "2 []"
    assert "cannot reach local folders" in done.stderr and str(config.parent / "output") in done.stderr


def test_addresses_in_a_bucket_are_taken(config: Path) -> None:
    settings = load_config(config, data_root="gs://drops/agency", output="gs://agency/output")
    check_addresses(settings, platform_of("vertex"))
    in_s3 = load_config(config, data_root="s3://drops/agency", output="s3://agency/output")
    check_addresses(in_s3, platform_of("kubeflow"))
    with pytest.raises(ConfigError, match=r"gs:// only"):
        check_addresses(in_s3, platform_of("vertex"))
