"""oneglance.v1.StylizationService."""

import asyncio
import functools
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from pydantic import ValidationError

from oneglance.v1 import stylization_pb2 as pb
from oneglance.v1.stylization_pb2_grpc import StylizationServiceServicer
from oneglance_core.manifests import MAX_STYLES, Style
from oneglance_server.engines.picture_output import OutputFormat
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.errors import InvalidRequest
from oneglance_server.service.content import check_count, check_text
from oneglance_server.service.picture_pass import Stylized
from oneglance_server.service.services import ReadinessGate
from oneglance_server.service.styles import AskedStyle, StyleSettings
from oneglance_server.service.stylizing import FrameOrder, FrameStream
from oneglance_server.servicers.encoded import LARGE_BYTES, answer
from oneglance_server.servicers.frames import FrameSlot, WaitingFrame
from oneglance_server.servicers.receiving import Incoming
from oneglance_server.servicers.requests import call_of
from oneglance_server.servicers.streams import error_of

Context = grpc.aio.ServicerContext[Any, Any]
_FORMATS: dict[pb.PictureFormat.ValueType, OutputFormat | None] = {
    pb.PICTURE_FORMAT_UNSPECIFIED: None,
    pb.PICTURE_FORMAT_PNG: "PNG",
    pb.PICTURE_FORMAT_JPEG: "JPEG",
    pb.PICTURE_FORMAT_WEBP: "WEBP",
}
_MAX_TEXT = 500
_NUMBERS = {name: number for number, name in _FORMATS.items() if name}


class StylizationServicer(StylizationServiceServicer):
    def __init__(self, gate: ReadinessGate) -> None:
        self._gate = gate

    async def ListStyles(self, request: pb.ListStylesRequest, context: Context) -> pb.ListStylesResponse:
        return pb.ListStylesResponse(
            styles=[
                to_style(stylizer, style)
                for stylizer, styles in self._gate.services.stylization.styles(call_of(context))
                for style in styles
            ]
        )

    async def CreateStyle(self, request: pb.CreateStyleRequest, context: Context) -> pb.CreateStyleResponse:
        service = self._gate.services.stylization
        style = style_from(request)
        return pb.CreateStyleResponse(
            style=to_style(*await service.create_style(call_of(context), request.picture, style, request.stylizer))
        )

    async def DeleteStyle(self, request: pb.DeleteStyleRequest, context: Context) -> pb.DeleteStyleResponse:
        await self._gate.services.stylization.delete_style(call_of(context), request.name, request.stylizer)
        return pb.DeleteStyleResponse()

    async def Stylize(  # type: ignore[override]
        self, request: pb.StylizeRequest, context: Context
    ) -> pb.StylizeResponse | bytes:
        service = self._gate.services.stylization
        settings = settings_from(request.settings, "settings")
        done = await service.stylize(call_of(context), request.image, settings)
        return await answer(
            lambda: pb.StylizeResponse(picture=to_picture(done)), large=len(done.painted.image) > LARGE_BYTES
        )

    async def StylizeStream(  # type: ignore[override]  # the interceptor makes it an Incoming
        self, request_iterator: Incoming[pb.StylizeStreamRequest], context: Context
    ) -> AsyncIterator[pb.StylizeStreamResponse | bytes]:
        service = self._gate.services.stylization
        call = call_of(context, patient=True)
        slot = FrameSlot()
        with service.stream(call, request_iterator.end) as stream:
            reader = asyncio.create_task(_read(request_iterator, stream, slot))
            reader.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, if nobody awaits it
            try:
                last = -1
                async with aclosing(slot.frames()) as frames:
                    async for frame in frames:
                        place: dict[str, Any] = {"index": frame.index, "dropped": frame.index - last - 1}
                        try:
                            done = await stream.stylize(frame.image, frame.order)
                        except Exception as error:
                            yield pb.StylizeStreamResponse(error=error_of(error), **place)
                        else:
                            yield await answer(
                                functools.partial(_to_response, done, place),
                                large=len(done.painted.image) > LARGE_BYTES,
                            )
                            del done  # while the next one is awaited
                        last = frame.index
                await reader  # raises what reading raised
            finally:
                reader.cancel()
                slot.clear()


async def _read(requests: Incoming[pb.StylizeStreamRequest], stream: FrameStream, slot: FrameSlot) -> None:
    """Let each frame wait in the slot, under the settings that were the last before it."""
    order: FrameOrder | None = None
    every_frame = False
    index = 0
    try:
        async for received in requests:
            request = await received.message()
            try:
                content = request.WhichOneof("content")
                if content == "settings":
                    given = request.settings
                    order = await stream.order(
                        settings_from(given.settings, "settings.settings"),
                        given.steadiness if given.HasField("steadiness") else None,
                    )
                    every_frame = given.every_frame
                    received.release()
                elif content == "frame" and order is not None:
                    frame = WaitingFrame(index, request.frame, order, received.release)
                    del request  # while the frame waits
                    await slot.put(frame, replace=not every_frame)
                    del frame
                    index += 1
                else:
                    raise InvalidRequest.field("settings", "come first, then frames", reason="SETTINGS_MISPLACED")
            except BaseException:
                received.release()
                raise
            del received  # while the next one is awaited
        if order is None:
            raise InvalidRequest.field("settings", "come first", reason="SETTINGS_MISPLACED")
    finally:
        slot.close()


def style_from(request: pb.CreateStyleRequest) -> Style:
    """Raises InvalidRequest for a name that none has, or a text that is too long."""
    texts = {field: check_text(field, getattr(request, field), _MAX_TEXT) for field in ("title", "source", "license")}
    try:
        return Style(name=request.name, **texts)
    except ValidationError as error:
        raise InvalidRequest.field(
            "name", 'must be 1 to 63 of a-z, 0-9, "_" and "-", the first a letter or digit', reason="ID_INVALID"
        ) from error


def to_style(stylizer: Stylizer, style: Style) -> pb.Style:
    return pb.Style(
        name=style.name,
        title=style.title,
        source=style.source,
        license=style.license,
        stylizer=stylizer.manifest.name,
        stylizer_digest=stylizer.digest,
        kept=stylizer.manifest.space is not None,
    )


def settings_from(settings: pb.StylizeSettings, path: str) -> StyleSettings:
    """Raises InvalidRequest for no or too many styles, or a format this version doesn't know."""
    check_count(f"{path}.styles", settings.styles, MAX_STYLES)
    if settings.format not in _FORMATS:
        raise InvalidRequest.field(f"{path}.format", f"unknown value {settings.format}")
    return StyleSettings(
        tuple(AskedStyle(entry.style, entry.weight, entry.picture) for entry in settings.styles),
        settings.stylizer,
        settings.strength if settings.HasField("strength") else None,
        settings.keep_colors,
        _FORMATS[settings.format],
        settings.quality,
        settings.max_side,
        settings.stroke_size if settings.HasField("stroke_size") else None,
        settings.keep_faces,
    )


def _to_response(done: Stylized, place: Mapping[str, Any]) -> pb.StylizeStreamResponse:
    return pb.StylizeStreamResponse(picture=to_picture(done), **place)


def to_picture(done: Stylized) -> pb.StylizedPicture:
    painted = done.painted
    return pb.StylizedPicture(
        image=painted.image,
        format=_NUMBERS[painted.format],
        width=painted.width,
        height=painted.height,
        stylizer_digest=done.stylizer_digest,
        execution_provider=done.execution_provider,
        tiles=painted.tiles,
    )
