"""`adclick edge publish`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from adclick.pipeline.cli.app import app
from adclick.pipeline.edge.export import create_key_files
from adclick.pipeline.edge.publish import run_publish
from adclick.schema.errors import ConfigError
from adclick.serving.edge.bundle import write_bundle
from adclick.serving.edge.catalogue import ApprovedCreative, Catalogue, quantise
from adclick.serving.edge.channel import read_channel
from adclick.serving.edge.keys import read_private_key


def bundle(keys: Path, file: Path, version: int, known: float = 0.9, runtime: str = "0.1.0") -> Path:
    catalogue = Catalogue((ApprovedCreative("a", "A"),), *quantise(np.ones((1, 4), np.float32)))
    content = io.BytesIO()
    write_bundle(
        content,
        read_private_key(keys / "private.pem"),
        model=b"model",
        catalogue=catalogue,
        thresholds={"known": known},
        version=version,
        created=1,
        minimum_runtime=runtime,
    )
    file.write_bytes(content.getvalue())
    return file


def test_a_release_grows_is_followed_and_is_taken_back(keys: Path, tmp_path: Path) -> None:
    origin, file = tmp_path / "origin", tmp_path / "x.bundle"

    def shares() -> list[tuple[int, float]]:
        return [(each.version, each.share) for each in read_channel((origin / "stable.json").read_bytes())]

    public = [keys / "public.pem"]
    published = run_publish(bundle(keys, file, 7), to=str(origin), channel="stable", share=100, public_keys=public)
    assert (origin / published.release.address).read_bytes() == file.read_bytes()
    # One for a later runtime may be published: devices that are too old say so.
    bundle(keys, file, 8, runtime="7.0")
    for share in (10.0, 50.0):
        run_publish(file, to=str(origin), channel="stable", share=share, public_keys=public)
        assert shares() == [(8, share), (7, 100)]
    run_publish(file, to=str(origin), channel="stable", share=0)
    assert shares() == [(7, 100)]
    run_publish(bundle(keys, file, 9), to=str(origin), channel="stable", share=100)
    run_publish(bundle(keys, file, 9), to=str(origin), channel="beta", share=100)
    assert shares() == [(9, 100)]
    assert not list(origin.rglob("*.partial"))


def test_what_devices_would_refuse_is_not_published(keys: Path, tmp_path: Path) -> None:
    origin, file = tmp_path / "origin", tmp_path / "x.bundle"
    run_publish(bundle(keys, file, 8), to=str(origin), channel="stable", share=100)
    before = (origin / "stable.json").read_bytes()
    other = tmp_path / "other"
    create_key_files(other)
    cases = [
        (bundle(keys, tmp_path / "7", 7), [], "names version 8, which is newer than 7"),
        (bundle(keys, tmp_path / "8", 8, known=0.8), [], "names another bundle of version 8"),
        (bundle(keys, tmp_path / "9", 9), [other / "public.pem"], "no trusted key has signed it"),
        (tmp_path / "none", [], "cannot be read"),
    ]
    (tmp_path / "noise").write_bytes(b"noise")
    cases.append((tmp_path / "noise", [], "is no bundle"))
    (tmp_path / "cut").write_bytes((tmp_path / "9").read_bytes()[:-9])
    cases.append((tmp_path / "cut", [], "is no bundle"))
    for path, public, reason in cases:
        with pytest.raises(ConfigError, match=reason):
            run_publish(path, to=str(origin), channel="stable", share=100, public_keys=public)
    with pytest.raises(ConfigError, match="no name of a channel"):
        run_publish(file, to=str(origin), channel="../x", share=100)
    assert (origin / "stable.json").read_bytes() == before
    (origin / "stable.json").write_text("{}")
    with pytest.raises(ConfigError, match="nothing was changed"):
        run_publish(file, to=str(origin), channel="stable", share=100)


def test_the_command(keys: Path, tmp_path: Path) -> None:
    file = bundle(keys, tmp_path / "x.bundle", 7)
    command = ["edge", "publish", "--bundle", str(file), "--to", str(tmp_path / "origin"), "--share", "10"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "version 7 for 10 % of the devices" in done.output
