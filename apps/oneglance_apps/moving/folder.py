"""The files of a gallery: manifest.json with the settings and a SHA-256 of each other file; thresholds.jsonl; and
either subjects.jsonl with encodings.npy and negatives.npy, float32 [N, D], or subjects.parquet, which has all of that.

A line, or row, is a subject, in the order in which they were enrolled. `row` of an encoding is its place among all of
the gallery, the oldest first, and its row in encodings.npy.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from oneglance.v1.moving_pb2 import MovedGallery, MovedSubject, MovedThreshold
from oneglance_core.distance import first_not_unit
from oneglance_core.error_words import in_words

Layout = Literal["npy", "parquet"]
FORMAT, VERSION = "oneglance-gallery", 1
MANIFEST = "manifest.json"
_ROWS_AT_ONCE = 500
_THRESHOLDS = "thresholds.jsonl"
FILES: Mapping[str, tuple[str, ...]] = {
    "npy": ("subjects.jsonl", "encodings.npy", "negatives.npy", _THRESHOLDS),
    "parquet": ("subjects.parquet", _THRESHOLDS),
}


class FolderInvalid(ValueError):
    """What is wrong with which file."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")


def write_folder(
    folder: Path,
    layout: Layout,
    gallery_id: str,
    gallery: MovedGallery,
    subjects: Iterable[MovedSubject],
    thresholds: Iterable[MovedThreshold],
    negatives: int,
) -> None:
    """Into a new folder. Encodings of ``subjects`` have the numbers that are their rows; so many negatives come."""
    folder.mkdir(mode=0o700)
    with _private(folder / _THRESHOLDS) as file:
        for one in thresholds:
            file.write(json.dumps(MessageToDict(one, preserving_proto_field_name=True)).encode() + b"\n")
    if layout == "npy":
        _write_npy(folder, gallery, subjects, negatives)
    else:
        _write_parquet(folder / "subjects.parquet", subjects)
    files = {}
    for name in FILES[layout]:
        with (folder / name).open("rb+") as file:
            os.chmod(folder / name, 0o600)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        files[name] = {"bytes": (folder / name).stat().st_size, "sha256": digest}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "layout": layout,
        "gallery_id": gallery_id,
        "gallery": MessageToDict(gallery, preserving_proto_field_name=True),
        "files": files,
    }
    manifest["digest"] = _digest(manifest)
    with _private(folder / MANIFEST) as file:
        file.write(json.dumps(manifest, indent=2, ensure_ascii=False).encode())
        file.flush()
        os.fsync(file.fileno())


def _private(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _digest(manifest: Mapping[str, object]) -> str:
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _mapped(path: Path, shape: tuple[int, int]) -> Any:
    """A new file of float32 zeros. Its room is taken at once: a write to a mapped file on a full disk kills."""
    array = np.lib.format.open_memmap(path, "w+", np.dtype("<f4"), shape)
    with path.open("rb+") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _write_npy(folder: Path, gallery: MovedGallery, subjects: Iterable[MovedSubject], negatives: int) -> None:
    encodings = _mapped(folder / "encodings.npy", (gallery.encoding_count, gallery.dimension))
    others = _mapped(folder / "negatives.npy", (negatives, gallery.dimension))
    done = 0
    with _private(folder / "subjects.jsonl") as file:
        for one in subjects:
            for encoding in one.encodings:
                encodings[encoding.number] = np.frombuffer(encoding.values, "<f4")
            for negative in one.negatives:
                others[done] = np.frombuffer(negative.values, "<f4")
                done += 1
            record = _record(one, with_values=False)
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
    if len(encodings):
        encodings.flush()
    if len(others):
        others.flush()


def _record(one: MovedSubject, *, with_values: bool) -> dict[str, Any]:
    def encoding(each: Any) -> dict[str, Any]:
        record = {"row": each.number, "created": each.create_seconds, "key": each.key, "source": each.source}
        return {**record, "values": np.frombuffer(each.values, "<f4")} if with_values else record

    return {
        "id": one.id,
        "labels": dict(one.labels),
        "created": one.create_seconds,
        "updated": one.update_seconds,
        "expires": one.expire_seconds if one.HasField("expire_seconds") else None,
        "purpose": one.purpose,
        "consent": one.consent,
        "encodings": [encoding(each) for each in one.encodings],
        "negatives": [encoding(each) for each in one.negatives],
    }


def _write_parquet(path: Path, subjects: Iterable[MovedSubject]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoding = pa.struct(
        {
            "row": pa.int64(),
            "created": pa.float64(),
            "key": pa.string(),
            "source": pa.string(),
            "values": pa.list_(pa.float32()),
        }.items()
    )
    schema = pa.schema(
        [("id", pa.string()), ("labels", pa.map_(pa.string(), pa.string()))]
        + [(name, pa.float64()) for name in ("created", "updated", "expires")]
        + [(name, pa.string()) for name in ("purpose", "consent")]
        + [(name, pa.list_(encoding)) for name in ("encodings", "negatives")]
    )
    with pq.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, Any]] = []
        for one in subjects:
            record = _record(one, with_values=True)
            rows.append({**record, "labels": list(record["labels"].items())})
            if len(rows) == _ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows.clear()
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))


@contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """What was read is as ``write_folder`` writes it; checksums tell damage, but not what other programs make."""
    try:
        yield
    except FolderInvalid:
        raise
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        EOFError,
        RecursionError,
        ParseError,
    ) as error:
        raise FolderInvalid(path, f"isn't as oneglance writes it: {in_words(error)}") from error


class GalleryFolder:
    """A folder that was written whole. Raises FolderInvalid for one that wasn't, or was changed since; OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            manifest = json.loads((path / MANIFEST).read_bytes())
        except (ValueError, RecursionError):
            raise FolderInvalid(path / MANIFEST, "isn't JSON") from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise FolderInvalid(path / MANIFEST, "isn't that of an exported gallery")
        if manifest.get("version") != VERSION:
            version = manifest.get("version")
            raise FolderInvalid(path / MANIFEST, f"version {version!r}: this version of oneglance reads {VERSION}")
        if manifest.get("digest") != _digest(manifest):
            raise FolderInvalid(path / MANIFEST, "was changed since it was written: its digest is another one")
        with _as_written(path / MANIFEST):
            self.layout: Layout = manifest["layout"]
            self.digest: str = manifest["digest"]
            self.gallery_id = str(manifest["gallery_id"])
            self.gallery = ParseDict(manifest["gallery"], MovedGallery())
            files = {
                name: (manifest["files"][name]["bytes"], manifest["files"][name]["sha256"])
                for name in FILES[self.layout]
            }
        for name, (wanted, digest) in files.items():
            with (path / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != wanted:
                    raise FolderInvalid(path / name, f"has {size} bytes, of {wanted}: it is cut off or changed")
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise FolderInvalid(path / name, "was changed since it was written: its SHA-256 is another one")

    def thresholds(self) -> Iterator[MovedThreshold]:
        path = self.path / _THRESHOLDS
        with path.open("rb") as file, _as_written(path):
            for line in file:
                yield ParseDict(json.loads(line), MovedThreshold())

    def subjects(self) -> Iterator[MovedSubject]:
        return self._from_npy() if self.layout == "npy" else self._from_parquet()

    def _from_npy(self) -> Iterator[MovedSubject]:
        encodings, negatives = self._rows("encodings.npy"), self._rows("negatives.npy")
        if len(encodings) != self.gallery.encoding_count:
            there = f"has {len(encodings)} rows, of {self.gallery.encoding_count}"
            raise FolderInvalid(self.path / "encodings.npy", there)
        done = 0
        path = self.path / "subjects.jsonl"
        with path.open("rb") as file, _as_written(path):
            for line in file:
                record = json.loads(line)
                for one in record["encodings"]:
                    if not 0 <= one["row"] < len(encodings):
                        raise FolderInvalid(self.path, f"subject {record['id']!r}: there is no row {one['row']}")
                    one["values"] = encodings[one["row"]]
                for one in record["negatives"]:
                    one["values"] = negatives[done]
                    done += 1
                yield _subject(record)

    def _rows(self, name: str) -> Any:
        with _as_written(self.path / name):
            rows = np.lib.format.open_memmap(self.path / name, "r")
        if rows.ndim != 2 or rows.shape[1] != self.gallery.dimension or rows.dtype != np.dtype("<f4"):
            told = f"is {rows.dtype} {rows.shape}, the gallery's are float32 [N, {self.gallery.dimension}]"
            raise FolderInvalid(self.path / name, told)
        return rows

    def _from_parquet(self) -> Iterator[MovedSubject]:
        import pyarrow.parquet as pq

        path = self.path / "subjects.parquet"
        with _as_written(path), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                for record in batch.to_pylist():
                    yield _subject({**record, "labels": dict(record["labels"])})

    def check(self) -> None:
        """All that can be told without a server. Raises FolderInvalid."""
        for _ in self.thresholds():
            pass
        rows = np.zeros(self.gallery.encoding_count, bool)
        ids: set[str] = set()
        for one in self.subjects():
            where = f"subject {one.id!r}"
            if one.id in ids:
                raise FolderInvalid(self.path, f"{where}: is there twice")
            ids.add(one.id)
            for kind, listed in (("encoding", one.encodings), ("negative", one.negatives)):
                for each in listed:
                    vector = np.frombuffer(each.values, "<f4").astype(np.float64)
                    if len(vector) != self.gallery.dimension:
                        numbers = f"{len(vector)} numbers, the gallery's {self.gallery.dimension}"
                        raise FolderInvalid(self.path, f"{where}: an {kind} has {numbers}")
                    if not np.isfinite(vector).all():
                        raise FolderInvalid(self.path, f"{where}: {kind} {each.number} has NaN or infinity")
                    if self.gallery.unit_norm and (off := first_not_unit(vector[None])):
                        raise FolderInvalid(self.path, f"{where}: {kind} {each.number} has length {off[1]:.6g}, not 1")
            for each in one.encodings:
                if not 0 <= each.number < len(rows) or rows[each.number]:
                    raise FolderInvalid(self.path, f"{where}: row {each.number} is there twice, or isn't one")
                rows[each.number] = True
        for name, there, wanted in (
            ("subjects", len(ids), self.gallery.subject_count),
            ("encodings", int(rows.sum()), self.gallery.encoding_count),
        ):
            if there != wanted:
                raise FolderInvalid(self.path, f"has {there} {name}, of {wanted}")


def _subject(record: Mapping[str, Any]) -> MovedSubject:
    made = MovedSubject(
        id=record["id"],
        labels=record["labels"],
        create_seconds=record["created"],
        update_seconds=record["updated"],
        expire_seconds=record["expires"],
        purpose=record["purpose"],
        consent=record["consent"],
    )
    for name, listed in (("encodings", made.encodings), ("negatives", made.negatives)):
        for one in record[name]:
            listed.add(
                number=one["row"],
                create_seconds=one["created"],
                key=one["key"],
                source=one["source"],
                values=np.asarray(one["values"], "<f4").tobytes(),
            )
    return made
