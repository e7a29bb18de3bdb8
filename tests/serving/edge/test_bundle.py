"""Bundles: the same to the byte, and refused for the right reason."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adclick.serving.edge.bundle import Probe, read_bundle
from adclick.serving.edge.catalogue import Catalogue
from adclick.serving.edge.errors import BundleRefused
from adclick.serving.edge.keys import read_public_key
from adclick.serving.edge.self_test import make_probe, passing, run_self_test
from adclick.serving.edge.watch import Eye
from tests.serving.edge.pictures import picture


def changed(bundle: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The archive with other entries."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def refused(bundle: bytes, public: Path, **options: object) -> str:
    with pytest.raises(BundleRefused) as caught:
        read_bundle(bundle, [read_public_key(public)], **options)  # type: ignore[arg-type]
    return caught.value.reason


def test_it_is_the_same_to_the_byte_and_reads_back(
    make_bundle: Callable[..., bytes], keys: tuple[Path, Path], catalogue: Catalogue, model: bytes
) -> None:
    assert make_bundle() == make_bundle() != make_bundle(version=8)
    bundle = read_bundle(make_bundle(), [read_public_key(keys[1])])
    assert (bundle.version, bundle.model, bundle.known) == (7, model, 0.9)
    assert bundle.catalogue.creatives == catalogue.creatives
    np.testing.assert_array_equal(bundle.catalogue.embeddings, catalogue.embeddings)
    np.testing.assert_array_equal(bundle.catalogue.scales, catalogue.scales)


def test_a_foreign_signature_is_refused_and_either_of_two_trusted_keys_is_enough(
    make_bundle: Callable[..., bytes], keys: tuple[Path, Path]
) -> None:
    other = Ed25519PrivateKey.generate()
    assert refused(make_bundle(other), keys[1]) == "unsigned"
    assert read_bundle(make_bundle(other), [read_public_key(keys[1]), other.public_key()]).version == 7


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda parts: parts.pop("manifest.sig"), "unsigned"),
        (lambda parts: parts.update({"manifest.sig": bytes(64)}), "unsigned"),
        (lambda parts: parts.update({"manifest.sig": b""}), "unsigned"),
        (lambda parts: parts.update({"manifest.json": parts["manifest.json"].replace(b"7", b"8")}), "unsigned"),
        (lambda parts: parts.update({"catalogue.json": parts["catalogue.json"].replace(b"true", b"null")}), "altered"),
        (lambda parts: parts.update({"recogniser.tflite": parts["recogniser.tflite"][:-1]}), "altered"),
        (lambda parts: parts.pop("embeddings.i8"), "damaged"),
        (lambda parts: parts.update({"../evil": b""}), "damaged"),
    ],
)
def test_what_was_changed_is_refused(
    make_bundle: Callable[..., bytes],
    keys: tuple[Path, Path],
    change: Callable[[dict[str, bytes]], None],
    reason: str,
) -> None:
    assert refused(changed(make_bundle(), change), keys[1]) == reason


def test_an_older_one_and_one_for_another_runtime_are_refused(
    make_bundle: Callable[..., bytes], keys: tuple[Path, Path]
) -> None:
    assert refused(make_bundle(), keys[1], minimum_version=8) == "too_old"
    assert refused(make_bundle(minimum_runtime="0.10.0"), keys[1], runtime="0.9.9") == "wrong_runtime"
    assert refused(make_bundle(minimum_runtime="later"), keys[1]) == "unfit"


def test_a_recogniser_of_another_length_or_none_is_refused(
    make_bundle: Callable[..., bytes], keys: tuple[Path, Path], catalogue: Catalogue
) -> None:
    short = Catalogue(catalogue.creatives, catalogue.embeddings[:, :-1], catalogue.scales)
    for bundle in (make_bundle(catalogue=short), make_bundle(model=b"none")):
        with pytest.raises(BundleRefused, match=r"the catalogue has|LiteRT cannot load it"):
            Eye(read_bundle(bundle, [read_public_key(keys[1])]))
    few = Catalogue(catalogue.creatives[:-1], catalogue.embeddings, catalogue.scales)
    assert refused(make_bundle(catalogue=few), keys[1]) == "unfit"
    assert refused(make_bundle(catalogue=few_scales(catalogue)), keys[1]) == "unfit"


def few_scales(catalogue: Catalogue) -> Catalogue:
    scales = catalogue.scales.copy()
    scales[0] = np.nan
    return Catalogue(tuple(replace(each) for each in catalogue.creatives), catalogue.embeddings, scales)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_cut_and_no_changed_byte_of_what_is_read_passes(
    make_bundle: Callable[..., bytes], keys: tuple[Path, Path], data: st.DataObject
) -> None:
    whole = make_bundle()
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= data.draw(st.integers(1, 255))
    refused(whole[:place], keys[1])
    try:
        bundle = read_bundle(bytes(flipped), [read_public_key(keys[1])])
    except BundleRefused:
        return
    # A byte that no reader looks at, such as an entry's time, may differ; nothing that is read may.
    original = read_bundle(whole, [read_public_key(keys[1])])
    assert (bundle.model, bundle.version, bundle.known) == (original.model, original.version, original.known)
    assert bundle.catalogue.creatives == original.catalogue.creatives
    assert bundle.catalogue.embeddings.tobytes() == original.catalogue.embeddings.tobytes()


@given(st.binary(max_size=400))
def test_noise_is_refused(keys: tuple[Path, Path], noise: bytes) -> None:
    assert refused(noise, keys[1]) == "damaged"


def test_a_bundle_that_carries_pictures_recognises_them_and_one_that_does_not_is_refused(
    make_bundle: Callable[..., bytes], keys: tuple[Path, Path], model: bytes
) -> None:
    public = [read_public_key(keys[1])]
    probes = [make_probe("a", picture(0), 48), make_probe("b", picture(1), 48)]
    eye = Eye(read_bundle(make_bundle(probes=probes), public))
    assert eye.bundle.probes == tuple(probes) and run_self_test(eye) == 2
    assert passing(eye, [make_probe("a", picture(9), 48), *probes], 1) == (probes[0],)
    for wrong, reason in (
        (make_probe("a", picture(1), 48), "similarity"),
        (make_probe("e", picture(0), 48), "no creative"),
        (Probe("a", b"none"), "cannot be decoded"),
    ):
        with pytest.raises(BundleRefused, match=reason) as caught:
            run_self_test(Eye(read_bundle(make_bundle(probes=[wrong]), public)))
        assert caught.value.reason == "self_test"
    # A threshold that everything reaches hides no mix-up.
    with pytest.raises(BundleRefused, match="is taken for b"):
        mixed_up = make_bundle(probes=[make_probe("a", picture(1), 48)], thresholds={"known": -1.0})
        run_self_test(Eye(read_bundle(mixed_up, public)))


def test_the_pictures_cannot_be_taken_out(make_bundle: Callable[..., bytes], keys: tuple[Path, Path]) -> None:
    whole = make_bundle(probes=[make_probe("a", picture(0), 48)])
    assert refused(changed(whole, lambda parts: parts.pop("probes.json")), keys[1]) == "altered"
