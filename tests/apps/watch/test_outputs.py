"""Events given to a command, and published over MQTT (with Debian's mosquitto, where it is installed)."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from oneglance_apps.clock import SystemClock
from oneglance_apps.watch.command import Command
from oneglance_apps.watch.outbox import Listener, NoAnswer, NotReached, NotTaken, Outbox
from oneglance_apps.watch.settings import Delivery, DeliveryRules
from tests.apps.watch.letters import appearance, heartbeat, letter
from tests.apps.watch.manual_clock import ManualClock
from tests.waiting import PATIENCE_SECONDS, reached, until

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


def script(text: str) -> list[str]:
    return [sys.executable, "-S", "-c", text]


async def test_a_command_gets_the_event_and_its_environment(tmp_path: Path) -> None:
    text = f"import os, sys; open({str(tmp_path / 'a')!r}, 'w').write(os.environ['ONEGLANCE_KIND'] + ' ' + "
    text += "os.environ['ONEGLANCE_SUBJECT_ID'] + '\\n' + sys.stdin.read())"
    record = appearance(subject_id="a'; rm -rf b")
    await Command(script(text)).send(record, 1.0)
    said, event, _ = (tmp_path / "a").read_text().split("\n")
    assert said == "identified a'; rm -rf b"
    assert json.loads(event) == json.loads(record.model_dump_json())
    await Command(script(text)).send(heartbeat(), 1.0)
    assert (tmp_path / "a").read_text().startswith("heartbeat \n")


async def test_a_command_that_fails_did_not_take_it() -> None:
    with pytest.raises(NotTaken, match="exit status 3"):
        await Command(script("raise SystemExit(3)")).send(appearance(), 1.0)
    with pytest.raises(NotReached, match="No such file"):
        await Command(["/nowhere/at/all"]).send(appearance(), 1.0)
    with pytest.raises(ValueError, match="no command"):
        Command([])


async def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    clock = ManualClock()
    outbox = Outbox(
        Command(["/bin/sh", "-c", f"sleep 1000 & echo $! > {tmp_path}/child; mv {tmp_path}/child {tmp_path}/a; wait"]),
        DeliveryRules(),
        clock,
        Listener(),
    )
    outbox.put(letter(clock))
    await reached((tmp_path / "a").exists)
    child = Path("/proc") / (tmp_path / "a").read_text().strip() / "stat"
    await clock.advance(5.0)
    await reached(lambda: outbox.counts.unanswered == 1)
    await reached(lambda: not child.exists() or child.read_text().split()[2] == "Z")
    await outbox.close(0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """HOST:PORT of a broker that knows one user."""
    pytest.importorskip("aiomqtt", reason="needs oneglance[mqtt]")
    if MOSQUITTO is None:
        pytest.skip("needs Debian's package mosquitto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "users").write_text("door:secret\n")
    subprocess.run(
        [Path(MOSQUITTO).with_name("mosquitto_passwd").as_posix().replace("/sbin/", "/bin/"), "-U", "users"],
        cwd=tmp_path,
        check=True,
    )
    (tmp_path / "conf").write_text(f"listener {port} 127.0.0.1\npassword_file {tmp_path}/users\nuser root\n")
    with subprocess.Popen([MOSQUITTO, "-c", str(tmp_path / "conf")], stderr=subprocess.DEVNULL) as process:
        until(lambda: _listens(port))
        yield f"127.0.0.1:{port}"
        process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
async def test_events_are_published_with_their_lifetime(broker: str, delivery: Delivery) -> None:
    import aiomqtt

    from oneglance_apps.watch.mqtt import Mqtt

    clock = SystemClock()
    rules = DeliveryRules(delivery, identified_seconds=PATIENCE_SECONDS)
    host, _, port = broker.partition(":")
    version = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client(host, int(port), username="door", password="secret", protocol=version) as listening:
        await listening.subscribe("gate/#", qos=1)
        outbox = Outbox(Mqtt(f"mqtt://door:secret@{broker}/gate/1", delivery), rules, clock, Listener())
        outbox.put(letter(clock, rules=rules))
        outbox.put(letter(clock, heartbeat(), rules))
        got = {}
        async for message in listening.messages:
            got[str(message.topic)] = message
            if len(got) == 2:
                break
        await outbox.close(PATIENCE_SECONDS)
    assert set(got) == {"gate/1/identified", "gate/1/heartbeat"}
    message = got["gate/1/identified"]
    assert json.loads(message.payload)["id"] == "e1"
    assert message.qos == (1 if delivery == "at-least-once" else 0)
    properties: Any = message.properties
    assert 0 < properties.MessageExpiryInterval <= PATIENCE_SECONDS
    assert outbox.counts.delivered == 2


async def test_a_broker_that_refuses_or_is_down_takes_nothing(broker: str) -> None:
    from oneglance_apps.watch.mqtt import Mqtt

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for url in (f"mqtt://door:wrong@{broker}/gate", f"mqtt://127.0.0.1:{taken.getsockname()[1]}/gate"):
            output = Mqtt(url, "at-most-once")
            with pytest.raises(NotReached) as caught:
                await output.send(appearance(), 60.0)
            assert "wrong" not in str(caught.value)
            assert "wrong" not in output.name
            await output.close()


class FakeClient:
    """A connection to a broker that ends while two events are being published."""

    made: ClassVar[list["FakeClient"]] = []
    publishing = 0
    left = 0

    def __init__(self, **_: object) -> None:
        self.made.append(self)
        self.broken = asyncio.Event()

    async def __aenter__(self) -> "FakeClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.left += 1

    async def publish(self, *_: object, **__: object) -> None:
        import aiomqtt

        self.publishing += 1
        if len(self.made) == 1:
            await self.broken.wait()
            raise aiomqtt.MqttError("the connection ended")


async def test_a_lost_connection_is_closed_once_and_the_next_event_makes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aiomqtt = pytest.importorskip("aiomqtt", reason="needs oneglance[mqtt]")
    from oneglance_apps.watch.mqtt import Mqtt

    monkeypatch.setattr(aiomqtt, "Client", FakeClient)
    monkeypatch.setattr(FakeClient, "made", [])
    output = Mqtt("mqtt://127.0.0.1/gate", "at-most-once")
    sending = [asyncio.create_task(output.send(appearance(id=name), 60.0)) for name in "ab"]
    await reached(lambda: FakeClient.made and FakeClient.made[0].publishing == 2)
    (first,) = FakeClient.made
    first.broken.set()
    with pytest.raises(NoAnswer, match="the connection ended"):
        await sending[0]
    await output.send(appearance(id="c"), 60.0)  # over another connection,
    with pytest.raises(NoAnswer):
        await sending[1]
    await output.send(appearance(id="d"), 60.0)  # which the second failure of the first one doesn't end
    _, second = FakeClient.made
    assert (first.left, second.left, second.publishing) == (1, 0, 2)
    await output.close()
    assert (first.left, second.left) == (1, 1)


async def test_a_broker_that_goes_away_and_comes_back_gets_the_next_event(broker: str) -> None:
    import aiomqtt

    from oneglance_apps.watch.mqtt import Mqtt

    host, _, port = broker.partition(":")
    output = Mqtt(f"mqtt://door:secret@{broker}/gate", "at-least-once")
    await output.send(appearance(), 60.0)
    first = output._client
    assert first is not None
    await first.__aexit__(None, None, None)  # as when the connection ends
    with pytest.raises((NoAnswer, NotReached)):
        await output.send(appearance(), 60.0)
    version = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client(host, int(port), username="door", password="secret", protocol=version) as listening:
        await listening.subscribe("gate/#", qos=1)
        await output.send(appearance(id="again"), 60.0)
        message = await anext(listening.messages)
        assert json.loads(bytes(message.payload))["id"] == "again"
    await output.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://h/x",
        "mqtt://h",
        "mqtt://h/",
        "mqtt:///x",
        "mqtt://h/a/+",
        "mqtt://h/a#b",
        "mqtt://h/a?b",
        "mqtt://user:secret@h:x/y",
        "",
    ],
)
def test_other_urls_are_refused_without_their_secrets(url: str) -> None:
    pytest.importorskip("aiomqtt", reason="needs oneglance[mqtt]")
    from oneglance_apps.watch.mqtt import Mqtt

    async def made() -> None:
        with pytest.raises(ValueError, match="not an MQTT URL") as caught:
            Mqtt(url, "at-most-once")
        assert "secret" not in str(caught.value)

    asyncio.run(made())
