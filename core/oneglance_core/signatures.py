"""Signed model folders: who made or approved a model says so, and a server may load no others.

A file ``signature`` beside the manifest holds the Ed25519 signature (RFC 8032) of the manifest's bytes, in base64. The
manifest has the graph's SHA-256, so that the signature is of both. Keys are PEM files; they are made by::

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out public.pem
"""

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from oneglance_core.files import replacing
from oneglance_core.folder import SIGNATURE_FILE, ModelFolder, read_any_model_folder
from oneglance_core.manifests import ModelFolderError

_WHAT = b"oneglance-model/1\n"


def sign_model_folder(path: str | os.PathLike[str], key: str | os.PathLike[str]) -> None:
    """Sign a model folder that holds what it should, with the private key in a PEM file.

    Raises ModelFolderError for a folder or a key that can't be used, or that can't be written.
    """
    folder = read_any_model_folder(path)
    signature = _private_key(Path(key)).sign(_WHAT + folder.text)
    try:
        with replacing(folder.path / SIGNATURE_FILE) as file:
            file.write_bytes(base64.b64encode(signature) + b"\n")
    except OSError as error:
        raise ModelFolderError(f"{folder.path / SIGNATURE_FILE}: can't be written: {error}") from error


def read_public_keys(paths: Sequence[str | os.PathLike[str]]) -> list[Ed25519PublicKey]:
    """Of PEM files. Raises ModelFolderError."""
    keys = []
    for path in paths:
        try:
            key = load_pem_public_key(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise ModelFolderError(f"{path}: no public key, PEM, that can be read ({error})") from error
        if not isinstance(key, Ed25519PublicKey):
            raise ModelFolderError(f"{path}: not an Ed25519 key")
        keys.append(key)
    return keys


def check_signature(folder: ModelFolder[Any], keys: Sequence[Ed25519PublicKey]) -> None:
    """Raises ModelFolderError unless the folder, as it was read, is signed with one of the keys."""
    if folder.signature is None:
        raise ModelFolderError(f"{folder.path}: is not signed, and only signed models are to be loaded")
    try:
        signature = base64.b64decode(folder.signature.strip(), validate=True)
    except binascii.Error:
        signature = b""
    for key in keys:
        try:
            key.verify(signature, _WHAT + folder.text)
        except InvalidSignature:
            continue
        return
    raise ModelFolderError(f"{folder.path}: its signature is of none of the keys that models are to be signed with")


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ModelFolderError(f"{path}: no private key, PEM without a password, that can be read ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ModelFolderError(f"{path}: not an Ed25519 key")
    return key
