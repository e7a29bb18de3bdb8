"""What a device's environment weighs, and that it recognises without what `slim.sh` takes out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.serving.edge.pictures import encoded, picture

ROOT = Path(__file__).resolve().parents[3]
#: What pip installs for adclick-edge[mqtt], by the names in site-packages.
INSTALLED = (
    *("PIL", "_cffi_backend", "ai_edge_litert", "backports", "cffi", "cryptography", "flatbuffers", "google/protobuf"),
    *(
        "google/_upb",
        "ml_dtypes",
        "numpy",
        "numpy.libs",
        "paho",
        "pillow.libs",
        "pycparser",
        "tqdm",
        "typing_extensions",
    ),
)
LARGEST_MB = 160


def test_a_slim_environment_is_small_enough_and_still_recognises(
    bundle_file: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    source = Path(sysconfig.get_path("platlib"))
    site = tmp_path / "environment/lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    for name in INSTALLED:
        for path in [*source.glob(name), *source.glob(f"{name}.py"), *source.glob(f"{name}.*.so")]:
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            # Links cost no copy, and what is taken away here stays there.
            link = os.link if path.stat().st_dev == tmp_path.stat().st_dev else shutil.copy2
            if path.is_dir():
                shutil.copytree(path, site / path.relative_to(source), copy_function=link)
            else:
                link(path, site / path.relative_to(source))
    done = subprocess.run(
        ["sh", str(ROOT / "deploy/edge/slim.sh"), str(tmp_path / "environment")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    bytes_left = sum(file.stat().st_size for file in site.rglob("*") if file.is_file())
    assert 50 < bytes_left / 2**20 < LARGEST_MB, done.stdout
    (tmp_path / "a.jpg").write_bytes(encoded(picture(0)))
    # Of the interpreter alone: no other site-packages are seen.
    paths = f"import sys; sys.path[:0] = [{str(site)!r}, {str(ROOT)!r}]; "
    run = "from adclick.serving.edge.command import main; sys.exit(main(sys.argv[1:]))"
    check = ["check", "--bundle", str(bundle_file), "--public-key", str(keys[1]), str(tmp_path / "a.jpg")]
    command = [sys.executable, "-I", "-S", "-B", "-c", paths + run, *check]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["creative"] == "a"


def test_it_touches_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(["sh", str(ROOT / "deploy/edge/slim.sh"), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and "no environment that adclick-edge is installed in" in done.stderr
