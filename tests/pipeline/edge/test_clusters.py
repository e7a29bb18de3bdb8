"""A large catalogue's rows in clusters, and what a device makes of them."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adclick.pipeline.edge.clusters import with_clusters
from adclick.serving.edge.bundle import read_bundle, write_bundle
from adclick.serving.edge.catalogue import ROWS_AT_ONCE, ApprovedCreative, Catalogue, Clusters, quantise
from adclick.serving.edge.errors import BundleRefused

COUNT = ROWS_AT_ONCE + 1_000


def _directions(count: int, seed: int) -> npt.NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, 16), np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def rows() -> npt.NDArray[np.float32]:
    return _directions(COUNT, 1)


@pytest.fixture(scope="module")
def plain(rows: npt.NDArray[np.float32]) -> Catalogue:
    return Catalogue(tuple(ApprovedCreative(str(row), f"Ad {row}") for row in range(COUNT)), *quantise(rows))


@pytest.fixture(scope="module")
def clustered(plain: Catalogue) -> Catalogue:
    return with_clusters(plain)


def _nearest(catalogue: Catalogue, embedding: npt.NDArray[np.float32]) -> str:
    return catalogue.creatives[catalogue.nearest(embedding)[0]].id


def test_every_creative_is_in_one_cluster_with_its_own_embedding(plain: Catalogue, clustered: Catalogue) -> None:
    assert clustered.clusters is not None
    order = [int(creative.id) for creative in clustered.creatives]
    assert sorted(order) == list(range(COUNT))
    assert (clustered.embeddings == plain.embeddings[order]).all()
    assert (clustered.scales == plain.scales[order]).all()


def test_a_device_finds_by_clusters_what_it_finds_by_looking_at_all(
    plain: Catalogue, clustered: Catalogue, rows: npt.NDArray[np.float32]
) -> None:
    wanted = np.random.default_rng(2).integers(0, COUNT, 300)
    captures = rows[wanted] + 0.1 * _directions(300, 3)
    captures /= np.linalg.norm(captures, axis=1, keepdims=True)
    same = [_nearest(plain, capture) == _nearest(clustered, capture) for capture in captures]
    assert np.mean(same) >= 0.99


def test_a_small_catalogue_is_left_as_it_is(plain: Catalogue) -> None:
    small = Catalogue(plain.creatives[:50], plain.embeddings[:50], plain.scales[:50])
    assert with_clusters(small) is small


def test_the_same_catalogue_gives_the_same_clusters(plain: Catalogue, clustered: Catalogue) -> None:
    again = with_clusters(plain)
    assert again.clusters is not None
    assert clustered.clusters is not None
    assert (again.clusters.centroids == clustered.clusters.centroids).all()
    assert (again.clusters.starts == clustered.clusters.starts).all()


def _bundle(key: Ed25519PrivateKey, catalogue: Catalogue) -> bytes:
    file = io.BytesIO()
    write_bundle(file, key, model=b"", catalogue=catalogue, thresholds={"known": 0.9}, version=1, created=1)
    return file.getvalue()


def test_a_bundle_keeps_the_clusters(clustered: Catalogue, rows: npt.NDArray[np.float32]) -> None:
    key = Ed25519PrivateKey.generate()
    read = read_bundle(_bundle(key, clustered), [key.public_key()]).catalogue
    assert read.clusters is not None
    assert [_nearest(read, row) for row in rows[:50]] == [_nearest(clustered, row) for row in rows[:50]]


def test_a_bundle_of_a_small_catalogue_has_none(plain: Catalogue) -> None:
    small = Catalogue(plain.creatives[:50], plain.embeddings[:50], plain.scales[:50])
    with zipfile.ZipFile(io.BytesIO(_bundle(Ed25519PrivateKey.generate(), small))) as archive:
        assert set(json.loads(archive.read("manifest.json"))["files"]).isdisjoint({"centroids.f4", "clusters.i4"})


@pytest.mark.parametrize(
    "clusters",
    [
        Clusters(np.ones((2, 16), np.float32), np.array([0, 5], np.int32)),
        Clusters(np.ones((2, 16), np.float32), np.array([0, 60, 50], np.int32)),
        Clusters(np.ones((2, 16), np.float32), np.array([0, 5, 49], np.int32)),
        Clusters(np.ones((2, 8), np.float32), np.array([0, 5, 50], np.int32)),
        Clusters(np.full((2, 16), np.nan, np.float32), np.array([0, 5, 50], np.int32)),
        Clusters(np.ones((0, 16), np.float32), np.array([0], np.int32)),
    ],
    ids=["too few", "descending", "rows left over", "other dimension", "no numbers", "none"],
)
def test_clusters_that_do_not_cover_the_rows_are_refused(plain: Catalogue, clusters: Clusters) -> None:
    with pytest.raises(ValueError, match="do not cover"):
        Catalogue(plain.creatives[:50], plain.embeddings[:50], plain.scales[:50], clusters)


def test_a_signed_bundle_whose_clusters_do_not_fit_is_refused(plain: Catalogue, clustered: Catalogue) -> None:
    key = Ed25519PrivateKey.generate()
    assert clustered.clusters is not None
    fewer = Catalogue(plain.creatives[:50], plain.embeddings[:50], plain.scales[:50])
    fewer.clusters = clustered.clusters
    with pytest.raises(BundleRefused, match="do not cover"):
        read_bundle(_bundle(key, fewer), [key.public_key()])
