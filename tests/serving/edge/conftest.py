"""Real recognisers, pictures, keys and bundles, and the runtime as a process."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adclick.pipeline.edge.template import template_recogniser
from adclick.serving.edge.bundle import write_bundle
from adclick.serving.edge.catalogue import ApprovedCreative, Catalogue, quantise
from adclick.serving.edge.frame import prepare
from adclick.serving.edge.keys import create_keys, read_private_key
from adclick.serving.edge.recogniser import Recogniser
from tests.serving.edge.pictures import picture

ROOT = Path(__file__).resolve().parents[3]
KNOWN = 0.9
AGENT_SOURCES = ROOT / "deploy/edge/agent"
AGENT_HEADERS = ("jansson.h", "jpeglib.h", "openssl/evp.h", "png.h", "zlib.h")
_BUILD_SECONDS = 120.0


@pytest.fixture(scope="session")
def model() -> bytes:
    return template_recogniser(48)


@pytest.fixture(scope="session")
def catalogue(model: bytes) -> Catalogue:
    """Four creatives: `a` booked, `b` forbidden, `c` of a booking that has ended, `d` of one to come."""
    recogniser = Recogniser(model)
    embeddings = np.stack([recogniser.embed(prepare(picture(seed), recogniser.size)) for seed in range(4)])
    creatives = (
        ApprovedCreative("a", "Ad A"),
        ApprovedCreative("b", "Ad B", forbidden=True),
        ApprovedCreative("c", "Ad C", valid_until=1_000_000_000.0),
        ApprovedCreative("d", "Ad D", valid_from=100_000_000_000.0),
    )
    return Catalogue(creatives, *quantise(embeddings))


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("keys")
    create_keys(folder / "private.pem", folder / "public.pem")
    return folder / "private.pem", folder / "public.pem"


@pytest.fixture(scope="session")
def make_bundle(model: bytes, catalogue: Catalogue, keys: tuple[Path, Path]) -> Callable[..., bytes]:
    def make(private_key: Ed25519PrivateKey | None = None, **changes: Any) -> bytes:
        parts = {"model": model, "catalogue": catalogue, "thresholds": {"known": KNOWN}, "version": 7, "created": 1}
        file = io.BytesIO()
        write_bundle(file, private_key or read_private_key(keys[0]), **{**parts, **changes})
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def bundle_file(make_bundle: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bundle") / "seven.bundle"
    file.write_bytes(make_bundle())
    return file


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent, built against the wheel's LiteRT."""
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("needs make and a C compiler")
    for header in AGENT_HEADERS:
        probe = subprocess.run(
            ["cc", "-E", "-x", "c", "-"],
            input=f"#include <stdio.h>\n#include <{header}>\n".encode(),
            capture_output=True,
        )
        if probe.returncode:
            pytest.skip(
                f"needs {header}: apt-get install libjansson-dev libjpeg62-turbo-dev libpng-dev libssl-dev zlib1g-dev"
            )
    found = find_spec("ai_edge_litert")
    assert found is not None and found.submodule_search_locations
    build = tmp_path_factory.mktemp("agent")
    command = ["make", "-C", str(AGENT_SOURCES), f"BUILD={build}", f"LITERT={found.submodule_search_locations[0]}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS)
    assert done.returncode == 0, done.stderr
    return build / "adclick-edge-agent"


@pytest.fixture
def start(bundle_file: Path, keys: tuple[Path, Path]) -> Any:
    """Starts `adclick-edge` as a process, and ends what is left of it."""
    running: list[subprocess.Popen[bytes]] = []

    def run(command: str, *arguments: str, bundle: Path = bundle_file, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "adclick.serving.edge.command", command, "--bundle", str(bundle)),
                *("--public-key", str(keys[1]), *arguments),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()
