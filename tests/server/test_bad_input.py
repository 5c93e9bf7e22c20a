"""The table of docs/errors.md, row by row: a typed status, the field, the state untouched, the server alive."""

import functools
import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from PIL import Image

import oneglance
from oneglance import Client, OneglanceError, encoding, enroll_request, identify_request, keyed, subject_filter
from oneglance.client.errors import from_error, raise_from
from oneglance.client.requests import mate, stranger
from oneglance.v1.common_pb2 import DATA_TYPE_FLOAT32, Encoding, Example, Tensor
from oneglance.v1.gallery_pb2 import (
    CalibrateRequest,
    CalibrationSettings,
    ListGalleriesRequest,
    SetDecidedByRequest,
    SetDoubtPolicyRequest,
    SetFusionRequest,
    SetKeepCropsRequest,
)
from oneglance.v1.gallery_pb2_grpc import GalleryServiceStub
from oneglance.v1.identification_pb2 import IdentifyRequest
from oneglance.v1.subject_pb2 import EnrollRequest
from oneglance_server.app import Server
from tests.pictures import picture, png
from tests.running import measured
from tests.server.test_store_states import STATES
from tests.waiting import PATIENCE_SECONDS, until

GOOD = png(picture(1))
DOCS = Path(__file__).parents[2] / "docs" / "errors.md"
Case = Callable[[Client, str, str], object]


def bomb(side: int = 60_000) -> bytes:
    """A PNG of a few hundred bytes whose header claims ``side`` x ``side`` pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(100_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def tensor(shape: tuple[int, ...], data: bytes, data_type: int = DATA_TYPE_FLOAT32) -> Example:
    return Example(tensor=Tensor(data_type=data_type, shape=shape, data=data))  # type: ignore[arg-type]


def enroll_everything_and_replay(client: Client, gallery: str, digest: str) -> object:
    client.enroll(gallery, "twice", GOOD, request_id="r")
    return client.enroll(gallery, "twice", png(picture(2)), request_id="r")


def enroll_two_people(client: Client, gallery: str, digest: str) -> object:
    one, other = np.eye(64)[:2]
    return client.enroll(gallery, "two people", encoding(one, digest), encoding(other, digest), doubt_policy="refuse")


def calibrate(client: Client, *requests: CalibrateRequest) -> object:
    try:
        return client._galleries.Calibrate(iter(requests))
    except grpc.RpcError as error:
        raise_from(error)


def raw(client: Client, method: str, data: bytes) -> object:
    """Send ``data`` as it is."""
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = client._channel.unary_unary(f"/oneglance.v1.{method}")
    try:
        return call(data, timeout=PATIENCE_SECONDS)
    except grpc.RpcError as error:
        raise_from(error)


def settings(gallery: str) -> CalibrateRequest:
    return CalibrateRequest(settings=CalibrationSettings(gallery_id=gallery))


def stranger_probe() -> CalibrateRequest:
    return CalibrateRequest(probe=stranger(GOOD))


def calibrate_an_empty_gallery(client: Client, gallery: str, digest: str) -> object:
    client.create_gallery("nobody here", encoder="pixels")
    try:
        return client.calibrate("nobody here", iter([stranger(GOOD)]))
    finally:
        client.delete_gallery("nobody here")


nan12 = np.full((6, 2), np.nan, np.float32)
# slug: (call, gRPC status, reason, field)
CASES: dict[str, tuple[Case, str, str, str]] = {
    "image-empty": (lambda c, g, d: c.enroll(g, "s", b""), "INVALID_ARGUMENT", "IMAGE_EMPTY", "examples[0].image"),
    "image-undecodable": (
        lambda c, g, d: c.enroll(g, "s", b"not a picture"),
        "INVALID_ARGUMENT",
        "IMAGE_UNDECODABLE",
        "examples[0].image",
    ),
    "image-truncated": (
        lambda c, g, d: c.identify(g, GOOD, jpeg()[:400]),
        "INVALID_ARGUMENT",
        "IMAGE_UNDECODABLE",
        "probes[1].image",
    ),
    "image-too-many-bytes": (
        lambda c, g, d: c.enroll(g, "s", bytes(33 << 20)),
        "INVALID_ARGUMENT",
        "IMAGE_TOO_LARGE",
        "examples[0].image",
    ),
    "image-too-many-pixels": (
        lambda c, g, d: c.enroll(g, "s", bomb()),
        "INVALID_ARGUMENT",
        "IMAGE_TOO_LARGE",
        "examples[0].image",
    ),
    "images-too-many-pixels": (
        lambda c, g, d: c.identify(g, *[bomb(7000)] * 21),
        "INVALID_ARGUMENT",
        "TOO_MANY",
        "probes[20].image",
    ),
    "image-of-parts": (
        lambda c, g, d: c.enroll(g, "s", b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0vpAg\0\0\0\0" * 10_000),
        "INVALID_ARGUMENT",
        "IMAGE_UNDECODABLE",
        "examples[0].image",
    ),
    "image-blank": (
        lambda c, g, d: c.enroll(g, "s", png(np.full((8, 8), 255, np.uint8))),
        "INVALID_ARGUMENT",
        "NO_ENCODING",
        "examples[0].image",
    ),
    "image-for-signal": (
        lambda c, g, d: c.encode(GOOD, encoder="signal"),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "examples[0].image",
    ),
    "example-empty": (lambda c, g, d: c.enroll(g, "s", Example()), "INVALID_ARGUMENT", "EMPTY", "examples[0]"),
    "examples-none": (lambda c, g, d: c.enroll(g, "s"), "INVALID_ARGUMENT", "EMPTY", "examples"),
    "examples-too-many": (
        lambda c, g, d: c.enroll(g, "s", *[GOOD] * 65),
        "INVALID_ARGUMENT",
        "TOO_MANY",
        "examples",
    ),
    "probes-none": (lambda c, g, d: c.identify(g), "INVALID_ARGUMENT", "EMPTY", "probes"),
    "probes-a-million": (
        lambda c, g, d: c._call(
            c._identification.Identify, IdentifyRequest(gallery_id=g, probes=[Example()] * 1_000_000)
        ),
        "INVALID_ARGUMENT",
        "TOO_MANY",
        "probes",
    ),
    "request-too-large": (
        lambda c, g, d: c.get_gallery("x" * (64 << 10)),
        "INVALID_ARGUMENT",
        "MESSAGE_TOO_LARGE",
        "",
    ),
    "request-malformed": (
        lambda c, g, d: raw(c, "GalleryService/GetGallery", b"\x0a\xff"),
        "INVALID_ARGUMENT",
        "MALFORMED",
        "",
    ),
    "fields-too-many": (
        lambda c, g, d: raw(c, "IdentificationService/Identify", b"\x28\x01" * 40_000),
        "INVALID_ARGUMENT",
        "TOO_MANY",
        "",
    ),
    "tensor-nan": (
        lambda c, g, d: c.encode(nan12, encoder="signal"),
        "INVALID_ARGUMENT",
        "TENSOR_INVALID",
        "examples[0].tensor.data",
    ),
    "tensor-shape": (
        lambda c, g, d: c.encode(np.zeros((6, 3), np.float32), encoder="signal"),
        "INVALID_ARGUMENT",
        "TENSOR_INVALID",
        "examples[0].tensor.shape",
    ),
    "tensor-channels": (
        lambda c, g, d: c.enroll(g, "s", oneglance.tensor(np.zeros((8, 8, 3), np.uint8))),
        "INVALID_ARGUMENT",
        "TENSOR_INVALID",
        "examples[0].tensor.shape",
    ),
    "tensor-dtype": (
        lambda c, g, d: c.enroll(g, "s", np.zeros((8, 8, 1), np.float32)),
        "INVALID_ARGUMENT",
        "TENSOR_INVALID",
        "examples[0].tensor.data_type",
    ),
    "tensor-no-dtype": (
        lambda c, g, d: c.enroll(g, "s", tensor((8, 8, 1), bytes(64), 0)),
        "INVALID_ARGUMENT",
        "TENSOR_INVALID",
        "examples[0].tensor.data_type",
    ),
    "tensor-short": (
        lambda c, g, d: c.encode(tensor((6, 2), bytes(47)), encoder="signal"),
        "INVALID_ARGUMENT",
        "TENSOR_INVALID",
        "examples[0].tensor.data",
    ),
    "tensor-negative-shape": (
        lambda c, g, d: c.encode(tensor((-6, -2), bytes(48)), encoder="signal"),
        "INVALID_ARGUMENT",
        "TENSOR_INVALID",
        "examples[0].tensor.shape",
    ),
    "encoding-no-digest": (
        lambda c, g, d: c.enroll(g, "s", Encoding(values=[1.0] * 64)),
        "INVALID_ARGUMENT",
        "ENCODING_INVALID",
        "examples[0].encoding.encoder_digest",
    ),
    "encoding-other-encoder": (
        lambda c, g, d: c.identify(g, encoding(np.ones(64), "f" * 64)),
        "FAILED_PRECONDITION",
        "ENCODER_MISMATCH",
        "probes[0].encoding.encoder_digest",
    ),
    "encoding-dimension": (
        lambda c, g, d: c.enroll(g, "s", encoding(np.ones(63), d)),
        "INVALID_ARGUMENT",
        "ENCODING_INVALID",
        "examples[0].encoding.values",
    ),
    "encoding-nan": (
        lambda c, g, d: c.enroll(g, "s", encoding([np.nan] * 64, d)),
        "INVALID_ARGUMENT",
        "ENCODING_INVALID",
        "examples[0].encoding.values",
    ),
    "encoding-zero": (
        lambda c, g, d: c.identify(g, encoding(np.zeros(64), d)),
        "INVALID_ARGUMENT",
        "ENCODING_INVALID",
        "probes[0].encoding.values",
    ),
    "encoding-huge": (
        lambda c, g, d: c.enroll(g, "s", encoding([1e30] * 64, d)),
        "INVALID_ARGUMENT",
        "ENCODING_INVALID",
        "examples[0].encoding.values",
    ),
    "encode-an-encoding": (
        lambda c, g, d: c.encode(encoding(np.ones(64), d), encoder="pixels"),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "examples[0].encoding",
    ),
    "gallery-unknown": (lambda c, g, d: c.identify("nowhere", GOOD), "NOT_FOUND", "GALLERY_NOT_FOUND", ""),
    "gallery-exists": (lambda c, g, d: c.create_gallery(g, encoder="pixels"), "ALREADY_EXISTS", "GALLERY_EXISTS", ""),
    "subject-unknown": (lambda c, g, d: c.verify(g, "nobody", GOOD), "NOT_FOUND", "SUBJECT_NOT_FOUND", ""),
    "subject-exists": (
        lambda c, g, d: c.enroll(g, "known", GOOD, on_existing="fail"),
        "ALREADY_EXISTS",
        "SUBJECT_EXISTS",
        "",
    ),
    "encoding-unknown": (
        lambda c, g, d: c.delete_encoding(g, "known", "999999999"),
        "NOT_FOUND",
        "ENCODING_NOT_FOUND",
        "",
    ),
    "negative-unknown": (
        lambda c, g, d: c.delete_negative(g, "known", "999999999"),
        "NOT_FOUND",
        "NEGATIVE_NOT_FOUND",
        "",
    ),
    "negative-enrolled": (
        lambda c, g, d: c.add_negative(g, "known", GOOD),
        "FAILED_PRECONDITION",
        "NEGATIVE_ENROLLED",
        "",
    ),
    "like-another": (
        lambda c, g, d: c.enroll(g, "another", GOOD, doubt_policy="refuse"),
        "ALREADY_EXISTS",
        "LIKE_ANOTHER",
        "",
    ),
    "unlike-own": (enroll_two_people, "FAILED_PRECONDITION", "UNLIKE_OWN", ""),
    "doubt-policy-unknown": (
        lambda c, g, d: c._call(c._galleries.SetDoubtPolicy, SetDoubtPolicyRequest(gallery_id=g)),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "doubt_policy",
    ),
    "keep-crops-missing": (
        lambda c, g, d: c._call(c._galleries.SetKeepCrops, SetKeepCropsRequest(gallery_id=g)),
        "INVALID_ARGUMENT",
        "EMPTY",
        "keep_crops",
    ),
    "approximation-share": (
        lambda c, g, d: c.set_approximation(g, 0.5),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "approximation.mates_found",
    ),
    "move-encoder-same": (
        lambda c, g, d: c.start_move(g, f"{g}-2", "pixels"),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "encoder",
    ),
    "move-compare-share": (
        lambda c, g, d: c.start_move(g, f"{g}-2", "signal", compare_share=2.0),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "compare_share",
    ),
    "move-none": (lambda c, g, d: c.cut_over(g), "FAILED_PRECONDITION", "NOT_MOVING", ""),
    "decided-by-unknown": (
        lambda c, g, d: c._call(c._galleries.SetDecidedBy, SetDecidedByRequest(gallery_id=g)),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "decided_by",
    ),
    "pair-head-missing": (
        lambda c, g, d: c.set_decided_by(g, "probability"),
        "INVALID_ARGUMENT",
        "PAIR_HEAD_MISSING",
        "decided_by",
    ),
    "backup-name": (lambda c, g, d: c.create_backup("../b"), "INVALID_ARGUMENT", "INVALID_REQUEST", "name"),
    "backups-off": (lambda c, g, d: c.create_backup("b"), "FAILED_PRECONDITION", "BACKUPS_OFF", ""),
    "model-unknown": (lambda c, g, d: c.create_gallery("new", encoder="resnet"), "NOT_FOUND", "MODEL_NOT_FOUND", ""),
    "model-required": (lambda c, g, d: c.create_gallery("new"), "INVALID_ARGUMENT", "MODEL_REQUIRED", "encoder"),
    "request-id-conflict": (enroll_everything_and_replay, "ABORTED", "REQUEST_CONFLICT", ""),
    "id-empty": (lambda c, g, d: c.enroll(g, "", GOOD), "INVALID_ARGUMENT", "ID_INVALID", "subject_id"),
    "id-control-character": (
        lambda c, g, d: c.enroll(g, "a\x00b", GOOD),
        "INVALID_ARGUMENT",
        "ID_INVALID",
        "subject_id",
    ),
    "id-line-break": (lambda c, g, d: c.create_gallery("a\nb"), "INVALID_ARGUMENT", "ID_INVALID", "gallery_id"),
    "id-surrounding-space": (
        lambda c, g, d: c.get_subject(g, " known"),
        "INVALID_ARGUMENT",
        "ID_INVALID",
        "subject_id",
    ),
    "id-a-megabyte": (
        lambda c, g, d: c.enroll(g, "x" * (1 << 20), GOOD),
        "INVALID_ARGUMENT",
        "ID_INVALID",
        "subject_id",
    ),
    "request-id-a-megabyte": (
        lambda c, g, d: c.enroll(g, "s", GOOD, request_id="x" * (1 << 20)),
        "INVALID_ARGUMENT",
        "ID_INVALID",
        "request_id",
    ),
    "id-turned-round": (
        lambda c, g, d: c.rename_subject(g, "known", "ada\u202eecila"),
        "INVALID_ARGUMENT",
        "ID_INVALID",
        "new_subject_id",
    ),
    "id-invisible": (
        lambda c, g, d: c.enroll(g, "ada\u200b", GOOD),
        "INVALID_ARGUMENT",
        "ID_INVALID",
        "subject_id",
    ),
    "label-control-character": (
        lambda c, g, d: c.update_labels(g, "known", {"name": "a\x07"}),
        "INVALID_ARGUMENT",
        "ID_INVALID",
        "labels[name]",
    ),
    "encoding-key-twice": (
        lambda c, g, d: c.enroll(g, "known", keyed(GOOD, "front"), keyed(GOOD, "front")),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "examples[1].key",
    ),
    "encoding-id-and-key": (
        lambda c, g, d: c.delete_encoding(g, "known", "1", encoding_key="front"),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "encoding_key",
    ),
    "subject-merged-into-itself": (
        lambda c, g, d: c.merge_subjects(g, "known", "known"),
        "INVALID_ARGUMENT",
        "SAME_SUBJECT",
        "",
    ),
    "filter-empty": (
        lambda c, g, d: c.delete_subjects(g, subject_filter()),
        "INVALID_ARGUMENT",
        "EMPTY",
        "filter",
    ),
    "filter-labels-too-many": (
        lambda c, g, d: list(c.list_subjects(g, subject_filter({str(i): "" for i in range(9)}))),
        "INVALID_ARGUMENT",
        "TOO_MANY",
        "filter.labels",
    ),
    "labels-too-many": (
        lambda c, g, d: c.enroll(g, "s", GOOD, labels={str(i): "" for i in range(65)}),
        "INVALID_ARGUMENT",
        "TOO_MANY",
        "labels",
    ),
    "label-too-long": (
        lambda c, g, d: c.enroll(g, "s", GOOD, labels={"name": "x" * 1001}),
        "INVALID_ARGUMENT",
        "ID_INVALID",
        "labels[name]",
    ),
    "description-too-long": (
        lambda c, g, d: c.create_gallery("new", encoder="pixels", description="x" * 1001),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "description",
    ),
    "on-existing-unknown": (
        lambda c, g, d: c._call(
            c._subjects.Enroll,
            EnrollRequest(gallery_id=g, subject_id="s", examples=[Example(image=GOOD)], on_existing=77),  # type: ignore[arg-type]
        ),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "on_existing",
    ),
    "tau-nan": (lambda c, g, d: c.identify(g, GOOD, tau=float("nan")), "INVALID_ARGUMENT", "TAU_INVALID", "tau"),
    "tau-negative": (lambda c, g, d: c.set_threshold(g, -0.1), "INVALID_ARGUMENT", "TAU_INVALID", "tau"),
    "fusion-unknown": (
        lambda c, g, d: c._call(c._galleries.SetFusion, SetFusionRequest(gallery_id=g)),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "fusion",
    ),
    "tau-infinite": (lambda c, g, d: c.set_threshold(g, float("inf")), "INVALID_ARGUMENT", "TAU_INVALID", "tau"),
    "tau-missing": (
        lambda c, g, d: c.compare(np.ones((6, 2), np.float32), np.ones((6, 2), np.float32), encoder="signal"),
        "FAILED_PRECONDITION",
        "THRESHOLD_MISSING",
        "",
    ),
    "candidates-negative": (
        lambda c, g, d: c.identify(g, GOOD, max_candidates=-1),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "max_candidates",
    ),
    "candidates-too-many": (
        lambda c, g, d: c.identify(g, GOOD, max_candidates=1001),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "max_candidates",
    ),
    "page-token-forged": (
        lambda c, g, d: c._call(c._galleries.ListGalleries, ListGalleriesRequest(page_token="%%%")),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "page_token",
    ),
    "page-token-not-ascii": (
        lambda c, g, d: c._call(c._galleries.ListGalleries, ListGalleriesRequest(page_token="é")),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "page_token",
    ),
    "answer-too-long": (
        lambda c, g, d: c.identify(g, *[GOOD] * 60, max_candidates=1000),
        "INVALID_ARGUMENT",
        "TOO_MANY",
        "max_candidates",
    ),
    "page-size-negative": (
        lambda c, g, d: c._call(c._galleries.ListGalleries, ListGalleriesRequest(page_size=-5)),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "page_size",
    ),
    "verify-nothing-claimed": (
        lambda c, g, d: c._call(c._identification.Verify, c_verify(g)),
        "INVALID_ARGUMENT",
        "EMPTY",
        "claim",
    ),
    "calibrate-no-settings": (lambda c, g, d: calibrate(c), "INVALID_ARGUMENT", "SETTINGS_MISPLACED", "settings"),
    "calibrate-probe-first": (
        lambda c, g, d: calibrate(c, stranger_probe(), settings(g)),
        "INVALID_ARGUMENT",
        "SETTINGS_MISPLACED",
        "settings",
    ),
    "calibrate-settings-twice": (
        lambda c, g, d: calibrate(c, settings(g), stranger_probe(), settings(g)),
        "INVALID_ARGUMENT",
        "SETTINGS_MISPLACED",
        "settings",
    ),
    "calibrate-target": (
        lambda c, g, d: c.calibrate(g, iter([stranger(GOOD)]), target_fpir=1.0),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "settings.target_fpir",
    ),
    "calibrate-data-too-long": (
        lambda c, g, d: c.calibrate(g, iter([stranger(GOOD)]), data="x" * 1001),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "settings.data",
    ),
    "calibrate-no-probes": (lambda c, g, d: c.calibrate(g, iter([])), "INVALID_ARGUMENT", "EMPTY", "probe"),
    "calibrate-gallery-unknown": (
        lambda c, g, d: c.calibrate("nowhere", iter([stranger(GOOD)])),
        "NOT_FOUND",
        "GALLERY_NOT_FOUND",
        "",
    ),
    "calibrate-gallery-empty": (calibrate_an_empty_gallery, "FAILED_PRECONDITION", "GALLERY_EMPTY", ""),
    "calibrate-mate-unknown": (
        lambda c, g, d: c.calibrate(g, iter([stranger(png(picture(5))), mate(GOOD, "nobody")])),
        "NOT_FOUND",
        "SUBJECT_NOT_FOUND",
        "",
    ),
    "calibrate-too-few-strangers": (
        lambda c, g, d: c.calibrate(g, (stranger(png(picture(i))) for i in range(100, 199))),
        "FAILED_PRECONDITION",
        "TOO_FEW_STRANGERS",
        "",
    ),
    "calibrate-strangers-enrolled": (
        lambda c, g, d: c.calibrate(g, iter([stranger(GOOD)] * 100)),
        "FAILED_PRECONDITION",
        "TARGET_UNREACHABLE",
        "",
    ),
}


def c_verify(gallery: str):  # type: ignore[no-untyped-def]
    from oneglance.v1.identification_pb2 import VerifyRequest

    return VerifyRequest(gallery_id=gallery, probe=Example(image=GOOD))


@pytest.fixture
def digest(client: Client) -> str:
    return client.describe_model("pixels").model.digest


@pytest.fixture
def enrolled(client: Client, gallery: str) -> str:
    client.enroll(gallery, "known", GOOD)
    return gallery


@pytest.mark.parametrize("slug", CASES)
def test_refused_with_a_typed_status_and_nothing_changed(slug: str, client: Client, enrolled: str, digest: str) -> None:
    call, code, reason, field = CASES[slug]
    before = client.get_gallery(enrolled)
    with pytest.raises(OneglanceError) as caught:
        call(client, enrolled, digest)
    error = caught.value
    assert (error.code.name, error.reason) == (code, reason)
    assert [path for path, _ in error.field_violations] == ([field] if field else [])
    after = client.get_gallery(enrolled)
    written = 1 if slug == "request-id-conflict" else 0  # its first, good half
    assert (after.revision, after.subject_count) == (before.revision + written, before.subject_count + written)
    assert client.identify(enrolled, GOOD).results[0].subject_id == "known"


def test_the_documented_table_is_the_tested_one() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*?) \| ([A-Z_]+) \| `?([A-Z_]*)`? ?\|", DOCS.read_text(), re.MULTILINE)
    # Those of stylization, and of sounds and arrays, have files of their own.
    apart = ("stylize-", "sound", "array-", "picture-for-sounds")
    documented = {slug: (code, reason) for slug, _, code, reason in rows if not slug.startswith(apart)}
    tested = {slug: (code, reason) for slug, (_, code, reason, _) in CASES.items()} | ELSEWHERE
    assert documented == tested


# Cases that need more than one call; each has a test of its own here or in the named file.
ELSEWHERE = {
    "message-too-large": ("RESOURCE_EXHAUSTED", ""),  # test_streams.py
    "deadline-expired": ("DEADLINE_EXCEEDED", ""),  # test_overload.py
    "stream-cancelled": ("CANCELLED", ""),  # below
    "stream-item-bad": ("INVALID_ARGUMENT", "IMAGE_UNDECODABLE"),  # below
    "stream-idle": ("ABORTED", "STREAM_IDLE"),  # test_idle_streams.py
    "queue-full": ("RESOURCE_EXHAUSTED", "QUEUE_FULL"),  # test_overload.py
    "encoder-not-loaded": ("FAILED_PRECONDITION", "ENCODER_NOT_LOADED"),  # test_lifecycle.py
    "limit-encodings": ("FAILED_PRECONDITION", "LIMIT_EXCEEDED"),  # test_lifecycle.py
    "loading": ("UNAVAILABLE", "NOT_SERVING"),  # test_lifecycle.py
    "fusion-changed": ("FAILED_PRECONDITION", "FUSION_CHANGED"),  # test_fusion.py
    "backup-exists": ("ALREADY_EXISTS", "BACKUP_EXISTS"),  # test_backups.py
    "disk-full": ("RESOURCE_EXHAUSTED", "STORE_FULL"),  # test_lifecycle.py
    **{slug: (code, reason) for slug, (_, code, reason) in STATES.items()},  # test_store_states.py
}


def test_details_are_also_given_the_standard_way(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        GalleryServiceStub(channel).ListGalleries(ListGalleriesRequest(page_size=-1))
    details: dict[str, bytes] = dict(caught.value.trailing_metadata())  # type: ignore
    status = Status.FromString(details["grpc-status-details-bin"])
    info, bad = ErrorInfo(), BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.reason, info.domain) == ("INVALID_REQUEST", "oneglance")
    assert [v.field for v in bad.field_violations] == ["page_size"]


def test_a_bad_item_does_not_end_the_stream(client: Client, gallery: str) -> None:
    good = [enroll_request(gallery, f"s{i}", [png(picture(i))]) for i in range(3)]
    items = [good[0], enroll_request(gallery, "bad", [b"?"]), good[1], enroll_request("nowhere", "x", [GOOD]), good[2]]
    answers = list(client.bulk_enroll(iter(items)))
    assert [a.index for a in answers] == [0, 1, 2, 3, 4]
    assert [a.WhichOneof("outcome") for a in answers] == ["enrolled", "error", "enrolled", "error", "enrolled"]
    error = from_error(answers[1].error)
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "IMAGE_UNDECODABLE")
    assert error.field_violations[0][0] == "examples[0].image"
    assert [s.id for s in client.list_subjects(gallery)] == ["s0", "s1", "s2"]
    probes = [identify_request(gallery, [p]) for p in (png(picture(0)), b"?", png(picture(2)))]
    found = list(client.identify_stream(iter(probes)))
    assert [f.WhichOneof("outcome") for f in found] == ["response", "error", "response"]
    assert [f.response.results[0].subject_id for f in (found[0], found[2])] == ["s0", "s2"]


def test_a_cancelled_stream_keeps_what_was_acknowledged(server: Server, client: Client, gallery: str) -> None:
    def items() -> Iterator[EnrollRequest]:
        for i in range(100_000):
            yield enroll_request(gallery, f"s{i:06}", [GOOD])

    of = {"method": "SubjectService/BulkEnroll", "code": "CANCELLED"}
    cancelled = functools.partial(measured, server, "oneglance_call_seconds_count", **of)
    before = cancelled()
    answers = client.bulk_enroll(items())
    acknowledged = [next(answers).enrolled.subject_id for _ in range(20)]
    answers.close()  # type: ignore[attr-defined]
    until(lambda: cancelled() > before)
    assert client.get_gallery(gallery).subject_count < 100_000
    stored = {s.id for s in client.list_subjects(gallery)}
    assert set(acknowledged) <= stored
    assert client.verify(gallery, acknowledged[-1], GOOD).same
