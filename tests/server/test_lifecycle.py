"""Starting, refusing to start, draining, coming back: with real processes and signals."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from oneglance import Client, OneglanceError, encoding
from oneglance_server.app import SERVICES, Server
from oneglance_server.engines.encoder import Encoder
from oneglance_server.settings import Settings
from tests.card import HAS_CARD
from tests.models import pixels_model
from tests.pictures import picture
from tests.running import ServerProcess, server_thread
from tests.thief import Thief, recording
from tests.waiting import PATIENCE_SECONDS, until

HEALTH: Any = health_pb2  # its stubs lack List


def serve_and_fail(*flags: str) -> str:
    """What ``oneglance serve`` says when it can't start; it must exit with 1 and no traceback."""
    command = [sys.executable, "-m", "oneglance_apps.cli", "serve", "--listen", "127.0.0.1:0", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not ended.stdout
    return ended.stderr


def test_a_restart_finds_everything_and_a_second_server_is_locked_out(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    with ServerProcess(tmp_path / "data", models=models[0]) as server, Client(server.address) as client:
        client.create_gallery("g", description="kept")
        client.enroll("g", "it", picture(5), labels={"name": "kept"})
        client.enroll("g", "gone", picture(6))
        client.delete_subject("g", "gone")
        client.set_threshold("g", 0.25)
        before = client.get_gallery("g")
        assert "another process" in serve_and_fail("--data-dir", str(tmp_path / "data"), "--models", str(models[0]))
        status, log = server.terminate()
        assert status == 0
        assert "draining" in log
        assert "stopped" in log
    with ServerProcess(tmp_path / "data", models=models[0]) as server, Client(server.address) as client:
        assert client.get_gallery("g") == before
        assert client.identify("g", picture(5)).results[0].subject_id == "it"
        assert dict(client.get_subject("g", "it").labels) == {"name": "kept"}


def test_cuda_without_a_gpu_is_a_start_up_error(models: tuple[Path, Path], tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime may have a GPU")  # tests/test_gpu_wheels.py looks at those
    said = serve_and_fail("--device", "cuda", "--models", str(models[0]), "--data-dir", str(tmp_path))
    assert "--device cuda" in said
    assert "oneglance[gpu]" in said
    assert "tpu" in serve_and_fail("--device", "tpu", "--models", str(models[0]), "--data-dir", str(tmp_path))


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CARD, reason="needs an NVIDIA GPU and oneglance[gpu]")
def test_a_gpu_answers_as_the_cpu_does(models: tuple[Path, Path], tmp_path: Path) -> None:
    answers = []
    for device in ("cpu", "cuda"):
        with (
            ServerProcess(tmp_path / device, models=models[0], device=device) as server,
            Client(server.address) as client,
        ):
            client.create_gallery("g")
            for i in range(50):
                client.enroll("g", f"s{i}", picture(i))
            client.delete_subject("g", "s7")
            result = client.identify("g", *(picture(i) for i in range(50)), all_matches=True)
            assert result.provenance.index_device == ("cpu" if device == "cpu" else "cuda:0")
            answers.append([[c.subject_id for c in r.candidates] for r in result.results])
    assert answers[0] == answers[1]


def test_a_model_that_misses_its_parity_vectors_is_refused(tmp_path: Path) -> None:
    flawed = pixels_model(tmp_path / "flawed", flaw=0.001)
    said = serve_and_fail("--models", str(flawed), "--data-dir", str(tmp_path / "data"))
    assert "does not reproduce its parity vectors" in said


def test_a_damaged_or_contradictory_model_is_refused(models: tuple[Path, Path], tmp_path: Path) -> None:
    data = ["--data-dir", str(tmp_path / "data")]
    assert "not a model folder" in serve_and_fail("--models", str(tmp_path / "nowhere"), *data)
    bad = shutil.copytree(models[0], tmp_path / "bad")
    (bad / "model.onnx").write_bytes((bad / "model.onnx").read_bytes()[:-1] + b"?")
    assert "SHA-256" in serve_and_fail("--models", str(bad), *data)
    manifest = json.loads((models[0] / "manifest.json").read_text())
    other = shutil.copytree(models[0], tmp_path / "other")
    manifest["input"]["shape"] = [9, 9, 1]
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert "the manifest says uint8 [free, 9, 9, 1]" in serve_and_fail("--models", str(other), *data)
    twice = shutil.copytree(models[0], tmp_path / "twice")
    assert "two models are named" in serve_and_fail("--models", f"{models[0]}:{twice}", *data)
    same = pixels_model(tmp_path / "same", name="same", tau=0.9)
    assert "the same encoder as 'pixels'" in serve_and_fail("--models", f"{models[0]}:{same}", *data)
    manifest = json.loads((models[0] / "manifest.json").read_text())
    manifest["parity"]["inputs"]["zlib_base64"] = "AAAA"
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert "parity: array can't be unpacked" in serve_and_fail("--models", str(other), *data)


def test_a_port_in_use_and_a_damaged_store_are_start_up_errors(models: tuple[Path, Path], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = serve_and_fail("--listen", address, "--data-dir", str(tmp_path / "a"), "--models", str(models[0]))
        assert f"can't listen on {address}" in said
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "store.sqlite3").write_bytes(b"this is no database" * 500)
    assert "damaged" in serve_and_fail("--data-dir", str(tmp_path / "b"), "--models", str(models[0]))


def test_health_follows_the_server_and_calls_are_refused_while_it_loads(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    import asyncio

    async def story() -> None:
        server = Server(Settings(listen="127.0.0.1:0", data_dir=tmp_path, models=models))
        await server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            check = getattr(health_pb2_grpc.HealthStub(channel), "Check")  # noqa: B009 - its stubs lack it

            async def status(service: str) -> int:
                answer = await check(health_pb2.HealthCheckRequest(service=service))
                return int(answer.status)

            serving, not_serving = 1, 2
            assert await status("") == not_serving
            loop = asyncio.get_running_loop()
            with pytest.raises(OneglanceError) as caught:
                await loop.run_in_executor(None, lambda: Client(server.address).list_models())
            assert (caught.value.code.name, caught.value.reason) == ("UNAVAILABLE", "NOT_SERVING")
            await server.load()
            assert await status("") == serving
            assert await status("oneglance.v1.IdentificationService") == serving
        await server.stop(0)

    asyncio.run(story())


def test_a_drain_lets_calls_under_way_finish_and_waits_for_nobody_else(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = threading.Event(), threading.Event()
    encode = Encoder.encode

    def held(self: Encoder, inputs: Any) -> Any:
        begun.set()
        assert gate.wait(PATIENCE_SECONDS)
        return encode(self, inputs)

    def open_once_it_drains(address: str) -> None:
        until(lambda: refuses(address))
        gate.set()

    with ThreadPoolExecutor(2) as pool:
        # It would rather drain for longer than this test waits than end the watcher before.
        with server_thread(data_dir=tmp_path, models=models, drain_seconds=10 * PATIENCE_SECONDS) as server:
            client = Client(server.address, timeout_seconds=PATIENCE_SECONDS)
            channel = grpc.insecure_channel(server.address)
            client.create_gallery("g", encoder="pixels")
            watch = getattr(health_pb2_grpc.HealthStub(channel), "Watch")  # noqa: B009 - its stubs lack it
            watcher = watch(health_pb2.HealthCheckRequest())  # never ends by itself
            assert next(watcher).status == 1
            monkeypatch.setattr(Encoder, "encode", held)
            under_way = pool.submit(client.enroll, "g", "it", picture(1))
            until(begun.is_set)
            pool.submit(open_once_it_drains, server.address)
        # It drained: the call was waited for, the watcher was not.
        assert under_way.result(PATIENCE_SECONDS).created
        channel.close()
        client.close()
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        assert [subject.id for subject in client.list_subjects("g")] == ["it"]


def refuses(address: str) -> bool:
    """Whether nobody takes calls there any more."""
    with Client(address) as client:
        try:
            client.list_models()
        except OneglanceError as error:
            return error.code.name == "UNAVAILABLE"
        return False


def test_a_gallery_outlives_its_encoder(models: tuple[Path, Path], tmp_path: Path) -> None:
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "it", picture(5))
        digest = client.get_gallery("g").encoder_digest
        point = client.encode(picture(5), encoder="pixels").encodings[0]
    with server_thread(data_dir=tmp_path, models=models[1:]) as server, Client(server.address) as client:
        gallery = client.get_gallery("g")
        assert not gallery.encoder_loaded
        assert not gallery.HasField("threshold")
        with pytest.raises(OneglanceError) as caught:
            client.enroll("g", "new", picture(6))
        assert (caught.value.code.name, caught.value.reason) == ("FAILED_PRECONDITION", "ENCODER_NOT_LOADED")
        assert caught.value.metadata == {"encoder_digest": digest}
        assert client.identify("g", point, tau=0.1).results[0].subject_id == "it"
        assert client.delete_subject("g", "it").deleted_encodings == 1


def test_limits_and_a_full_disk(models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models, max_encodings_per_subject=3) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "it", *(picture(i) for i in range(3)))
        with pytest.raises(OneglanceError) as caught:
            client.enroll("g", "it", picture(4))
        assert (caught.value.code.name, caught.value.reason) == ("FAILED_PRECONDITION", "LIMIT_EXCEEDED")
        assert len(client.get_subject("g", "it").encodings) == 3

        assert server._galleries is not None
        from oneglance_index import StoreFull

        full = StoreFull(tmp_path / "store.sqlite3")
        monkeypatch.setattr(server._galleries, "enroll", lambda *a, **k: _failed(full))
        with pytest.raises(OneglanceError) as caught:
            client.enroll("g", "new", picture(4))
        assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "STORE_FULL")
        monkeypatch.undo()
        assert client.enroll("g", "new", picture(4)).created


def _failed(error: Exception):  # type: ignore[no-untyped-def]
    from concurrent.futures import Future

    future: Future[None] = Future()
    future.set_exception(error)
    return future


def test_nothing_is_collected_for_anybody(models: tuple[Path, Path], tmp_path: Path) -> None:
    """ONNX Runtime's telemetry leaves files in the temporary and the cache folder, unless it is off."""
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import sys; from pathlib import Path; from oneglance_core.folder import read_model_folder;"
        "from oneglance_server.engines.encoder import Encoder;"
        "from oneglance_server.engines.session import Runtime;"
        "Encoder(read_model_folder(sys.argv[1]), Runtime('cpu', 1, 1))"
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
    subprocess.run([sys.executable, "-c", code, str(models[0])], env=env, check=True, timeout=PATIENCE_SECONDS)
    assert list(home.rglob("*")) == []


def test_reflection_lists_the_services(models: tuple[Path, Path], tmp_path: Path) -> None:
    with server_thread(data_dir=tmp_path, models=models) as server, grpc.insecure_channel(server.address) as channel:
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    ours = ("Detection", "Gallery", "Subject", "Identification", "Model", "Stylization")
    assert {f"oneglance.v1.{name}Service" for name in ours} <= services
    assert "grpc.health.v1.Health" in services
    assert {f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha")} <= services


def test_reflection_v1_tells_what_v1alpha_does(server: Server) -> None:
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_by_filename="oneglance/v1/common.proto"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="oneglance.v1.SubjectService"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.reflection.v1.ServerReflection"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="nobody"),
    ]
    with grpc.insecure_channel(server.address) as channel:

        def answers(version: str) -> list[reflection_pb2.ServerReflectionResponse]:
            call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
            )
            messages = (one.SerializeToString() for one in asked)
            found = call(messages, timeout=PATIENCE_SECONDS)
            return [reflection_pb2.ServerReflectionResponse.FromString(one) for one in found]

        newer, older = answers("v1"), answers("v1alpha")
    assert newer == older
    assert [one.original_request for one in newer] == asked
    files = [FileDescriptorProto.FromString(one) for one in newer[3].file_descriptor_response.file_descriptor_proto]
    assert [(one.name, one.package) for one in files][:1] == [
        ("grpc/reflection/v1/reflection.proto", "grpc.reflection.v1")
    ]
    assert newer[4].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_health_lists_all_services(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        listed: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/List")
        found = HEALTH.HealthListResponse.FromString(listed(b"", timeout=PATIENCE_SECONDS))
    assert set(found.statuses) == {"", *SERVICES}
    assert {one.status for one in found.statuses.values()} == {health_pb2.HealthCheckResponse.SERVING}


def test_deleted_vectors_leave_the_disk(models: tuple[Path, Path], tmp_path: Path) -> None:
    marker = (np.arange(64) + 1000).astype("<f4")
    data, ciphertexts = tmp_path / "data", tmp_path / "ciphertexts"
    thief, secret = Thief(data, ciphertexts), {"it": (marker.tobytes(),)}
    with (
        recording(ciphertexts),
        server_thread(data_dir=data, models=models) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        digest = client.get_gallery("g").encoder_digest
        client.enroll("g", "it", encoding(marker, digest))
    assert not [p for p in data.rglob("*") if p.is_file() and marker.tobytes() in p.read_bytes()]
    assert thief.of(secret) == {"it"}  # with the master key
    with server_thread(data_dir=data, models=models) as server, Client(server.address) as client:
        client.delete_subject("g", "it")
    assert thief.of(secret) == set()
    with sqlite3.connect(data / "store.sqlite3") as store:
        assert store.execute("select count(*) from encodings").fetchone() == (0,)
    store.close()
