"""The model folder: where the exporter and the server meet.

A model folder holds::

    model.onnx      the network; dynamic batch; preprocessing inside the graph
    manifest.json   what it takes, what it returns, its tau, where it came from, parity vectors
    MODEL_CARD.md   what the manifest says, for people; nobody reads it back, and older folders have none
    signature       who signed the manifest, if somebody did: see signatures.py

The exporter writes them with :func:`write_model_folder`, the server reads them with :func:`read_any_model_folder`.
Neither torch nor grpc is needed here.
"""

import errno
import functools
import hashlib
import json
import operator
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from oneglance_core.files import replacing, sync_folder
from oneglance_core.manifests import KINDS, EncoderManifest, ModelFolderError, ModelManifest
from oneglance_core.model_card import model_card

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
CARD_FILE = "MODEL_CARD.md"
SIGNATURE_FILE = "signature"
MAX_MANIFEST_BYTES, MAX_MODEL_BYTES, MAX_SIGNATURE_BYTES = 16 << 20, 2 << 30, 1 << 10
_NEEDED, _OTHERS = {MODEL_FILE, MANIFEST_FILE}, {CARD_FILE, SIGNATURE_FILE}
_READ_ATTEMPTS = 5

_ANY_KIND: Any = Annotated[functools.reduce(operator.or_, KINDS), Field(discriminator="kind")]
_ANY_MANIFEST: TypeAdapter[ModelManifest] = TypeAdapter(_ANY_KIND)
M = TypeVar("M", bound=ModelManifest)
Kind = TypeVar("Kind", bound=ModelManifest)


@dataclass(frozen=True, slots=True)
class ModelFolder(Generic[M]):
    """A model folder that was read and checked. text, signature: the manifest's file, and the one beside it, if any."""

    path: Path
    manifest: M
    model: bytes
    text: bytes = b""
    signature: bytes | None = None

    @property
    def digest(self) -> str:
        return self.manifest.digest

    def of(self, kind: type[Kind]) -> "ModelFolder[Kind]":
        """This folder as one of the given manifest class. Raises ModelFolderError for a model of another kind."""
        if not isinstance(self.manifest, kind):
            wanted = kind.model_fields["kind"].default
            raise ModelFolderError(f"{self.path}: holds a model of kind {self.manifest.kind!r}, not {wanted!r}")
        return ModelFolder(self.path, self.manifest, self.model, self.text, self.signature)


def read_any_model_folder(path: str | os.PathLike[str]) -> ModelFolder[Any]:
    """Read and check a model folder of whatever kind: schema, size and SHA-256 of the graph.

    Raises ModelFolderError when anything is missing or does not match. Parity is the caller's to
    check, since it needs a runtime.
    """
    folder = Path(path)
    text, model, signature = _read_files(folder)
    try:
        manifest = _ANY_MANIFEST.validate_json(text)
    except ValidationError as error:
        lines = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors())
        raise ModelFolderError(f"{folder / MANIFEST_FILE}: {lines}") from error
    if len(model) != manifest.model_bytes:
        raise ModelFolderError(f"{folder / MODEL_FILE}: {len(model)} bytes, the manifest says {manifest.model_bytes}")
    if hashlib.sha256(model).hexdigest() != manifest.model_sha256:
        raise ModelFolderError(f"{folder / MODEL_FILE}: SHA-256 differs from the manifest's")
    return ModelFolder(folder, manifest, model, text, signature)


def read_model_folder(path: str | os.PathLike[str]) -> ModelFolder[EncoderManifest]:
    """Read and check an encoder's model folder. Raises ModelFolderError, also for a model of another kind."""
    return read_any_model_folder(path).of(EncoderManifest)


def model_folders(path: str | os.PathLike[str]) -> list[Path]:
    """The model folders at ``path``: itself, or those directly in it, by name. Raises ModelFolderError without any."""
    folder = Path(path)
    if (folder / MANIFEST_FILE).is_file():
        return [folder]
    inside = sorted(entry.parent for entry in folder.glob(f"[!.]*/{MANIFEST_FILE}"))
    if not inside:
        raise ModelFolderError(f"{folder}: not a model folder: there is no {MANIFEST_FILE} in it, nor one level deeper")
    return inside


def _read_files(folder: Path) -> tuple[bytes, bytes, bytes | None]:
    """Manifest, graph and signature of one version of the folder, even while a writer replaces it."""
    attempts = 0
    while True:
        try:
            # Both files through one descriptor of the folder: a folder put in its place meanwhile is another one.
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return (
                    _read(descriptor, folder / MANIFEST_FILE, MAX_MANIFEST_BYTES),
                    _read(descriptor, folder / MODEL_FILE, MAX_MODEL_BYTES),
                    _read_if_there(descriptor, folder / SIGNATURE_FILE, MAX_SIGNATURE_BYTES),
                )
            finally:
                os.close(descriptor)
        except OSError as error:
            # A writer that replaces the folder leaves none for an instant, and clears the old one away.
            attempts += 1
            if attempts == _READ_ATTEMPTS:
                raise ModelFolderError(f"{folder}: not a model folder: {error}") from error
            time.sleep(0.01)


def _read_if_there(folder_descriptor: int, path: Path, limit: int) -> bytes | None:
    try:
        return _read(folder_descriptor, path, limit)
    except FileNotFoundError:
        return None


def _read(folder_descriptor: int, path: Path, limit: int) -> bytes:
    # A pipe would wait for a writer, and a device may never end.
    descriptor = os.open(path.name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=folder_descriptor)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ModelFolderError(f"{path}: not a file")
        if found.st_size > limit:
            raise ModelFolderError(f"{path}: larger than {limit} bytes")
        return file.read(limit)


def write_model_folder(path: str | os.PathLike[str], manifest: ModelManifest, model: bytes) -> Path:
    """Write a model folder so that ``read_model_folder`` sees the old one or the new one, never a mixture.

    ``manifest.model_sha256`` and ``model_bytes`` are set from ``model``. All files are fsynced in
    a sibling folder, which then takes the name. An existing model folder of that name is replaced; a kill at the very
    moment between can leave none of the name, and the old and the new one beside it under names that begin with a dot.
    Of a symbolic link, the folder that it points to is replaced, or made; the link stays.
    Raises ModelFolderError as ``check_replaceable``, and when the folder can't be written; the old one stays, then.
    """
    write_model_folders({Path(path): (manifest, model)})
    return Path(path)


def write_model_folders(models: Mapping[Path, tuple[ModelManifest, bytes]]) -> None:
    """``write_model_folder`` of several that belong together: none takes its name before all of them are on the disk,
    so that one that is full leaves what there was."""
    for path in models:
        check_replaceable(path)
    fresh: dict[Path, Path] = {}
    path = Path()
    try:
        for path, (manifest, model) in models.items():
            target = Path(os.path.realpath(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh[target] = _sibling(target)
            _fill(fresh[target], manifest, model)
        for target, folder in fresh.items():
            _put(target, folder)
    except OSError as error:
        raise ModelFolderError(f"{path}: can't be written: {error}") from error
    finally:
        for folder in fresh.values():
            shutil.rmtree(folder, ignore_errors=True)


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """Raise ModelFolderError when a model folder at ``path`` would replace something else: a file, or a folder that
    isn't empty and doesn't hold the files of a model only; or when a file is where its parent should be. To be called
    before long work, too."""
    target = Path(path)
    try:
        names = {entry.name for entry in target.iterdir()}
        replaceable = not names or (names >= _NEEDED and names <= _NEEDED | _OTHERS)
    except FileNotFoundError:
        replaceable = True
    except NotADirectoryError as error:
        if not target.exists():
            raise ModelFolderError(f"{target}: can't be written: {error}") from error
        replaceable = False
    except OSError:  # a folder that can't be read
        replaceable = not target.exists()
    if not replaceable:
        raise ModelFolderError(f"{target}: there is something else than a model folder; it stays as it is")


def _fill(folder: Path, manifest: ModelManifest, model: bytes) -> None:
    """Write the files of a model into an empty folder. Raises OSError."""
    stamped = manifest.model_copy(update={"model_sha256": hashlib.sha256(model).hexdigest(), "model_bytes": len(model)})
    text = json.dumps(stamped.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    folder.chmod(0o755)
    files = {MODEL_FILE: model, MANIFEST_FILE: text.encode(), CARD_FILE: model_card(stamped).encode()}
    for name, content in files.items():
        with replacing(folder / name) as file:
            file.write_bytes(content)


def _put(target: Path, fresh: Path) -> None:
    """Give the folder ``fresh`` the name ``target``, whose folder it replaces. Raises OSError."""
    if target.exists():
        _replace(target, fresh)
    else:
        os.replace(fresh, target)
    sync_folder(target.parent)


def _replace(target: Path, fresh: Path) -> None:
    """Give the folder ``fresh`` the name of the folder ``target``, and delete that. Raises OSError."""
    retired = _sibling(target)
    try:
        os.replace(target, retired)
    except OSError:
        os.rmdir(retired)
        raise
    try:
        os.replace(fresh, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another writer was faster; its own is newer
            shutil.rmtree(retired, ignore_errors=True)
        else:
            os.replace(retired, target)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _sibling(target: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
