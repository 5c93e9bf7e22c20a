"""A client's connection: made when it is first used, and not used any more once it is closed."""

import asyncio
import contextlib
import math
from collections.abc import Iterator

import grpc

from oneglance.client.errors import ClientStateError

MAX_SECONDS = 1e6  # of a timeout: gRPC's clock overflows far above, and a call would end at once
Options = list[tuple[str, int]]


def checked_seconds(name: str, seconds: float, *, above_zero: bool = True) -> float:
    """A timeout that gRPC can keep. Raises ValueError, TypeError."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} is a number of seconds, not {type(seconds).__name__}")
    if not math.isfinite(seconds) or seconds > MAX_SECONDS or seconds < 0 or (above_zero and seconds == 0):
        least = "above 0" if above_zero else "0 or more"
        raise ValueError(f"{name} is {least} and at most {MAX_SECONDS:,.0f}, got {seconds}")
    return float(seconds)


class Link:
    """The connection of a Client. Thread-safe as gRPC's channels are."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None, options: Options) -> None:
        self._channel = (
            grpc.insecure_channel(target, options=options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options=options)
        )
        self.closed = False

    def channel(self) -> grpc.Channel:
        """Raises ClientStateError once it is closed."""
        if self.closed:
            raise closed()
        return self._channel

    def close(self) -> None:
        self.closed = True
        self._channel.close()


class AsyncLink:
    """The connection of an AsyncClient. It belongs to the event loop in which it is first used."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None, options: Options) -> None:
        self._target, self._credentials, self._options = target, credentials, options
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    def channel(self) -> grpc.aio.Channel:
        """Raises ClientStateError once it is closed, and in another event loop."""
        if self.closed:
            raise closed()
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._loop = loop
            self._channel = (
                grpc.aio.insecure_channel(self._target, options=self._options)
                if self._credentials is None
                else grpc.aio.secure_channel(self._target, self._credentials, options=self._options)
            )
        elif loop is not self._loop:
            raise ClientStateError(
                "this AsyncClient was used in another event loop, and works only there: make one in each asyncio.run()",
                reason="CLIENT_OF_ANOTHER_LOOP",
            )
        return self._channel

    async def close(self) -> None:
        self.closed = True
        channel, self._channel = self._channel, None
        if channel is not None and asyncio.get_running_loop() is self._loop:
            with contextlib.suppress(asyncio.CancelledError):
                await channel.close()


def closed() -> ClientStateError:
    return ClientStateError("this client was closed", reason="CLIENT_CLOSED")


@contextlib.contextmanager
def calling(link: Link | AsyncLink) -> Iterator[None]:
    """Around a call: what gRPC raises because the client is closed meanwhile becomes ClientStateError."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if link.closed and not (task and task.cancelling()):
            raise closed() from None
        raise
    except (grpc.RpcError, grpc.aio.UsageError, ValueError) as error:
        code = getattr(error, "code", None)
        if link.closed and (code is None or code() is grpc.StatusCode.CANCELLED):
            raise closed() from error
        raise
