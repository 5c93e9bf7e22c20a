"""Good messages for every RPC, of which hostile ones are made, and the small world they speak of."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from PIL import Image

from oneglance import Client, OneglanceError, encoded_subject, encoding, enroll_request, identify_request, photo
from oneglance.client.requests import example, mate, stranger, stream_settings, stylize_settings
from oneglance.v1 import (
    approximation_pb2,
    common_pb2,
    detection_pb2,
    gallery_pb2,
    identification_pb2,
    mapping_pb2,
    model_pb2,
    moving_pb2,
    server_pb2,
    stylization_pb2,
    subject_pb2,
)
from oneglance.v1.face_pb2 import QUALITY_POLICY_OFF
from oneglance_core.pair_head import PairHead
from oneglance_server.standard_services import reflection_v1
from tests import face_models
from tests.fuzz.values import World
from tests.models import pixels_model, signal_model
from tests.pictures import picture, png
from tests.style_models import STYLES, any_style_models, style_model

FILES = (
    *(detection_pb2, gallery_pb2, identification_pb2, model_pb2, server_pb2, stylization_pb2, subject_pb2),
    *(health_pb2, reflection_pb2),
)
GALLERIES = {"g": "pixels", "photos": "tiny-faces", "signals": "signal"}
SUBJECTS = tuple(f"s{i}" for i in range(8))
SPARE = tuple(f"t{i}" for i in range(12))  # galleries that come and go
DIMENSION = 64
_EMPTY = model_pb2.ListModelsRequest()  # on the wire, every empty message


def methods() -> dict[str, MethodDescriptor]:
    """Every RPC of the server by its path."""
    return {
        f"/{service.full_name}/{method.name}": method
        for service in (*(one for file in FILES for one in file.DESCRIPTOR.services_by_name.values()), reflection_v1())
        for method in service.methods
    }


def write_models(folder: Path) -> str:
    """All kinds of models, as ``--models``."""
    made = (
        pixels_model(folder / "pixels", head=PairHead("difference", np.linspace(-4, 1, DIMENSION), 1.0)),
        signal_model(folder / "signal"),
        face_models.face_models(folder / "faces"),
        style_model(folder / "tints"),
        any_style_models(folder / "any"),
    )
    return ":".join(map(str, made))


def _encoded(format: str, *, side: int = 32, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format)
    return buffer.getvalue()


PICTURES = (
    png(picture(1)),
    png(picture(2)),
    face_models.encoded(face_models.photo({(8, 8): 1})),
    face_models.encoded(face_models.photo({(8, 8): 1, (64, 32): 2})),
    *(_encoded(format) for format in ("JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")),
    _encoded("JPEG", mode="CMYK"),
    _encoded("PNG", mode="P"),
    _encoded("PNG", mode="LA"),
    _encoded("JPEG", side=257),
)


def restore(client: Client) -> dict[str, str]:
    """Make the galleries and subjects that are gone, or are another encoder's; the galleries' encoder digests."""
    loaded = {model.name: model.digest for model in client.list_models()}
    digests = {gallery: loaded[encoder] for gallery, encoder in GALLERIES.items()}
    present = {gallery.id: gallery.encoder_digest for gallery in client.list_galleries()}
    for gallery, encoder in GALLERIES.items():
        if present.get(gallery) != digests[gallery]:
            if gallery in present:
                client.delete_gallery(gallery)
            client.create_gallery(gallery, encoder=encoder, quality_policy="off")
    for i, subject in enumerate(SUBJECTS):
        try:
            if len(client.get_subject("g", subject).encodings) > 20:
                client.delete_subject("g", subject)
            else:
                continue
        except OneglanceError:
            pass
        client.enroll("g", subject, png(picture(i)), doubt_policy="off")
        face = face_models.encoded(face_models.photo({(8, 8): i}))
        client.enroll("photos", subject, face, on_existing="replace", doubt_policy="off")
    return digests


def make_world(digests: dict[str, str]) -> World:
    values = np.random.default_rng(5).standard_normal(DIMENSION).astype("<f4")
    values /= np.linalg.norm(values)
    return World(
        texts={
            "gallery_id": (*GALLERIES, *SPARE),
            "subject_id": SUBJECTS,
            "subject": SUBJECTS,
            "new_subject_id": SUBJECTS,
            "into_subject_id": SUBJECTS,
            "to_subject_id": SUBJECTS,
            "encoding_key": ("k", "front"),
            "encoder": (*GALLERIES.values(), *digests.values(), ""),
            "encoder_digest": (digests["g"], digests["g"], *digests.values()),
            "model": ("pixels", "tints", digests["g"]),
            "stylizer": ("tints", ""),
            "style": STYLES,
            "name": ("nightly", "../nightly", "/tmp/nightly", "a/../b"),
            "request_id": ("r1", "r2", ""),
            "service": ("", "oneglance.v1.SubjectService"),
            "symbol": ("oneglance.v1.SubjectService", "oneglance.v1.Example"),
            "file_by_filename": ("oneglance/v1/common.proto",),
            "file_containing_symbol": ("oneglance.v1.Example.image",),
            "all_extension_numbers_of_type": ("oneglance.v1.Example",),
        },
        pictures=PICTURES,
        encoding_values=values.tobytes(),
    )


Conversation = list[bytes]
"""The requests of one call; one for a unary call."""


def make_seeds(digests: dict[str, str]) -> dict[str, list[Conversation]]:
    """Good conversations by path."""
    found: dict[str, list[Conversation]] = {path: [] for path in methods()}
    for path, requests in _conversations(digests["g"]):
        matching = [full for full in found if full.endswith(path)]
        assert matching, path
        for full in matching:
            found[full].append([request.SerializeToString() for request in requests])
    missing = [path for path, seeds in found.items() if not seeds]
    assert not missing, f"no good messages for {missing}"
    return found


def _conversations(digest: str) -> Iterator[tuple[str, list[Message]]]:
    subjects, galleries, identification = subject_pb2, gallery_pb2, identification_pb2
    values = np.random.default_rng(1).standard_normal((4, DIMENSION)).astype(np.float32)
    points = [encoding(row / np.linalg.norm(row), digest) for row in values]
    small, face = png(picture(3)), photo(PICTURES[3], "largest")
    enrolls = [
        enroll_request("g", "s1", [small], labels={"a": "b", "c": ""}),
        enroll_request("g", "s2", points[:2], on_existing="replace", request_id="r1"),
        enroll_request("photos", "s3", [face], on_existing="replace"),
        enroll_request("g", "s4", [picture(3)], on_existing="fail"),
    ]
    identifies = [
        identify_request("g", [small], max_candidates=3, all_matches=True),
        identify_request("g", points, tau=0.4),
        identify_request("g", [small, picture(1), points[0]], least_gap=0.1, one_face_each=True, exact=True),
        identify_request("photos", [PICTURES[3], face, photo(PICTURES[2], (8, 8, 16, 16), "always")]),
    ]
    for enroll in enrolls:
        yield "/Enroll", [enroll]
    yield "/BulkEnroll", [*(subjects.BulkEnrollRequest(item=item) for item in enrolls)]
    encoded = subjects.EncodedSubjects(gallery_id="g", encoder_digest=digest, on_existing=subjects.ON_EXISTING_ADD)
    encoded.doubt_policy = common_pb2.DOUBT_POLICY_OFF
    encoded.subjects.extend(encoded_subject(f"s{i}", values[i], {"a": "b"}, f"r{i}") for i in range(4))
    yield "/BulkEnroll", [subjects.BulkEnrollRequest(encoded=encoded)] * 2
    yield "/GetSubject", [subjects.GetSubjectRequest(gallery_id="g", subject_id="s1")]
    yield "/ListSubjects", [subjects.ListSubjectsRequest(gallery_id="g", page_size=3, page_token="czE=")]
    yield (
        "/DeleteEncoding",
        [
            subjects.DeleteEncodingRequest(gallery_id="g", subject_id="s5", encoding_id="1"),
        ],
    )
    retention = subjects.Retention(expire_time=Timestamp(seconds=4_000_000_000), purpose="entrance", consent="c-17")
    yield "/SetRetention", [subjects.SetRetentionRequest(gallery_id="g", subject_id="s5", retention=retention)]
    some = common_pb2.SubjectFilter(labels={"site": "a"}, id_prefix="s")
    yield "/CountSubjects", [subjects.CountSubjectsRequest(gallery_id="g", label="site", filter=some)]
    yield "/RenameSubject", [subjects.RenameSubjectRequest(gallery_id="g", subject_id="s4", new_subject_id="s6")]
    labels = subjects.UpdateLabelsRequest(gallery_id="g", subject_id="s5", labels={"site": "a"}, remove=["b"])
    yield "/UpdateLabels", [labels]
    yield "/MergeSubjects", [subjects.MergeSubjectsRequest(gallery_id="g", subject_id="s6", into_subject_id="s7")]
    moved = subjects.MoveEncodingRequest(gallery_id="g", subject_id="s5", to_subject_id="s7", encoding_id="1")
    yield "/MoveEncoding", [moved]
    yield "/DeleteSubjects", [subjects.DeleteSubjectsRequest(gallery_id="g", filter=some, max_subjects=1)]
    yield "/ListExpired", [subjects.ListExpiredRequest(at=Timestamp(seconds=4_000_000_001))]
    negative = subjects.AddNegativeRequest(gallery_id="g", subject_id="s5", example=example(small))
    yield "/AddNegative", [negative]
    yield "/DeleteNegative", [subjects.DeleteNegativeRequest(gallery_id="g", subject_id="s5", negative_id="1")]
    yield "/DeleteSubject", [subjects.DeleteSubjectRequest(gallery_id="g", subject_id="s6")]
    for identify in identifies:
        yield "/Identify", [identify]
    yield "/IdentifyStream", [*(identification.IdentifyStreamRequest(request=request) for request in identifies)]
    probe = example(small)
    yield "/Verify", [identification.VerifyRequest(gallery_id="g", probe=probe, subject_id="s1", tau=0.3)]
    yield "/Verify", [identification.VerifyRequest(gallery_id="g", probe=probe, other=example(points[0]))]
    yield "/Verify", [identification.VerifyRequest(encoder="tiny-faces", probe=face, other=face)]
    yield "/Encode", [identification.EncodeRequest(encoder="pixels", examples=[probe, example(picture(4))])]
    yield "/Encode", [identification.EncodeRequest(encoder="tiny-faces", examples=[face])]
    signal = np.ones((6, 2), np.float32)
    yield "/Encode", [identification.EncodeRequest(encoder="signal", examples=[example(signal)])]
    yield "/DetectFaces", [detection_pb2.DetectFacesRequest(images=PICTURES[2:4])]
    spare = SPARE[0]
    yield "/CreateGallery", [galleries.CreateGalleryRequest(gallery_id=spare, encoder="pixels", description="a")]
    yield "/GetGallery", [galleries.GetGalleryRequest(gallery_id="g")]
    yield "/ListGalleries", [galleries.ListGalleriesRequest(page_size=2, page_token="Zw==")]
    yield "/DeleteGallery", [galleries.DeleteGalleryRequest(gallery_id=spare)]
    yield "/CreateBackup", [galleries.CreateBackupRequest(name="nightly")]
    yield "/RotateKey", [galleries.RotateKeyRequest(gallery_id=spare)]
    yield "/GetThreshold", [galleries.GetThresholdRequest(gallery_id="g")]
    yield "/SetThreshold", [galleries.SetThresholdRequest(gallery_id="g", tau=0.4)]
    yield "/SetThreshold", [galleries.SetThresholdRequest(gallery_id="g")]
    yield "/SetThreshold", [galleries.SetThresholdRequest(gallery_id="g", target_fpir=0.02)]
    yield "/SetFusion", [galleries.SetFusionRequest(gallery_id="g", fusion=common_pb2.FUSION_NEAREST)]
    for decided_by in (common_pb2.DECIDED_BY_DISTANCE, common_pb2.DECIDED_BY_PROBABILITY):
        yield "/SetDecidedBy", [galleries.SetDecidedByRequest(gallery_id="g", decided_by=decided_by)]
    yield "/SetQualityPolicy", [galleries.SetQualityPolicyRequest(gallery_id="g", quality_policy=QUALITY_POLICY_OFF)]
    yield "/SetLeastGap", [galleries.SetLeastGapRequest(gallery_id="g", least_gap=0.01)]
    lossy = approximation_pb2.Approximation(mates_found=0.99, exact_on_alarm=True)
    yield "/SetApproximation", [galleries.SetApproximationRequest(gallery_id="g", approximation=lossy)]
    yield "/SetApproximation", [galleries.SetApproximationRequest(gallery_id="g")]
    yield "/StartMove", [galleries.StartMoveRequest(gallery_id="g", successor_id="h", encoder="e", compare_share=0.5)]
    yield "/GetMove", [galleries.GetMoveRequest(gallery_id="g")]
    yield "/ListLeft", [galleries.ListLeftRequest(gallery_id="g", page_size=2, page_token="czE=")]
    yield "/FillByMap", [mapping_pb2.FillByMapRequest(gallery_id="g", dry_run=True)]
    yield "/FillFromCrops", [galleries.FillFromCropsRequest(gallery_id="g", fewer=True, page_size=2, page_token="czE=")]
    for keep in (True, False):
        yield "/SetKeepCrops", [galleries.SetKeepCropsRequest(gallery_id="g", keep_crops=keep)]
    yield "/CutOver", [galleries.CutOverRequest(gallery_id="g", leave=True)]
    yield "/RollBack", [galleries.RollBackRequest(gallery_id="g", leave=True)]
    yield "/EndMove", [galleries.EndMoveRequest(gallery_id="g", keep_waiting=True)]
    looks = identification.ListLookAlikesRequest(gallery_id="g", within=0.4, page_size=2, page_token="czE=")
    yield "/ListLookAlikes", [looks]
    yield (
        "/SetDoubtPolicy",
        [galleries.SetDoubtPolicyRequest(gallery_id="g", doubt_policy=common_pb2.DOUBT_POLICY_FLAG)],
    )
    described = moving_pb2.MovedGallery(
        encoder_digest=digest,
        dimension=DIMENSION,
        kind="flat",
        fusion="mean",
        decided_by="distance",
        subject_count=1,
        encoding_count=1,
    )
    known = moving_pb2.ExportKnown(numbers=[1, 2], versions=[3, 4])
    yield (
        "/ExportGallery",
        [
            moving_pb2.ExportGalleryRequest(settings=moving_pb2.ExportSettings(gallery_id="g")),
            moving_pb2.ExportGalleryRequest(known=known),
        ],
    )
    brought = moving_pb2.MovedSubject(id="s1", labels={"a": "b"}, purpose="entrance")
    brought.encodings.add(key="k", values=values[0].tobytes())
    yield (
        "/ImportGallery",
        [
            moving_pb2.ImportGalleryRequest(
                settings=moving_pb2.ImportSettings(gallery_id=spare, gallery=described, digest="0" * 64)
            ),
            moving_pb2.ImportGalleryRequest(subjects=moving_pb2.MovedSubjects(subjects=[brought])),
            moving_pb2.ImportGalleryRequest(
                thresholds=moving_pb2.MovedThresholds(thresholds=[moving_pb2.MovedThreshold(version=1, tau=0.5)])
            ),
        ],
    )
    yield "/ListThresholds", [galleries.ListThresholdsRequest(gallery_id="g")]
    settings = galleries.CalibrationSettings(gallery_id="g", target_fpir=0.5, data="strangers")
    probes = [stranger(small, "a"), stranger(points[0]), stranger(picture(5)), mate(png(picture(0)), "s0")]
    yield (
        "/Calibrate",
        [
            galleries.CalibrateRequest(settings=settings),
            *(galleries.CalibrateRequest(probe=one) for one in probes),
        ],
    )
    yield "/ListModels", [model_pb2.ListModelsRequest()]
    yield "/GetServer", [server_pb2.GetServerRequest()]
    yield "/DescribeModel", [model_pb2.DescribeModelRequest(model="pixels")]
    style = stylize_settings(
        {STYLES[0]: 0.5, STYLES[1]: 0.5}, strength=0.5, keep_colors=True, max_side=64, stroke_size=2.0, keep_faces=0.5
    )
    yield "/ListStyles", [stylization_pb2.ListStylesRequest()]
    pictured = stylize_settings({PICTURES[5]: 0.5, PICTURES[6]: 0.5})
    for look in (style, pictured):
        yield "/Stylize", [stylization_pb2.StylizeRequest(image=PICTURES[4], settings=look)]
    yield "/CreateStyle", [stylization_pb2.CreateStyleRequest(name="kept", picture=PICTURES[5], title="t", source="s")]
    yield "/DeleteStyle", [stylization_pb2.DeleteStyleRequest(name="kept")]
    yield (
        "/StylizeStream",
        [
            stylization_pb2.StylizeStreamRequest(settings=stream_settings(style, steadiness=0.5, every_frame=True)),
            *(stylization_pb2.StylizeStreamRequest(frame=frame) for frame in PICTURES[4:7]),
        ],
    )
    check = health_pb2.HealthCheckRequest(service="oneglance.v1.SubjectService")
    yield "Health/Check", [check]
    yield "Health/List", [_EMPTY]
    yield "Health/Watch", [check]
    reflect = reflection_pb2.ServerReflectionRequest
    yield (
        "/ServerReflectionInfo",
        [
            reflect(list_services=""),
            reflect(file_by_filename="oneglance/v1/common.proto"),
            reflect(file_containing_symbol="oneglance.v1.Example"),
            reflect(all_extension_numbers_of_type="oneglance.v1.Example"),
        ],
    )
