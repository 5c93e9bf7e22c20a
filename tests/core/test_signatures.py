"""Signed model folders."""

import base64
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from oneglance_core.folder import MANIFEST_FILE, MODEL_FILE, SIGNATURE_FILE, read_any_model_folder, write_model_folder
from oneglance_core.manifests import ModelFolderError
from oneglance_core.signatures import check_signature, read_public_keys, sign_model_folder
from oneglance_exporter.cli import main
from oneglance_server.errors import StartupError
from oneglance_server.loading import load_models
from oneglance_server.settings import BUNDLED_MODEL, Settings
from tests.models import pixels_model


def keys_in(folder: Path, name: str) -> tuple[Path, Path]:
    """Files of a private key and its public one."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def is_signed(folder: Path, *public: Path) -> bool:
    try:
        check_signature(read_any_model_folder(folder), read_public_keys(public))
    except ModelFolderError:
        return False
    return True


def test_a_signature_is_of_the_whole_folder_and_of_a_key(tmp_path: Path) -> None:
    ours, public = keys_in(tmp_path, "ours")
    _, other = keys_in(tmp_path, "other")
    model = pixels_model(tmp_path / "model")
    assert not is_signed(model, public)
    assert main(["sign", "--model", str(model), "--key", str(ours)]) == 0
    assert is_signed(model, public)
    assert is_signed(model, other, public)
    assert not is_signed(model, other)
    text = (model / MANIFEST_FILE).read_text()
    (model / MANIFEST_FILE).write_text(text.replace('"tau": 0.5', '"tau": 3.5'))
    assert text != (model / MANIFEST_FILE).read_text()
    assert not is_signed(model, public)
    (model / MANIFEST_FILE).write_text(text)
    assert is_signed(model, public)
    graph = (model / MODEL_FILE).read_bytes()
    (model / MODEL_FILE).write_bytes(graph[:-1] + bytes([graph[-1] ^ 1]))
    assert not is_signed(model, public)
    (model / MODEL_FILE).write_bytes(graph)
    another = pixels_model(tmp_path / "another", name="another")
    shutil.copy(model / SIGNATURE_FILE, another)
    assert not is_signed(another, public)


def test_what_writes_a_folder_anew_takes_the_signature_away(tmp_path: Path) -> None:
    ours, public = keys_in(tmp_path, "ours")
    model = pixels_model(tmp_path / "model")
    sign_model_folder(model, ours)
    folder = read_any_model_folder(model)
    write_model_folder(model, folder.manifest, folder.model)
    assert not (model / SIGNATURE_FILE).exists()
    assert not is_signed(model, public)


@pytest.mark.parametrize("content", [b"", b"hello", base64.b64encode(b"x" * 64), b"\xff" * 88, b"A" * 2000])
def test_a_damaged_signature_is_none(tmp_path: Path, content: bytes) -> None:
    _, public = keys_in(tmp_path, "ours")
    model = pixels_model(tmp_path / "model")
    (model / SIGNATURE_FILE).write_bytes(content)
    assert not is_signed(model, public)


def test_keys_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    model = pixels_model(tmp_path / "model")
    other = generate_private_key(SECP256R1())
    (tmp_path / "ec.pem").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "ec.pub").write_bytes(public)
    (tmp_path / "text").write_text("hello")
    for name, why in (("missing", "no private key"), ("text", "no private key"), ("ec.pem", "not an Ed25519")):
        with pytest.raises(ModelFolderError, match=why):
            sign_model_folder(model, tmp_path / name)
    for name, why in (("missing", "no public key"), ("text", "no public key"), ("ec.pub", "not an Ed25519")):
        with pytest.raises(ModelFolderError, match=why):
            read_public_keys([tmp_path / name])


def test_a_server_loads_signed_models_only_if_it_is_told_to(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    ours, public = keys_in(tmp_path, "ours")
    model = pixels_model(tmp_path / "model")
    with ThreadPoolExecutor(1) as pool:
        told = Settings(models=(model, BUNDLED_MODEL), signed_by=(public,))
        with pytest.raises(StartupError, match="is not signed"):
            load_models(told, pool)
        assert load_models(Settings(models=(model,)), pool).loaded
        sign_model_folder(model, ours)
        assert len(load_models(told, pool).loaded) == 2
        with pytest.raises(StartupError, match="no public key"):
            load_models(Settings(models=(model,), signed_by=(tmp_path / "missing",)), pool)
