"""Recognition on devices: how well a trained recogniser knows creatives again, how fast, how large.

Creatives that training never saw are shown on screens before a camera that it never saw, and so are foreign creatives
and photographs. The same pictures go to a template of 16 x 16 colours and to perceptual hashes. Each is given the
threshold at which it takes 1 % of the booked creatives' captures for unknown.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from adclick.models.recognition.field_camera import capture
from adclick.models.recognition.judging import Recognition, recognise, threshold_at
from adclick.pipeline.sample_data.images import draw_looks, render
from adclick.serving.edge.bundle import write_bundle
from adclick.serving.edge.catalogue import ApprovedCreative, Catalogue, quantise
from adclick.serving.edge.frame import open_frame, prepare
from adclick.serving.edge.recogniser import Recogniser
from adclick.storage.recogniser_versions import FACTS_FILE, RECOGNISER_FILE, recogniser_versions
from benchmarks.measure import Result, python_module, report, share, timed_process
from benchmarks.rival_environment import RIVALS, ensure

FALSE_ALARM_RATE = 0.01
#: At this strength of the judging camera the template finds about 98.7 % of 1,000 creatives, where the musts were set.
STRENGTH = 0.3
_BOOKED_SEED, _FOREIGN_SEED = 7_001, 7_002
_CROPS_OF_A_PHOTOGRAPH = 12
_MILLION = 1_000_000


@dataclass(frozen=True)
class Pictures:
    """Files of pictures, in the order of their numbers.

    Attributes:
        creatives: The booked creatives as they are.
        booked: A capture of each.
        foreign: Captures of creatives that are not booked.
        photographs: Captures of photographs.
    """

    creatives: list[Path]
    booked: list[Path]
    foreign: list[Path]
    photographs: list[Path]


def _creatives(seed: int, count: int) -> Iterator[Image.Image]:
    generator = np.random.default_rng(seed)
    looks = draw_looks(count, generator)
    for number in range(count):
        yield render(looks, number, generator)


def _shoot(job: tuple[Path, Path, int], strength: float) -> Path:
    source, target, seed = job
    with Image.open(source) as picture:
        capture(picture, np.random.default_rng([seed, 1]), strength=strength).save(target, "PNG", compress_level=1)
    return target


def _saved(pictures: Iterator[Image.Image], folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    files = []
    for number, picture in enumerate(pictures):
        files.append(folder / f"{number:05}.png")
        picture.save(files[-1], "PNG", compress_level=1)
    return files


def _crops(files: list[Path]) -> Iterator[Image.Image]:
    for number, file in enumerate(files):
        generator = np.random.default_rng(number)
        with Image.open(file) as photograph:
            picture = photograph.convert("RGB")
        for _ in range(_CROPS_OF_A_PHOTOGRAPH):
            width, height = (int(side * generator.uniform(0.4, 1.0)) for side in picture.size)
            left, top = (
                int(generator.integers(0, room + 1)) for room in (picture.width - width, picture.height - height)
            )
            yield picture.crop((left, top, left + width, top + height))


def make_pictures(folder: Path, booked: int, foreign: int, strength: float, tell: Callable[[str], None]) -> Pictures:
    """Renders creatives, cuts photographs, and takes a picture of each on a screen, on all cores."""
    rivals = str(ensure())
    timed_process([rivals, "-I", str(RIVALS / "hashes.py"), "--photographs", "--output", str(folder / "photographs")])
    import matplotlib
    import sklearn

    photographs = sorted((folder / "photographs").iterdir())
    photographs += sorted((Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg"))
    photographs += sorted((Path(matplotlib.get_data_path()) / "sample_data").glob("grace_hopper.jpg"))
    tell(f"photographs: {', '.join(file.stem for file in photographs)}, {_CROPS_OF_A_PHOTOGRAPH} cuts of each")
    shown = {
        "booked": _saved(_creatives(_BOOKED_SEED, booked), folder / "creatives"),
        "foreign": _saved(_creatives(_FOREIGN_SEED, foreign), folder / "foreign-creatives"),
        "photographs": _saved(_crops(photographs), folder / "photograph-cuts"),
    }
    captures: dict[str, list[Path]] = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as workers:
        for number, (name, files) in enumerate(shown.items()):
            target = folder / f"captured-{name}"
            target.mkdir()
            jobs = [(file, target / file.name, number * _MILLION + row) for row, file in enumerate(files)]
            captures[name] = []
            for file in workers.map(partial(_shoot, strength=strength), jobs, chunksize=8):
                captures[name].append(file)
                if len(captures[name]) % 250 == 0 or len(captures[name]) == len(jobs):
                    tell(f"{name}: {len(captures[name]):,} of {len(jobs):,} captures")
    return Pictures(shown["booked"], captures["booked"], captures["foreign"], captures["photographs"])


@dataclass(frozen=True)
class Outcome:
    """What an eye makes of the pictures, at its threshold of 1 % false alarms.

    Attributes:
        top_1: The share of booked creatives' captures whose nearest creative is the right one.
        foreign: The share of foreign creatives' captures that are unknown.
        photographs: The share of photographs' captures that are unknown.
    """

    top_1: float
    foreign: float
    photographs: float


def outcome(nearest: Callable[[str], Recognition]) -> Outcome:
    """Judges an eye that finds the nearest creative of each capture of a kind."""
    booked = nearest("booked")
    rows = np.arange(len(booked.nearest))
    threshold = threshold_at(booked, rows, FALSE_ALARM_RATE)

    def caught(kind: str) -> float:
        return float((nearest(kind).similarity < threshold).mean())

    return Outcome(float((booked.nearest == rows).mean()), caught("foreign"), caught("photographs"))


def _by_recogniser(pictures: Pictures, model: bytes) -> Outcome:
    recogniser = Recogniser(model)

    def embeddings(files: list[Path]) -> npt.NDArray[np.float32]:
        return np.stack([recogniser.embed(prepare(open_frame(file.read_bytes()), recogniser.size)) for file in files])

    quantised, scales = quantise(embeddings(pictures.creatives))
    catalogue = (quantised.astype(np.float32) * scales[:, None]).astype(np.float32)
    return outcome(lambda kind: recognise(embeddings(getattr(pictures, kind)), catalogue))


def _by_template(pictures: Pictures) -> Outcome:
    from adclick.pipeline.edge.template import template_recogniser

    return _by_recogniser(pictures, template_recogniser(96))


def _by_hashes(pictures: Pictures, folder: Path) -> dict[str, Outcome]:
    rivals = str(ensure())
    bits: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    for kind in ("creatives", "booked", "foreign", "photographs"):
        source = getattr(pictures, kind)[0].parent
        target = folder / f"hashes-{kind}"
        command = [rivals, "-I", str(RIVALS / "hashes.py"), "--pictures", str(source), "--output", str(target)]
        timed_process(command)
        for name in ("phash", "whash", "pdq"):
            signs = np.load(target / f"{name}.npy").astype(np.float32) * 2 - 1
            # The cosine of signs falls as the Hamming distance rises.
            bits.setdefault(name, {})[kind] = signs / np.sqrt(signs.shape[1])

    def nearest(name: str, kind: str) -> Recognition:
        return recognise(bits[name][kind], bits[name]["creatives"])

    return {name: outcome(partial(nearest, name)) for name in bits}


@dataclass(frozen=True)
class Device:
    """What a device spends.

    Attributes:
        p50_milliseconds: From a JPEG of 1080p to the decision, on one thread.
        p99_milliseconds: Likewise.
        bundle_bytes: With as many creatives as are booked.
        resident_bytes: The largest of `adclick-edge check`.
    """

    p50_milliseconds: float
    p99_milliseconds: float
    bundle_bytes: int
    resident_bytes: int


def _device(pictures: Pictures, model: bytes, threshold: float, folder: Path, frames: int) -> Device:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from adclick.serving.edge.bundle import read_bundle
    from adclick.serving.edge.keys import create_keys, read_private_key
    from adclick.serving.edge.watch import Eye

    recogniser = Recogniser(model)
    embeddings = [
        recogniser.embed(prepare(open_frame(file.read_bytes()), recogniser.size)) for file in pictures.creatives
    ]
    rows = tuple(ApprovedCreative(file.stem, f"Creative {file.stem}") for file in pictures.creatives)
    create_keys(folder / "private.pem", folder / "public.pem")
    key: Ed25519PrivateKey = read_private_key(folder / "private.pem")
    content = io.BytesIO()
    catalogue = Catalogue(rows, *quantise(np.stack(embeddings)))
    write_bundle(content, key, model=model, catalogue=catalogue, thresholds={"known": threshold}, version=1, created=1)
    bundle = folder / "screens.bundle"
    bundle.write_bytes(content.getvalue())
    eye = Eye(read_bundle(content.getvalue(), [key.public_key()]))
    jpegs = []
    for file in pictures.booked[:20]:
        buffer = io.BytesIO()
        with Image.open(file) as picture:
            picture.resize((1920, 1080), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        jpegs.append(buffer.getvalue())
    seconds = []
    for number in range(frames):
        begin = time.perf_counter()
        eye.look(open_frame(jpegs[number % len(jpegs)]))
        seconds.append(time.perf_counter() - begin)
    picture_file = folder / "frame.jpg"
    picture_file.write_bytes(jpegs[0])
    check = ["check", "--bundle", str(bundle), "--public-key", str(folder / "public.pem"), str(picture_file)]
    # The system's own count of a process's largest size would begin with what this one had when it made the child.
    child = "import sys; from adclick.serving.edge.command import main; main(sys.argv[1:]); "
    child += "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    done = subprocess.run(
        [sys.executable, "-c", child, *check], capture_output=True, text=True, check=True, timeout=120
    )
    quantiles = statistics.quantiles(seconds, n=100)
    return Device(
        p50_milliseconds=1_000 * quantiles[49],
        p99_milliseconds=1_000 * quantiles[98],
        bundle_bytes=bundle.stat().st_size,
        resident_bytes=int(done.stdout.splitlines()[-1]) * 1024,
    )


def train(folder: Path, creatives: int, settings: dict[str, object], tell: Callable[[str], None]) -> Path:
    """Trains a recogniser by the user's own commands on sample data and gives its version's folder."""
    project = folder / "project"
    sample = ["sample-data", "--output", str(project), "--rows", str(5 * creatives), "--creatives", str(creatives)]
    timed_process(python_module("adclick", *sample, "--months", "1", "--quiet"))
    config = project / "config.yaml"
    document = yaml.safe_load(config.read_text(encoding="utf-8"))
    config.write_text(yaml.safe_dump({**document, "recognition": settings}), encoding="utf-8")
    tell("training")
    done = timed_process(python_module("adclick", "run", "--config", str(config), "--pipeline", "recognition"))
    tell(done.output)
    versions = project / "output" / "serving_model" / "recognition"
    return versions / str(recogniser_versions(str(versions))[-1])


def measure(version: Path, folder: Path, booked: int, foreign: int, strength: float, frames: int) -> list[Result]:
    """Measures a recogniser's version beside the template and the hashes."""

    def tell(line: str) -> None:
        print(line, flush=True)

    model = (version / RECOGNISER_FILE).read_bytes()
    facts = json.loads((version / FACTS_FILE).read_text(encoding="utf-8"))
    pictures = make_pictures(folder, booked, foreign, strength, tell)
    ours, template = _by_recogniser(pictures, model), _by_template(pictures)
    tell(f"ours: {ours}")
    tell(f"template: {template}")
    hashes = _by_hashes(pictures, folder)
    for name, rival in hashes.items():
        tell(f"{name}: {rival}")
    forms = {form["form"]: form["judgement"]["top_1"]["value"] for form in facts["forms"]}
    device = _device(pictures, model, facts["thresholds"]["known"], folder, frames)
    best = {kind: max(getattr(rival, kind) for rival in hashes.values()) for kind in ("foreign", "photographs")}

    def at_least(name: str, figure: float, must: float) -> Result:
        return Result(name, figure, must, "share", figure / must, ">= 1")

    def at_most(name: str, figure: float, must: float, unit: str) -> Result:
        return share(name, figure, must, unit, "<= 1")

    def fewer(name: str, kind: str) -> Result:
        missed, theirs = 1 - getattr(ours, kind), 1 - best[kind]
        # Of none that was missed, half a capture is the most that can be said.
        return Result(name, missed, theirs, "share", theirs / max(missed, 0.5 / len(getattr(pictures, kind))), ">= 10")

    at = f"1 % false alarms, strength {strength:g}"
    return [
        Result(f"top-1 of {booked:,} against the template", ours.top_1, template.top_1, "share",
               ours.top_1 / template.top_1, "> 1"),
        at_least(f"top-1 of {booked:,}", ours.top_1, 0.995),
        Result(f"foreign creatives caught against the template, {at}", ours.foreign, template.foreign, "share",
               ours.foreign / max(template.foreign, 1e-3), "> 1"),
        at_least(f"foreign creatives caught, {at}", ours.foreign, 0.90),
        at_least(f"photographs caught, {at}", ours.photographs, 0.99),
        fewer("foreign creatives missed against the best hash", "foreign"),
        fewer("photographs missed against the best hash", "photographs"),
        at_least("int8 top-1 against float's less 0.3 points", forms["int8"], forms["float32"] - 0.003),
        at_most("frame to decision, 1080p JPEG, p50", device.p50_milliseconds, 15, "ms"),
        at_most("frame to decision, 1080p JPEG, p99", device.p99_milliseconds, 30, "ms"),
        at_most("recogniser", len(model) / 1e6, 3, "MB"),
        at_most(f"bundle with {booked:,} creatives", device.bundle_bytes / 1e6, 5, "MB"),
        at_most("resident memory of `check`", device.resident_bytes / 1e6, 150, "MB"),
    ]  # fmt: skip


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recogniser", type=Path, help="the folder of a version; one is trained otherwise")
    parser.add_argument("--training-creatives", type=int, default=2_000)
    parser.add_argument("--steps", type=int, help="of training; the config's default otherwise")
    parser.add_argument("--booked", type=int, default=1_000)
    parser.add_argument("--foreign", type=int, default=1_000)
    parser.add_argument("--strength", type=float, default=STRENGTH, help="of the judging camera, above 0, at most 1")
    parser.add_argument("--frames", type=int, default=1_000, help="timed frames of 1080p")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as name:
        folder = Path(name)
        settings = {"steps": arguments.steps} if arguments.steps else {}
        version = arguments.recogniser or train(folder, arguments.training_creatives, settings, print)
        results = measure(version, folder, arguments.booked, arguments.foreign, arguments.strength, arguments.frames)
    report("Recognition on devices", results, arguments.json)


if __name__ == "__main__":
    main()
