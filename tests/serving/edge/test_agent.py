"""The runtime in C: the Python runtime's decisions on the same frames, and its refusals of the same bundles."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from adclick.serving.edge.bundle import read_bundle
from adclick.serving.edge.errors import BrokenFrame, BundleRefused
from adclick.serving.edge.frame import open_frame
from adclick.serving.edge.keys import create_keys, read_public_key
from adclick.serving.edge.watch import Eye
from tests.serving.edge.pictures import encoded, frames, picture, png_frames
from tests.serving.edge.test_bundle import changed

#: The frames' similarities may differ by so much.
TOLERANCE = 1e-3
DEADLINE = 120.0
HOSTILE_BUNDLES = 60


@pytest.fixture(scope="module")
def check(agent: Path, keys: tuple[Path, Path]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(bundle: Path, *arguments: str | Path, key: Path = keys[1]) -> subprocess.CompletedProcess[str]:
        command = [str(agent), "--bundle", str(bundle), "--public-key", str(key), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)

    return run


def test_it_decides_as_the_python_runtime_does(
    check: Callable[..., subprocess.CompletedProcess[str]],
    make_bundle: Callable[..., bytes],
    bundle_file: Path,
    keys: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    files = [*frames(tmp_path), *png_frames(tmp_path)]
    done = check(bundle_file, *files)
    assert done.returncode == 3, done.stderr
    eye = Eye(read_bundle(make_bundle(), [read_public_key(keys[1])]))
    kinds = set()
    for file, line in zip(files, map(json.loads, done.stdout.splitlines()), strict=True):
        decision = eye.look(open_frame(file.read_bytes()))
        creative = decision.creative
        kinds.add(decision.kind)
        assert line["similarity"] == pytest.approx(decision.similarity, abs=TOLERANCE), file
        assert (line["file"], line["kind"], line["creative"], line["name"]) == (
            str(file),
            decision.kind,
            creative.id if creative else None,
            creative.name if creative else None,
        )
    assert kinds == {"approved", "forbidden", "expired", "early", "unknown"}
    (tmp_path / "a.jpg").write_bytes(encoded(picture(0)))
    assert check(bundle_file, tmp_path / "a.jpg").returncode == 0


def test_what_is_no_whole_picture_is_broken_for_both(
    check: Callable[..., subprocess.CompletedProcess[str]],
    make_bundle: Callable[..., bytes],
    bundle_file: Path,
    keys: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    contents = [b"", b"no picture"]
    for form in ("JPEG", "PNG"):
        whole = encoded(picture(0, 640, 360), form)
        cuts = (2, 30, 300, len(whole) // 2, len(whole) * 9 // 10, len(whole))
        contents += [whole[:cut] for cut in cuts]
    files = []
    for number, content in enumerate(contents):
        files.append(tmp_path / f"{number}.jpg")
        files[-1].write_bytes(content)
    eye = Eye(read_bundle(make_bundle(), [read_public_key(keys[1])]))
    lines = list(map(json.loads, check(bundle_file, *files).stdout.splitlines()))
    for content, line in zip(contents, lines, strict=True):
        try:
            kind = eye.look(open_frame(content)).kind
        except BrokenFrame:
            kind = "broken"
        assert line["kind"] == kind
    assert [line["kind"] for line in lines] == [*["broken"] * 7, "approved", *["broken"] * 5, "approved"]


def test_bundles_that_are_altered_old_or_for_another_runtime_are_refused(
    check: Callable[..., subprocess.CompletedProcess[str]],
    make_bundle: Callable[..., bytes],
    keys: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(picture(0)))
    create_keys(tmp_path / "other-private.pem", tmp_path / "other.pem")
    scorer = dict.fromkeys(
        ("scorer.tflite", "scorer.json", "scorer.vocabularies", "scorer.embeddings.f4", "scorer.words.f4")
    )
    scoring = make_bundle(scorer_files=dict.fromkeys(scorer, b"x"))

    def refused(bundle: bytes, *arguments: str, key: Path = keys[1]) -> str:
        (tmp_path / "bundle").write_bytes(bundle)
        done = check(tmp_path / "bundle", *arguments, tmp_path / "a.jpg", key=key)
        assert (done.returncode, done.stdout) == (4, ""), done.stderr
        return done.stderr.rstrip().rpartition("(")[2].rstrip(")")

    assert refused(make_bundle(), key=tmp_path / "other.pem") == "unsigned"
    assert refused(make_bundle(), "--minimum-version", "8") == "too_old"
    assert refused(make_bundle(minimum_runtime="0.10.0")) == "wrong_runtime"
    assert refused(make_bundle(model=b"none")) == "unfit"
    assert refused(changed(make_bundle(), lambda parts: parts.pop("manifest.sig"))) == "unsigned"
    assert refused(changed(scoring, lambda parts: [parts.pop(name) for name in scorer])) == "altered"
    assert refused(changed(scoring, lambda parts: parts.update({"scorer.json": b"y"}))) == "altered"
    (tmp_path / "scoring").write_bytes(scoring)
    assert check(tmp_path / "scoring", tmp_path / "a.jpg").returncode == 0
    # Seeded, as each is a process: what of a changed or cut-off bundle Python refuses, C does.
    chance, whole, refusals = random.Random(15), make_bundle(), 0
    for _ in range(HOSTILE_BUNDLES):
        hostile = bytearray(whole)
        place = chance.randrange(len(whole))
        if chance.random() < 0.3:
            del hostile[place:]
        else:
            # Half of them where the archive's structure is, which is but a small part of it.
            place = chance.choice([place, len(whole) - 1 - place % 1000])
            hostile[place] ^= chance.randrange(1, 256)
        try:
            read_bundle(bytes(hostile), [read_public_key(keys[1])])
        except BundleRefused:
            refused(bytes(hostile))
            refusals += 1
    assert refusals > HOSTILE_BUNDLES // 2


def test_it_says_how_it_is_called(agent: Path, bundle_file: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    assert subprocess.run([str(agent)], capture_output=True).returncode == 2
    for missing in (["--bundle", str(tmp_path / "none")], ["--bundle", str(bundle_file)]):
        command = [str(agent), *missing, "--public-key", str(keys[1]), str(tmp_path / "none.jpg")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2 and "cannot be read" in done.stderr
