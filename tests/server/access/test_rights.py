"""The matrix of rights: every method x every right x own, other and unknown gallery, each asked of a real server,
by gRPC and over HTTP."""

import itertools
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest

from oneglance import Client, OneglanceError, enroll_request, identify_request, retention, stranger, subject_filter
from oneglance.v1.gallery_pb2 import ListGalleriesRequest
from oneglance.v1.moving_pb2 import ExportGalleryRequest, ExportSettings, ImportGalleryRequest, ImportSettings
from oneglance.v1.subject_pb2 import Retention
from oneglance_server.access.rights import GALLERY_RIGHTS, SERVER_RIGHTS
from oneglance_server.app import SERVICES, Server
from tests.models import pixels_model
from tests.pictures import picture, png
from tests.running import server_thread
from tests.server.access.callers import ADMIN, grant, key_of
from tests.server.http_channel import http_client
from tests.server.test_succession import small_model
from tests.waiting import PATIENCE_SECONDS

PAINTED = png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
RIGHTS = sorted(GALLERY_RIGHTS | SERVER_RIGHTS)
OWN, OTHER, UNKNOWN = "own", "other", "nowhere"
DENIED = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
IT = picture(1)
FAR = np.full_like(IT, 255)
FAR[0, 0] = 0

# The method, the right it needs in the gallery, and how it is called there. SEE: any right in the gallery.
SEE = "any"
# Two rights: none of them alone is enough.
BOTH = "both"


def importing(gallery_id: str) -> ImportGalleryRequest:
    return ImportGalleryRequest(settings=ImportSettings(gallery_id=gallery_id))


IN_A_GALLERY: dict[str, tuple[str, Callable[[Client, str], object]]] = {
    "GalleryService.CreateGallery": ("administer", lambda c, g: c.create_gallery(g, encoder="pixels")),
    "GalleryService.GetGallery": (SEE, lambda c, g: c.get_gallery(g)),
    "GalleryService.DeleteGallery": ("administer", lambda c, g: c.delete_gallery(g)),
    "GalleryService.RotateKey": ("administer", lambda c, g: c.rotate_key(g)),
    "GalleryService.GetThreshold": (SEE, lambda c, g: c.get_threshold(g)),
    "GalleryService.ExportGallery": (
        "move",
        lambda c, g: first(c.export_gallery(iter([ExportGalleryRequest(settings=ExportSettings(gallery_id=g))]))),
    ),
    "GalleryService.ImportGallery": (BOTH, lambda c, g: first(c.import_gallery(iter([importing(g)])))),
    "GalleryService.ListThresholds": (SEE, lambda c, g: list(c.list_thresholds(g))),
    "GalleryService.SetThreshold": ("calibrate", lambda c, g: c.set_threshold(g, 0.3)),
    "GalleryService.SetFusion": ("calibrate", lambda c, g: c.set_fusion(g, "nearest")),
    "GalleryService.Calibrate": ("calibrate", lambda c, g: c.calibrate(g, [stranger(picture(9), "x")])),
    "GalleryService.SetDecidedBy": ("calibrate", lambda c, g: c.set_decided_by(g, "distance")),
    "GalleryService.SetQualityPolicy": ("calibrate", lambda c, g: c.set_quality_policy(g, "off")),
    "GalleryService.SetLeastGap": ("calibrate", lambda c, g: c.set_least_gap(g, 0.0)),
    "GalleryService.SetApproximation": ("calibrate", lambda c, g: c.set_approximation(g, None)),
    "GalleryService.StartMove": ("administer", lambda c, g: c.start_move(g, g, "pixels")),
    "GalleryService.GetMove": (SEE, lambda c, g: c.get_move(g)),
    "GalleryService.ListLeft": ("export", lambda c, g: list(c.list_left(g))),
    "GalleryService.FillByMap": ("administer", lambda c, g: first(c.fill_by_map(g))),
    "GalleryService.SetKeepCrops": ("administer", lambda c, g: c.set_keep_crops(g, True)),
    "GalleryService.FillFromCrops": ("administer", lambda c, g: list(c.fill_from_crops(g))),
    "GalleryService.CutOver": ("administer", lambda c, g: c.cut_over(g)),
    "GalleryService.RollBack": ("administer", lambda c, g: c.roll_back(g)),
    "GalleryService.EndMove": ("administer", lambda c, g: c.end_move(g)),
    "GalleryService.SetDoubtPolicy": ("calibrate", lambda c, g: c.set_doubt_policy(g, "off")),
    "IdentificationService.Verify": ("verify", lambda c, g: c.verify(g, "it", IT)),
    "IdentificationService.Identify": ("identify", lambda c, g: c.identify(g, IT)),
    "IdentificationService.IdentifyStream": (
        "identify",
        lambda c, g: first(c.identify_stream(iter([identify_request(g, [IT])]))),
    ),
    "IdentificationService.ListLookAlikes": ("candidates", lambda c, g: c.list_look_alikes(g, 0.1)),
    "SubjectService.Enroll": ("enroll", lambda c, g: c.enroll(g, "it", IT, on_existing="add")),
    "SubjectService.BulkEnroll": (
        "enroll",
        lambda c, g: first(c.bulk_enroll(iter([enroll_request(g, "it", [IT], on_existing="add")]))),
    ),
    "SubjectService.SetRetention": ("enroll", lambda c, g: c.set_retention(g, "it", Retention())),
    "SubjectService.AddNegative": ("enroll", lambda c, g: c.add_negative(g, "it", picture(5))),
    "SubjectService.GetSubject": ("export", lambda c, g: c.get_subject(g, "it")),
    "SubjectService.ListSubjects": ("export", lambda c, g: list(c.list_subjects(g))),
    "SubjectService.CountSubjects": ("export", lambda c, g: c.count_subjects(g, "a")),
    "SubjectService.RenameSubject": ("enroll", lambda c, g: c.rename_subject(g, "it", "it")),
    "SubjectService.UpdateLabels": ("enroll", lambda c, g: c.update_labels(g, "it", {"a": "b"})),
    "SubjectService.MergeSubjects": (BOTH, lambda c, g: c.merge_subjects(g, "it", "nobody")),
    "SubjectService.MoveEncoding": (BOTH, lambda c, g: c.move_encoding(g, "it", "1", "nobody")),
    "SubjectService.DeleteSubjects": (BOTH, lambda c, g: c.delete_subjects(g, subject_filter(id_prefix="nobody"))),
    "SubjectService.DeleteSubject": ("erase", lambda c, g: c.delete_subject(g, "nobody")),
    "SubjectService.DeleteEncoding": ("erase", lambda c, g: c.delete_encoding(g, "it", "none")),
    "SubjectService.DeleteNegative": ("erase", lambda c, g: c.delete_negative(g, "it", "none")),
}
# Those without a gallery: the right, and whether it must be granted in all galleries.
OF_THE_SERVER: dict[str, tuple[str, bool, Callable[[Client], object]]] = {
    "AccessService.CreateApiKey": ("administer", True, lambda c: c.create_api_key("x")),
    "AccessService.ListApiKeys": ("administer", True, lambda c: c.list_api_keys()),
    "AccessService.RevokeApiKey": ("administer", True, lambda c: c.revoke_api_key("0" * 16)),
    "GalleryService.CreateBackup": ("backup", True, lambda c: c.create_backup("b")),
    "IdentificationService.Encode": ("encode", False, lambda c: c.encode(IT, encoder="pixels")),
    "DetectionService.DetectFaces": ("encode", False, lambda c: c.detect_faces(PAINTED)),
    "StylizationService.CreateStyle": ("administer", True, lambda c: c.create_style("x", PAINTED)),
    "StylizationService.DeleteStyle": ("administer", True, lambda c: c.delete_style("x")),
    "StylizationService.Stylize": ("stylize", False, lambda c: c.stylize(PAINTED, "ember")),
    "StylizationService.StylizeStream": (
        "stylize",
        False,
        lambda c: first(c.stylize_stream(iter([PAINTED]), "ember")),
    ),
}
# Whoever has any right at all; lists show what one may see.
OF_EVERYBODY: dict[str, Callable[[Client], object]] = {
    "AccessService.GetIdentity": lambda c: c.get_identity(),
    "GalleryService.ListGalleries": lambda c: list(c.list_galleries()),
    "ServerService.GetServer": lambda c: c.get_server(),
    "ModelService.ListModels": lambda c: c.list_models(),
    "ModelService.DescribeModel": lambda c: c.describe_model("pixels"),
    "StylizationService.ListStyles": lambda c: c.list_styles(),
    "SubjectService.ListExpired": lambda c: list(c.list_expired()),
}


def first(answers: Iterator[object]) -> None:
    """Raises the error of an answer, if that is one."""
    from oneglance.client.errors import from_error

    for answer in answers:
        if getattr(answer, "error", None) is not None and answer.HasField("error"):  # type: ignore[attr-defined]
            raise from_error(answer.error)  # type: ignore[attr-defined]


def refusal(ask: Callable[[], object]) -> grpc.StatusCode | None:
    try:
        ask()
    except OneglanceError as error:
        return error.code
    return None


def denied(ask: Callable[[], object]) -> bool:
    """Whether it is refused for want of a right."""
    return refusal(ask) in DENIED


Running = tuple[Server, dict[str, str], str]


@pytest.fixture(scope="module", params=["grpc", "http"])
def running(
    request: pytest.FixtureRequest, models: tuple[Path, Path], tints: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A server, and a key for each right, in the gallery ``own`` and in all (``RIGHT-all``)."""
    folder = tmp_path_factory.mktemp("rights")
    rules = [ADMIN]
    rules += [grant([f"key:{right}"], [OWN], [right]) for right in RIGHTS]
    rules += [grant([f"key:{right}-all"], ["*"], [right]) for right in RIGHTS]
    (folder / "policy.toml").write_text("".join(rules))
    names = ["admin", "nothing", *RIGHTS, *(f"{right}-all" for right in RIGHTS)]
    keys = {name: key_of(folder / "data", name) for name in names}
    with server_thread(
        data_dir=folder / "data",
        models=(models[0], tints),
        policy=str(folder / "policy.toml"),
        backup_dir=str(folder / "backups"),
        http="127.0.0.1:0",
    ) as server:
        with Client(server.address, token=keys["admin"]) as admin:
            admin.create_gallery(OTHER, encoder="pixels")
            restore(admin)
        yield server, keys, request.param


def restore(admin: Client) -> None:
    """The gallery ``own`` as the calls expect it."""
    if OWN not in {gallery.id for gallery in admin.list_galleries()}:
        admin.create_gallery(OWN, encoder="pixels")
    admin.enroll(OWN, "it", IT, on_existing="replace")


def as_caller(running: Running, name: str) -> Client:
    server, keys, way = running
    if way == "http":
        return http_client(server, keys[name] if name else None)
    return Client(server.address, token=keys[name] if name else None, timeout_seconds=PATIENCE_SECONDS)


def test_every_method_is_in_the_matrix() -> None:
    from google.protobuf import descriptor_pool

    pool = descriptor_pool.Default()
    methods = {
        f"{service.rpartition('.')[2]}.{method.name}"
        for service in SERVICES
        for method in pool.FindServiceByName(service).methods
    }
    assert methods == IN_A_GALLERY.keys() | OF_THE_SERVER.keys() | OF_EVERYBODY.keys()


@pytest.mark.parametrize("right", RIGHTS)
def test_a_right_in_a_gallery_gives_what_it_says_there_and_nothing_else(running: Running, right: str) -> None:
    wrong = []
    with as_caller(running, right) as caller, as_caller(running, "admin") as admin:
        for (method, (needed, ask)), gallery in itertools.product(IN_A_GALLERY.items(), (OTHER, UNKNOWN, OWN)):
            may = gallery == OWN and (needed == right or (needed == SEE and right in GALLERY_RIGHTS))
            if denied(lambda: ask(caller, gallery)) == may:  # noqa: B023  (called at once)
                wrong.append((method, gallery, may))
            restore(admin)
        for method, (needed, everywhere, call) in OF_THE_SERVER.items():
            if denied(lambda: call(caller)) == (needed == right and not everywhere):  # noqa: B023
                wrong.append((method, "", needed == right))
    assert not wrong


@pytest.mark.parametrize("right", RIGHTS)
def test_a_right_in_all_galleries_is_one_of_the_server_too(running: Running, right: str) -> None:
    wrong = []
    with as_caller(running, f"{right}-all") as caller:
        for method, (needed, _, call) in OF_THE_SERVER.items():
            if denied(lambda: call(caller)) == (needed == right):  # noqa: B023
                wrong.append(method)
        for method, (needed, ask) in IN_A_GALLERY.items():
            may = needed == right or (needed == SEE and right in GALLERY_RIGHTS)
            if denied(lambda: ask(caller, UNKNOWN)) == may:  # noqa: B023  (not found, then)
                wrong.append(method)
            if UNKNOWN in {gallery.id for gallery in caller.list_galleries()}:
                caller.delete_gallery(UNKNOWN)
    assert not wrong


@pytest.mark.parametrize("name", ["", "nothing"])
def test_without_credential_or_right_all_is_refused(running: Running, name: str) -> None:
    codes = {}
    with as_caller(running, name) as caller:
        for method, (_, ask) in IN_A_GALLERY.items():
            for gallery in (OWN, UNKNOWN):
                codes[method, gallery] = refusal(lambda: ask(caller, gallery))  # noqa: B023  (called at once)
        for method, (_, _, call) in OF_THE_SERVER.items():
            codes[method, ""] = refusal(lambda: call(caller))  # noqa: B023
        for method, call in OF_EVERYBODY.items():
            codes[method, ""] = refusal(lambda: call(caller))  # noqa: B023
    told = {"AccessService.GetIdentity", "GalleryService.ListGalleries"}  # who one is, and that there is nothing to see
    assert {codes.pop((method, "")) for method in told} == {None}
    assert set(codes.values()) == {DENIED[0] if name else DENIED[1]}


def test_lists_show_what_the_caller_may_see(running: Running) -> None:
    with as_caller(running, "identify") as one, as_caller(running, "export-all") as all_of_it:
        assert [gallery.id for gallery in one.list_galleries()] == [OWN]
        assert [gallery.id for gallery in all_of_it.list_galleries()] == [OTHER, OWN]
    with as_caller(running, "encode") as none:
        assert list(none.list_galleries()) == []
    for name in OF_EVERYBODY:
        with as_caller(running, "encode") as caller:
            assert not denied(lambda: OF_EVERYBODY[name](caller)), name  # noqa: B023


def test_to_enroll_is_not_to_erase(running: Running) -> None:
    over = datetime(2020, 1, 1, tzinfo=UTC)
    with as_caller(running, "enroll") as caller, as_caller(running, "admin") as admin:
        before = admin.get_subject(OWN, "it")
        assert denied(lambda: caller.enroll(OWN, "it", picture(3), on_existing="replace"))
        assert denied(lambda: caller.enroll(OWN, "it", picture(3), retention=retention(over)))
        assert denied(lambda: caller.set_retention(OWN, "it", retention(over)))
        assert admin.get_subject(OWN, "it") == before
        ends = datetime(2999, 1, 1, tzinfo=UTC)
        caller.enroll(OWN, "visitor", picture(4), retention=retention(ends), on_existing="fail")
        admin.delete_subject(OWN, "visitor")


def test_what_concerns_both_galleries_of_a_move_needs_a_right_in_both(tmp_path: Path) -> None:
    models = (pixels_model(tmp_path / "pixels"), small_model(tmp_path / "small"))
    sides = {"one": ["g"], "other": ["s"], "both": ["g", "s"]}
    rights = ["administer", "export"]
    (tmp_path / "policy.toml").write_text(
        "".join([ADMIN, *(grant([f"key:{name}"], galleries, rights) for name, galleries in sides.items())])
    )
    keys = {name: key_of(tmp_path / "data", name) for name in ("admin", *sides)}
    asked: list[Callable[[Client, str], object]] = [
        lambda client, gallery: client.get_move(gallery),
        lambda client, gallery: list(client.list_left(gallery)),
        lambda client, gallery: client.cut_over(gallery, leave=True),
        lambda client, gallery: client.roll_back(gallery, leave=True),
        lambda client, gallery: client.end_move(gallery),
        lambda client, gallery: client.delete_gallery(gallery),
    ]
    policy = str(tmp_path / "policy.toml")
    with server_thread(data_dir=tmp_path / "data", models=models, policy=policy) as server:
        with Client(server.address, token=keys["admin"]) as admin:
            admin.create_gallery("g", encoder="pixels")
            admin.enroll("g", "it", IT)
            admin.start_move("g", "s", "small")
        for name, galleries in sides.items():
            with Client(server.address, token=keys[name]) as caller:
                for number, ask in enumerate(asked):
                    for gallery in ("s", "g"):
                        refused = denied(lambda: ask(caller, gallery))  # noqa: B023  (called at once)
                        assert refused == (len(galleries) == 1), (name, number, gallery)


def test_what_needs_two_rights_needs_both(models: tuple[Path, Path], running: Running, tmp_path: Path) -> None:
    two: dict[str, tuple[set[str], Callable[[Client], object]]] = {
        "MergeSubjects": ({"enroll", "erase"}, lambda c: c.merge_subjects(OWN, "it", "nobody")),
        "MoveEncoding": ({"enroll", "erase"}, lambda c: c.move_encoding(OWN, "it", "1", "nobody")),
        "DeleteSubjects": ({"erase", "export"}, lambda c: c.delete_subjects(OWN, subject_filter(id_prefix="nobody"))),
        "ImportGallery": ({"administer", "move"}, lambda c: first(c.import_gallery(iter([importing(OWN)])))),
        "a filter": ({"identify", "export"}, lambda c: c.identify(OWN, IT, filter=subject_filter({"a": "b"}))),
        "labels": ({"identify", "export"}, lambda c: c.identify(OWN, IT, with_labels=True)),
    }
    pairs = {frozenset(rights): "-".join(sorted(rights)) for rights, _ in two.values()}
    rules = [ADMIN, *(grant([f"key:{name}"], [OWN], sorted(pair)) for pair, name in pairs.items())]
    (tmp_path / "policy.toml").write_text("".join(rules))
    keys = {pair: key_of(tmp_path / "data", name) for pair, name in pairs.items()}
    admin_key = key_of(tmp_path / "data", "admin")
    policy = str(tmp_path / "policy.toml")
    with server_thread(data_dir=tmp_path / "data", models=(models[0],), policy=policy) as server:
        with Client(server.address, token=admin_key) as admin:
            restore(admin)
        for what, (rights, ask) in two.items():
            for pair, key in keys.items():
                with Client(server.address, token=key) as caller:
                    assert denied(lambda: ask(caller)) == (pair != rights), (what, pair)  # noqa: B023
    with as_caller(running, "identify") as caller:
        answer = caller.identify(OWN, IT, filter=subject_filter(id_prefix="i"))
        # By trying beginnings, one would learn everybody's id.
        assert not answer.provenance.HasField("filtered_size")
        assert denied(lambda: caller.identify(OWN, IT, filter=subject_filter({"a": "b"})))


def test_pages_of_galleries_tell_of_no_others(running: Running) -> None:
    with as_caller(running, "admin") as admin:
        for name in ("a", "p", "z"):
            admin.create_gallery(name, encoder="pixels")
    for name in ("", "nothing", "identify"):
        with as_caller(running, name) as caller:
            seen, token = [], ""
            for _ in range(20):
                page = caller._call(
                    caller._galleries.ListGalleries, ListGalleriesRequest(page_size=1, page_token=token)
                )
                seen += [gallery.id for gallery in page.galleries]
                token = page.next_page_token
                assert b64decode(token).decode() in ("", OWN)
                if not token:
                    break
            assert seen == ([OWN] if name == "identify" else [])
    with as_caller(running, "admin") as admin:
        assert [gallery.id for gallery in admin.list_galleries()] == ["a", OTHER, OWN, "p", "z"]
        for name in ("a", "p", "z"):
            admin.delete_gallery(name)


def test_who_may_not_see_candidates_sees_nobody_beyond_tau(running: Running) -> None:
    with as_caller(running, "admin") as admin:
        admin.set_doubt_policy(OWN, "flag")
        admin.enroll(OWN, "another", picture(2), on_existing="replace")
        seen = admin.identify(OWN, IT, FAR).results
    assert [len(result.candidates) for result in seen] == [2, 2]
    with as_caller(running, "identify") as caller:
        known, unknown = caller.identify(OWN, IT, FAR).results
        assert (known.subject_id, [one.subject_id for one in known.candidates]) == ("it", ["it"])
        assert not unknown.candidates
        assert (unknown.nearest_subject_id, unknown.next_subject_id, unknown.HasField("gap")) == ("", "", False)
        assert (known.next_subject_id, known.HasField("gap")) == ("", False)
        assert denied(lambda: caller.identify(OWN, IT, tau=4.0))  # it would show everybody
        assert denied(lambda: caller.identify(OWN, IT, least_gap=0.5))
    with as_caller(running, "enroll") as caller:
        done = caller.enroll(OWN, "third", picture(2))
        assert (done.HasField("nearest_other"), [one.subject_id for one in done.doubts]) == (False, [""])
        assert denied(lambda: caller.enroll(OWN, "fifth", picture(2), doubt_policy="off"))  # less than is demanded
        with pytest.raises(OneglanceError, match="from another subject") as refused:
            caller.enroll(OWN, "fourth", picture(2), doubt_policy="refuse")
        assert "another'" not in str(refused.value)
        assert "third" not in str(refused.value) + str(refused.value.metadata) + str(refused.value.doubts)
    with as_caller(running, "admin") as admin:
        assert admin.enroll(OWN, "third", picture(2), on_existing="replace").nearest_other.subject_id == "another"
        admin.delete_subject(OWN, "another")
        admin.delete_subject(OWN, "third")


def test_who_may_not_export_isnt_told_how_many_labels_there_are(running: tuple[Server, dict[str, str], str]) -> None:
    with as_caller(running, "enroll") as caller, as_caller(running, "admin") as admin:
        admin.enroll(OWN, "labelled", picture(6), labels={f"l{number}": "" for number in range(60)}, doubt_policy="off")
        for name, told in ((caller, "got 65"), (admin, "got 70")):
            with pytest.raises(OneglanceError, match=told) as refused:
                name.update_labels(OWN, "labelled", {f"new{number}": "" for number in range(10)})
            assert refused.value.reason == "LIMIT_EXCEEDED"
        admin.delete_subject(OWN, "labelled")
