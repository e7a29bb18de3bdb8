"""`adclick edge publish`."""

from __future__ import annotations

import io
from collections.abc import Sequence
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
from adclick.serving.edge.channel import Channel, read_channel
from adclick.serving.edge.keys import read_private_key, read_public_key


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


def published(keys: Path, origin: Path, channel: str = "stable") -> Channel:
    """A channel as a device reads it."""
    return read_channel((origin / f"{channel}.json").read_bytes(), channel, [read_public_key(keys / "public.pem")])


def test_a_release_grows_is_followed_and_is_taken_back(keys: Path, tmp_path: Path) -> None:
    origin, file, serials = tmp_path / "origin", tmp_path / "x.bundle", [0]

    def publish(share: float, channel: str = "stable") -> str:
        done = run_publish(file, to=str(origin), channel=channel, share=share, key=keys / "private.pem")
        serials.append(published(keys, origin).serial)
        assert channel != "stable" or serials[-1] > serials[-2]
        return done.release.address

    def shares() -> list[tuple[int, float]]:
        return [(each.version, each.share) for each in published(keys, origin).releases]

    bundle(keys, file, 7)
    assert (origin / publish(100)).read_bytes() == file.read_bytes()
    # One for a later runtime may be published: devices that are too old say so.
    bundle(keys, file, 8, runtime="7.0")
    for share in (10.0, 50.0):
        publish(share)
        assert shares() == [(8, share), (7, 100)]
    publish(0)
    assert shares() == [(7, 100)]
    bundle(keys, file, 9)
    publish(100)
    publish(100, "beta")
    assert shares() == [(9, 100)]
    assert not list(origin.rglob("*.partial"))


def test_what_devices_would_refuse_is_not_published(keys: Path, tmp_path: Path) -> None:
    origin, file, other = tmp_path / "origin", tmp_path / "x.bundle", tmp_path / "other"
    create_key_files(other)

    def publish(path: Path, key: Path = keys, public: Sequence[Path] = ()) -> None:
        run_publish(path, to=str(origin), channel="stable", share=100, key=key / "private.pem", public_keys=public)

    publish(bundle(keys, file, 8))
    before = (origin / "stable.json").read_bytes()
    cases = [
        (bundle(keys, tmp_path / "7", 7), "names version 8, which is newer than 7"),
        (bundle(keys, tmp_path / "8", 8, known=0.8), "names another bundle of version 8"),
        (bundle(other, tmp_path / "9", 9), "no trusted key has signed it"),
        (tmp_path / "none", "cannot be read"),
    ]
    (tmp_path / "noise").write_bytes(b"noise")
    cases.append((tmp_path / "noise", "no whole archive"))
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-9])
    cases.append((tmp_path / "cut", "no whole archive"))
    for path, reason in cases:
        with pytest.raises(ConfigError, match=reason):
            publish(path)
    with pytest.raises(ConfigError, match="no name of a channel"):
        run_publish(file, to=str(origin), channel="../x", share=100, key=keys / "private.pem")
    with pytest.raises(ConfigError, match="no key in PEM"):
        run_publish(file, to=str(origin), channel="stable", share=100, key=tmp_path / "noise")
    # Who has another key signs nothing anew that he does not trust.
    with pytest.raises(ConfigError, match=r"stable\.json: no trusted key has signed it"):
        publish(tmp_path / "9", key=other)
    assert (origin / "stable.json").read_bytes() == before
    publish(tmp_path / "9", key=other, public=[keys / "public.pem"])
    assert [each.version for each in published(other, origin).releases] == [9]
    for left in ("{}", '{"format": 1, "releases": []}'):
        (origin / "stable.json").write_text(left)
        with pytest.raises(ConfigError, match="nothing was changed"):
            publish(file)


def test_the_command(keys: Path, tmp_path: Path) -> None:
    file = bundle(keys, tmp_path / "x.bundle", 7)
    command = ["edge", "publish", "--bundle", str(file), "--to", str(tmp_path / "origin"), "--share", "10"]
    done = CliRunner().invoke(app, [*command, "--key", str(keys / "private.pem")])
    assert done.exit_code == 0 and "version 7 for 10 % of the devices" in done.output
