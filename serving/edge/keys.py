"""Ed25519 keys in files: who signs bundles and channels has the private one, devices the public one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import EdgeError


def create_keys(private: Path, public: Path) -> None:
    """Writes a new key pair as PEM; the private file is its owner's alone to read.

    Raises:
        EdgeError: One of the files exists, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    known = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for path, content, mode in ((private, secret, 0o600), (public, known, 0o644)):
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
        except OSError as error:
            raise EdgeError(
                f"{path}: {error.strerror}", "A key is never overwritten: choose another name, or move the old one."
            ) from None


def read_private_key(path: Path) -> Any:
    """The `Ed25519PrivateKey` of a PEM file.

    Raises:
        EdgeError: There is none in it.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return _read(path, lambda content: load_pem_private_key(content, None), Ed25519PrivateKey)


def read_public_key(path: Path) -> Any:
    """The `Ed25519PublicKey` of a PEM file.

    Raises:
        EdgeError: There is none in it.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return _read(path, load_pem_public_key, Ed25519PublicKey)


def name_of_keys(public_keys: Sequence[Any]) -> str:
    """A short name of a set of `Ed25519PublicKey`s, whatever their order."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = sorted({key.public_bytes(Encoding.Raw, PublicFormat.Raw) for key in public_keys})
    return hashlib.sha256(b"".join(raw)).hexdigest()[:16]


def has_signed(content: bytes, signature: bytes, public_keys: Sequence[Any]) -> bool:
    """Whether any of the `Ed25519PublicKey`s has signed bytes (RFC 8032)."""
    from cryptography.exceptions import InvalidSignature

    for key in public_keys:
        try:
            key.verify(signature, content)
            return True
        except InvalidSignature:
            continue
    return False


def _read(path: Path, load: Any, kind: Any) -> Any:
    try:
        key = load(path.read_bytes())
    except OSError as error:
        raise EdgeError(f"{path}: cannot be read: {error.strerror}", "Name the key's file.") from None
    except (ValueError, TypeError) as error:
        raise EdgeError(f"{path}: no key in PEM: {error}", "Make a pair: adclick edge keys.") from None
    if not isinstance(key, kind):
        raise EdgeError(f"{path}: no Ed25519 key", "Make a pair: adclick edge keys.")
    return key
