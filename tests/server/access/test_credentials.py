"""API keys and tokens that are not good, and what becomes of streams when theirs are good no longer."""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from oneglance import Client, OneglanceError, identify_request
from oneglance.client.errors import ResourceExhaustedError, UnauthenticatedError
from oneglance_apps.cli import main
from oneglance_server.access.api_keys import FILE, ApiKeys
from oneglance_server.app import Server
from oneglance_server.shared_files import LocalFiles
from tests.pictures import picture, png
from tests.running import server_thread
from tests.server.access.callers import ADMIN, grant, key_of
from tests.waiting import PATIENCE_SECONDS, until

ISSUER, AUDIENCE = "https://login.example.org", "oneglance"
TOKENS = f"""
[jwt]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
jwks_file = "jwks.json"
revoked = ["stolen"]
max_age_seconds = 600
leeway_seconds = 0
"""
SIGNER, OTHER_SIGNER = (rsa.generate_private_key(65537, 2048) for _ in range(2))


def jwks(*keys: tuple[str, Any]) -> str:
    parts = []
    for name, key in keys:
        kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        parts.append({**json.loads(kind.to_jwk(key.public_key())), "kid": name, "use": "sig"})
    return json.dumps({"keys": parts})


def token(key: Any = SIGNER, algorithm: str = "RS256", kid: str | None = "a", **claims: Any) -> str:
    now = time.time()
    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 300, **claims}
    kept = {name: value for name, value in given.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers={"kid": kid} if kid else {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("credentials")
    rules = ADMIN + grant(["jwt:ann", "group:doors", "key:door"], ["*"], ["identify"])
    (folder / "policy.toml").write_text(rules + TOKENS)
    (folder / "jwks.json").write_text(jwks(("a", SIGNER)))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, models: tuple[Path, Path]) -> Iterator[Server]:
    key = key_of(folder / "data", "admin")
    with server_thread(data_dir=folder / "data", models=models[:1], policy=str(folder / "policy.toml")) as running:
        with Client(running.address, token=key) as admin:
            admin.create_gallery("g", encoder="pixels")
            admin.enroll("g", "it", picture(1))
        yield running


def name_of(server: Server, credential: str) -> str:
    with Client(server.address, token=credential, timeout_seconds=PATIENCE_SECONDS) as client:
        return client.get_identity().name


def test_a_good_token_says_who_calls_and_of_which_groups(server: Server) -> None:
    with Client(server.address, token=token(groups=["doors", "all"], sub="bob")) as client:
        found = client.get_identity()
        assert (found.name, list(found.groups)) == ("jwt:bob", ["group:doors", "group:all"])
        assert [list(one.rights) for one in found.grants] == [["identify"]]
        assert client.identify("g", picture(1)).results[0].subject_id == "it"
    with Client(server.address, token=lambda: token()) as client:  # a new one for each call
        assert client.identify("g", picture(1)).results[0].subject_id == "it"


BAD: dict[str, Callable[[], str]] = {
    "expired": lambda: token(exp=time.time() - 1),
    "not good yet": lambda: token(nbf=time.time() + 100),
    "issued in the future": lambda: token(iat=time.time() + 100),
    "too old": lambda: token(iat=time.time() - 601),
    "revoked": lambda: token(jti="stolen"),
    "wrong audience": lambda: token(aud="another"),
    "wrong issuer": lambda: token(iss="https://evil.example.org"),
    "without an end": lambda: token(exp=None),
    "without a name": lambda: token(sub=None),
    "alg none": lambda: jwt.encode({"sub": "ann", "iss": ISSUER, "aud": AUDIENCE}, "", "none", headers={"kid": "a"}),
    "signed by another": lambda: token(OTHER_SIGNER),
    "signed with the public key as a secret": lambda: token("x" * 64, "HS256"),
    "another algorithm": lambda: token(ec.generate_private_key(ec.SECP256R1()), "ES256"),
    "unknown key id": lambda: token(kid="b"),
    "changed": lambda: token()[:-4] + "AAAA",
    "cut": lambda: token()[:40],
    "no token": lambda: "hello",
    "times of text": lambda: token(exp="soon"),
    "a name that is no text": lambda: token(sub=5),
    "a name of half a character": lambda: token(sub="\ud800"),
    "a name with a line break": lambda: token(sub="ann\nbob"),
    "a name of a kilobyte": lambda: token(sub="a" * 1000),
    "times of 300 digits": lambda: token(exp=10**300),
    "times of true": lambda: token(exp=True, iat=True),
    "no number": lambda: token(exp=float("nan")),
    "infinite": lambda: token(exp=float("inf"), iat=float("-inf")),
    "huge": lambda: "a" * 7000,
    "no key": lambda: "og_" + "0" * 16 + "_" + "A" * 43,
    "half a key": lambda: "og_1234",
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_good_is_refused(server: Server, kind: str) -> None:
    with pytest.raises(UnauthenticatedError):
        name_of(server, BAD[kind]())


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "", "Bearer  "])
def test_other_headers_are_refused(server: Server, header: str) -> None:
    with grpc.insecure_channel(server.address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/oneglance.v1.AccessService/GetIdentity"
        )
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", metadata=(("authorization", header),), timeout=PATIENCE_SECONDS)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", metadata=(("authorization", f"Bearer {token()}"),) * 2, timeout=PATIENCE_SECONDS)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_that_is_good_once_is_refused_the_second_time(folder: Path, server: Server) -> None:
    before = (folder / "policy.toml").read_text()
    try:
        (folder / "policy.toml").write_text(before + "once = true\n")
        until(lambda: refused(lambda: name_of(server, token())))  # it has no jti
        one = token(jti="first")
        assert name_of(server, one) == "jwt:ann"
        with pytest.raises(UnauthenticatedError, match="used already"):
            name_of(server, one)
        assert name_of(server, token(jti="second")) == "jwt:ann"
    finally:
        (folder / "policy.toml").write_text(before)
        until(lambda: not refused(lambda: name_of(server, token())))


def refused(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except OneglanceError:
        return True
    return False


def test_keys_are_made_listed_and_revoked(folder: Path, server: Server) -> None:
    admin_key = key_of(folder / "data", "admin")  # beside the running server, which takes it within a second
    with Client(server.address, token=admin_key, timeout_seconds=PATIENCE_SECONDS) as admin:
        until(lambda: not refused(admin.list_api_keys))
        made = admin.create_api_key("door", expires=datetime.now(UTC) + timedelta(hours=1))
        assert made.secret.startswith(f"og_{made.key.id}_")
        listed = {key.id: key for key in admin.list_api_keys()}
        assert listed[made.key.id] == made.key
        assert name_of(server, made.secret) == "key:door"
        content = (folder / "data" / FILE).read_text()
        assert made.secret not in content
        assert made.secret.rpartition("_")[2] not in content
        assert (folder / "data" / FILE).stat().st_mode & 0o777 == 0o600
        admin.revoke_api_key(made.key.id)
        with pytest.raises(UnauthenticatedError, match="revoked"):
            name_of(server, made.secret)
        with pytest.raises(OneglanceError, match="API_KEY_NOT_FOUND"):
            admin.revoke_api_key(made.key.id)
        for name in ("", "a b", "x" * 129, "../x"):
            with pytest.raises(OneglanceError, match="name"):
                admin.create_api_key(name)
        with pytest.raises(OneglanceError, match="expire_time"):
            admin.create_api_key("door", expires=datetime(2020, 1, 1, tzinfo=UTC))


def test_the_first_key_is_made_before_there_is_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["first-key", str(tmp_path / "new" / "data"), "admin"]) == 0
    secret = capsys.readouterr().out.strip()
    found = ApiKeys(LocalFiles(tmp_path / "new" / "data")).find(secret)
    assert found is not None
    assert found.name == "admin"
    (tmp_path / "new" / "data" / FILE).write_text("{")
    assert main(["first-key", str(tmp_path / "new" / "data"), "admin"]) == 1
    told = capsys.readouterr()
    assert not told.out  # it is kept in a file, as a key
    assert "is no file of API keys" in told.err
    assert main(["first-key", str(tmp_path / "data"), "no name"]) == 1
    assert "name: must be" in capsys.readouterr().err


def test_a_key_is_good_until_it_is_over(tmp_path: Path) -> None:
    now = [1000.0]
    keys = ApiKeys(LocalFiles(tmp_path), lambda: now[0])
    key, text = keys.create("door", expires=1010.0)
    assert keys.find(text) == key
    now[0] = 1010.0
    assert keys.find(text) is None
    assert not keys.holds(key)
    assert ApiKeys(LocalFiles(tmp_path), lambda: 1000.0).find(text) == key  # by another process


@pytest.mark.parametrize("how", ["revoked", "revoked in the file", "expired"])
def test_streams_end_with_the_credential(folder: Path, server: Server, how: str) -> None:
    keys = ApiKeys(LocalFiles(folder / "data"))
    if how == "expired":
        credential = token(exp=time.time() + 3)
    else:
        made, credential = keys.create("door")
    with Client(server.address, token=credential, timeout_seconds=PATIENCE_SECONDS) as caller:
        if how != "expired":
            until(lambda: not refused(caller.get_identity))
        ended = threading.Event()

        def requests() -> Iterator[Any]:
            yield identify_request("g", [picture(1)])
            ended.wait(PATIENCE_SECONDS)

        def revoke() -> None:
            if how == "revoked":
                with Client(server.address, token=key_of(folder / "data", "admin")) as admin:
                    until(lambda: not refused(admin.list_api_keys))
                    admin.revoke_api_key(made.id)
            elif how == "revoked in the file":
                keys.revoke(made.id)

        answers = caller.identify_stream(requests())
        try:
            assert next(answers).response.results[0].subject_id == "it"
            revoke()
            with pytest.raises(UnauthenticatedError, match="good no longer"):
                next(answers)
        finally:
            ended.set()


def test_a_policy_is_read_again_and_one_that_is_wrong_changes_nothing(folder: Path, server: Server) -> None:
    before = (folder / "policy.toml").read_text()
    with Client(server.address, token=lambda: token(), timeout_seconds=PATIENCE_SECONDS) as caller:
        assert caller.identify("g", picture(1)).results
        try:
            (folder / "policy.toml").write_text(ADMIN + TOKENS)
            until(lambda: refused(lambda: caller.identify("g", picture(1))))
            (folder / "policy.toml").write_text("[[grant]]\nto = 3\n")
            (folder / "policy.toml").write_text(before + "\nnonsense = 1\n")
        finally:
            (folder / "policy.toml").write_text(before)
        until(lambda: not refused(lambda: caller.identify("g", picture(1))))


def test_other_signers_take_the_place_of_those_before(folder: Path, server: Server) -> None:
    with Client(server.address, token=lambda: token(), timeout_seconds=PATIENCE_SECONDS) as caller:
        try:
            (folder / "jwks.json").write_text(jwks(("a", OTHER_SIGNER)))
            until(lambda: refused(caller.get_identity))
            assert name_of(server, token(OTHER_SIGNER)) == "jwt:ann"
        finally:
            (folder / "jwks.json").write_text(jwks(("a", SIGNER)))
        until(lambda: not refused(caller.get_identity))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_health_is_open_and_reflection_is_not(server: Server, version: str) -> None:
    with grpc.insecure_channel(server.address) as channel:
        health: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert health(b"", timeout=PATIENCE_SECONDS) == b"\x08\x01"
        listed: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/List")
        assert b"oneglance.v1.SubjectService" in listed(b"", timeout=PATIENCE_SECONDS)
        reflect: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        )
        with pytest.raises(grpc.RpcError) as refused:
            list(reflect(iter([b"\x3a\x01x"]), timeout=PATIENCE_SECONDS))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_who_has_used_up_a_quota_is_told_when_to_come_back(models: tuple[Path, Path], tmp_path: Path) -> None:
    rules = grant(["key:*"], ["*"], ["*"])
    rules += '[[quota]]\nto = ["key:few"]\nprobes = "3/day"\nencodings = "2/day"\ngalleries = "1/day"\n'
    rules += '[[quota]]\nto = ["key:*"]\ncalls = "40/day"\npixels = "200/day"\n' * 2  # twice the same is the same
    (tmp_path / "policy.toml").write_text(rules)
    keys = {name: key_of(tmp_path / "data", name) for name in ("few", "many")}
    with server_thread(data_dir=tmp_path / "data", models=models[:1], policy=str(tmp_path / "policy.toml")) as server:

        def caller(name: str) -> Client:
            return Client(server.address, token=keys[name], retry=False, timeout_seconds=PATIENCE_SECONDS)

        with caller("few") as few, caller("many") as many:
            few.create_gallery("g", encoder="pixels")
            with pytest.raises(ResourceExhaustedError, match="has 1 galleries in"):
                few.create_gallery("h", encoder="pixels")
            few.enroll("g", "a", picture(1), picture(2))
            with pytest.raises(ResourceExhaustedError, match="QUOTA_EXCEEDED") as told:
                few.enroll("g", "b", picture(3))
            assert told.value.metadata["quota"] == "encodings"
            assert 0 < int(told.value.metadata["retry_after_ms"]) <= 86_400_000
            with pytest.raises(ResourceExhaustedError, match="4 probes in one call"):
                few.identify("g", *[picture(1)] * 4)
            assert len(few.identify("g", *[picture(1)] * 3).results) == 3
            with pytest.raises(ResourceExhaustedError, match="has used them"):
                few.verify("g", "a", picture(1))
            assert len(many.identify("g", *[picture(1)] * 3).results) == 3  # each has its own count
            image = png(picture(1))  # 64 pixels
            for _ in range(3):
                many.identify("g", image)
            with pytest.raises(ResourceExhaustedError, match="QUOTA_EXCEEDED") as told:
                many.identify("g", image)
            assert told.value.metadata["quota"] == "pixels"
            with pytest.raises(ResourceExhaustedError) as told:  # noqa: PT012  (which of them is the last?)
                for _ in range(41):
                    many.get_gallery("g")
            assert told.value.metadata["quota"] == "calls"
            answers = many.identify_stream(iter([identify_request("g", [picture(1)])]))
            with pytest.raises(ResourceExhaustedError, match="QUOTA_EXCEEDED"):
                next(answers)


def test_a_quota_of_pixels_is_charged_what_the_strokes_take(tints: Path, tmp_path: Path) -> None:
    """The larger of the picture and its copy: 64 pixels, and 256 of the enlarged copy."""
    rules = grant(["key:*"], ["*"], ["*"]) + '[[quota]]\nto = ["key:*"]\npixels = "400/day"\n'
    (tmp_path / "policy.toml").write_text(rules)
    key = key_of(tmp_path / "data", "painter")
    image = png(picture(1))
    with (
        server_thread(data_dir=tmp_path / "data", models=(tints,), policy=str(tmp_path / "policy.toml")) as server,
        Client(server.address, token=key, retry=False, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        client.stylize(image, "moss", stroke_size=0.5)  # 144 are left
        with pytest.raises(ResourceExhaustedError, match="QUOTA_EXCEEDED") as told:
            client.stylize(image, "moss", stroke_size=0.5)
        assert told.value.metadata["quota"] == "pixels"
        (answer,) = client.stylize_stream([image], "moss", stroke_size=0.5, every_frame=True)
        assert answer.error.reason == "QUOTA_EXCEEDED"
        for _ in range(2):
            client.stylize(image, "moss", stroke_size=2)
        with pytest.raises(ResourceExhaustedError, match="QUOTA_EXCEEDED"):
            client.stylize(image, "moss", stroke_size=2)


def test_another_key_of_the_same_id_is_another_signer(folder: Path, server: Server) -> None:
    """Neither new calls nor streams go on by tokens that the key before signed."""
    one = token()
    with Client(server.address, token=one, timeout_seconds=PATIENCE_SECONDS) as caller:
        ended = threading.Event()

        def requests() -> Iterator[Any]:
            yield identify_request("g", [picture(1)])
            ended.wait(PATIENCE_SECONDS)

        answers = caller.identify_stream(requests())
        assert next(answers).response.results
        try:
            (folder / "jwks.json").write_text(jwks(("a", OTHER_SIGNER)))
            with pytest.raises(UnauthenticatedError):
                next(answers)
            assert refused(caller.get_identity)
        finally:
            ended.set()
            (folder / "jwks.json").write_text(jwks(("a", SIGNER)))
        until(lambda: not refused(caller.get_identity))


def test_a_token_that_was_used_stays_used_when_the_policy_changes(folder: Path, server: Server) -> None:
    before = (folder / "policy.toml").read_text()
    try:
        (folder / "policy.toml").write_text(before + "once = true\n")
        until(lambda: refused(lambda: name_of(server, token())))
        one = token(jti="kept")
        assert name_of(server, one) == "jwt:ann"
        for change in ('revoked = ["stolen", "another"]', 'revoked = ["stolen"]'):
            (folder / "policy.toml").write_text(before.replace('revoked = ["stolen"]', change) + "once = true\n")
            until(lambda: refused(lambda: name_of(server, token(jti="stolen"))))
            assert refused(lambda: name_of(server, one))
    finally:
        (folder / "policy.toml").write_text(before)
        until(lambda: not refused(lambda: name_of(server, token())))


@pytest.mark.parametrize(
    "content", ["", "[[grant]]", "fifo", "[[quota]]\nto = ['*']\ncalls = 'many'\n", "x" * (5 << 20)]
)
def test_a_policy_that_can_not_be_used_changes_nothing(folder: Path, server: Server, content: str) -> None:
    before, path = (folder / "policy.toml").read_text(), folder / "policy.toml"
    try:
        path.unlink()
        if content == "fifo":
            os.mkfifo(path)
        else:
            path.write_text(content)
        other = token(sub="bob", groups=["doors"])
        for _ in range(3):
            assert name_of(server, other) == "jwt:bob"
            with Client(server.address, token=other, timeout_seconds=PATIENCE_SECONDS) as client:
                assert client.identify("g", picture(1)).results
    finally:
        path.unlink()
        path.write_text(grant(["jwt:carl"], ["*"], ["verify"]) + before)
        until(lambda: not refused(lambda: name_of(server, token(sub="carl"))))
        with Client(server.address, token=lambda: token(sub="carl"), timeout_seconds=PATIENCE_SECONDS) as carl:
            until(lambda: not refused(lambda: carl.verify("g", "it", picture(1))))
        path.write_text(before)


def test_keys_that_can_not_be_changed_are_told(folder: Path, server: Server) -> None:
    path = folder / "data" / FILE
    admin_key = key_of(folder / "data", "admin")
    with Client(server.address, token=admin_key, timeout_seconds=PATIENCE_SECONDS, retry=False) as admin:
        until(lambda: not refused(admin.list_api_keys))
        with path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(OneglanceError, match="API_KEYS_BUSY"):
                admin.create_api_key("x")
        kept = path.read_text()
        path.write_text("{")
        with pytest.raises(OneglanceError, match="API_KEYS_BUSY"):
            admin.create_api_key("x")
        path.write_text(kept)
        assert admin.create_api_key("x").secret
