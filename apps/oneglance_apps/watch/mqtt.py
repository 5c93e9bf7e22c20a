"""An output that publishes each event over MQTT 5."""

import asyncio
import contextlib
import math
import ssl
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import aiomqtt
from paho.mqtt.client import MQTT_ERR_NO_CONN
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from oneglance_apps.urls import redacted
from oneglance_apps.watch.outbox import NoAnswer, NotReached
from oneglance_apps.watch.records import Record
from oneglance_apps.watch.settings import Delivery

PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEP_ALIVE_SECONDS = 5


class Mqtt:
    """Publishes events to ``url``, ``mqtt://user:password@host:port/topic`` (mqtts: with TLS), each on topic/kind.

    Quality of service 0 for "at-most-once", 1 for "at-least-once". The broker is told when an event expires, and must
    not hand it on after that. Raises ValueError for another URL; the message shows no secrets.
    """

    def __init__(self, url: str, delivery: Delivery) -> None:
        self.name = redacted(url)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # its message would show parts of the URL
            raise ValueError(f"{self.name}: not an MQTT URL") from None
        topic = unquote(parts.path.strip("/"))
        usable = parts.scheme in PORTS and parts.hostname and topic and not parts.query and not parts.fragment
        if not usable or set(topic) & set("+#\0"):
            raise ValueError(f"{self.name}: not an MQTT URL; mqtt://HOST/TOPIC is one")
        self._topic = topic
        self._quality = 1 if delivery == "at-least-once" else 0
        self._options: dict[str, Any] = {
            "hostname": parts.hostname,
            "port": port or PORTS[parts.scheme],
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            "tls_context": ssl.create_default_context() if parts.scheme == "mqtts" else None,
        }
        self._client: aiomqtt.Client | None = None
        self._connecting = asyncio.Lock()

    async def send(self, record: Record, left: float) -> None:
        client = await self._connected(left)
        properties = cast(Any, Properties)(PacketTypes.PUBLISH)
        properties.MessageExpiryInterval = min(math.ceil(left), 0xFFFFFFFF)
        properties.ContentType = "application/json"
        try:
            await client.publish(
                f"{self._topic}/{record.kind}",
                record.model_dump_json().encode(),
                qos=self._quality,
                properties=properties,
                timeout=math.inf,  # the outbox limits it
            )
        except aiomqtt.MqttError as error:
            await self._drop(client)
            if isinstance(error, aiomqtt.MqttCodeError) and error.rc == MQTT_ERR_NO_CONN:
                raise NotReached(str(error)) from error
            raise NoAnswer(str(error)) from error
        except asyncio.CancelledError:
            await self._drop(client)
            raise

    async def close(self) -> None:
        if self._client is not None:
            await self._drop(self._client)

    async def _drop(self, client: aiomqtt.Client) -> None:
        """Close ``client``, unless another send has done it, and perhaps connected anew."""
        if self._client is client:
            self._client = None
            with contextlib.suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)

    async def _connected(self, left: float) -> aiomqtt.Client:
        async with self._connecting:
            if self._client is None:
                client = aiomqtt.Client(
                    **self._options,
                    protocol=aiomqtt.ProtocolVersion.V5,
                    keepalive=KEEP_ALIVE_SECONDS,
                    timeout=left,
                )
                try:
                    await client.__aenter__()
                except aiomqtt.MqttError as error:
                    raise NotReached(str(error)) from error
                self._client = client
            return self._client
