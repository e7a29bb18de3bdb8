"""The runtime on ARM, under qemu-user: this machine's decisions. `.ci/edge-arm` makes the root that it runs in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adclick.serving.edge.bundle import read_bundle
from adclick.serving.edge.frame import open_frame
from adclick.serving.edge.keys import read_public_key
from adclick.serving.edge.self_test import make_probe
from adclick.serving.edge.watch import Eye
from tests.serving.edge.pictures import frames, picture
from tests.serving.edge.test_bundle import changed

ROOT = os.environ.get("ADCLICK_ARM_ROOT", "")
pytestmark = pytest.mark.skipif(not ROOT, reason="needs an arm64 root, which .ci/edge-arm makes, as root")

SIZE = 48
TOLERANCE = 1e-3
DEADLINE = 900.0


@pytest.fixture
def folder(keys: tuple[Path, Path], make_bundle: Callable[..., bytes]) -> Iterator[Path]:
    """A folder in the root with a bundle and its public key."""
    folder = Path(tempfile.mkdtemp(dir=Path(ROOT) / "tmp"))
    shutil.copy(keys[1], folder / "public.pem")
    (folder / "screens.bundle").write_bytes(make_bundle(probes=[make_probe("a", picture(0), SIZE)]))
    yield folder
    shutil.rmtree(folder)


def _on_arm(
    command: str, folder: Path, *arguments: str | Path, bundle: str = "screens.bundle"
) -> tuple[int, list[str]]:
    """Exit code and lines of the installed runtime; paths in the folder are given as the root sees them."""
    paths = [f"/{each.relative_to(ROOT)}" if isinstance(each, Path) else each for each in arguments]
    inside = f"/{folder.relative_to(ROOT)}"
    done = subprocess.run(
        [
            *("chroot", ROOT, "/usr/bin/qemu-aarch64-static", "-E", "PYTHONPATH=/opt/adclick-edge", "/usr/bin/python3"),
            *("-m", "adclick_edge.command", command, "--bundle", f"{inside}/{bundle}"),
            *("--public-key", f"{inside}/public.pem", *paths),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode in (0, 3, 4), done.stderr
    return done.returncode, done.stdout.splitlines()


def test_the_processor_is_another_one() -> None:
    program = "import platform; print(platform.machine())"
    command = ["chroot", ROOT, "/usr/bin/qemu-aarch64-static", "/usr/bin/python3", "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE).stdout == "aarch64\n"


def test_it_decides_as_this_machine_does(folder: Path, keys: tuple[Path, Path]) -> None:
    files = frames(folder)
    for seed, form in enumerate(("PNG", "WEBP", "GIF")):
        files.append(folder / f"{form}.picture")
        picture(seed, 500, 300).save(files[-1], form)
    code, lines = _on_arm("check", folder, *files)
    assert code == 3
    eye = Eye(read_bundle((folder / "screens.bundle").read_bytes(), [read_public_key(keys[1])]))
    kinds = set()
    for file, line in zip(files, map(json.loads, lines), strict=True):
        decision = eye.look(open_frame(file.read_bytes()))
        kinds.add(decision.kind)
        booked = decision.creative
        assert (line["kind"], line["creative"]) == (decision.kind, booked.id if booked else None), file
        assert line["similarity"] == pytest.approx(decision.similarity, abs=TOLERANCE), file
    assert kinds == {"approved", "forbidden", "expired", "early", "unknown"}


def test_its_self_test_passes_and_what_is_altered_is_refused(folder: Path) -> None:
    code, lines = _on_arm("verify", folder)
    assert (code, json.loads(lines[-1])["pictures_recognised"]) == (0, 1)
    whole = (folder / "screens.bundle").read_bytes()
    (folder / "altered").write_bytes(changed(whole, lambda parts: parts.update({"thresholds.json": b'{"known":0.1}'})))
    code, lines = _on_arm("verify", folder, bundle="altered")
    assert (code, json.loads(lines[-1])["refused"]) == (4, "altered")


def test_it_watches_and_raises_the_alert(folder: Path) -> None:
    (folder / "screen").mkdir()
    for number in range(6):
        picture(9).save(folder / "screen" / f"{number}.jpg")
    options = ("--state", folder / "state", "--reports-folder", folder / "reports", "--device", "arm")
    code, lines = _on_arm("watch", folder, "--source", folder / "screen", "--once", *options)
    events = [json.loads(line) for line in lines]
    assert (code, events[-1]["event"]) == (0, "stopped")
    alerts = [event for event in events if event["event"] == "alert"]
    assert [(alert["state"], alert["kind"]) for alert in alerts] == [("open", "unknown")]
