"""A fake StylizationService: a style is a colour, which is blended over the picture."""

import io
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import grpc
import numpy as np
from PIL import Image

from oneglance.client.errors import DETAIL_KEY
from oneglance.v1 import stylization_pb2 as pb
from oneglance.v1.error_pb2 import Error, FieldViolation
from oneglance.v1.stylization_pb2_grpc import StylizationServiceServicer
from tests.waiting import PATIENCE_SECONDS

DIGEST = "fc" * 32
OTHER_DIGEST = "fd" * 32
COLOURS = {"ember": (200, 80, 40), "moss": (80, 140, 60), "slate": (90, 100, 120)}
_FORMATS = {"PNG": pb.PICTURE_FORMAT_PNG, "JPEG": pb.PICTURE_FORMAT_JPEG, "WEBP": pb.PICTURE_FORMAT_WEBP}


def style(name: str, title: str = "", license: str = "CC0-1.0", stylizer: str = "tints") -> pb.Style:
    """A style; the fake can paint it if its name is in COLOURS."""
    digest = DIGEST if stylizer == "tints" else "fd" * 32
    return pb.Style(
        name=name, title=title, source="invented", license=license, stylizer=stylizer, stylizer_digest=digest
    )


class FakeStylizer(StylizationServiceServicer):
    """``requests``: settings of every call for a picture, not for a small sample of a style."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.styles = [style(name, f"A picture of {name}") for name in COLOURS]
        self.pictures: dict[str, bytes] = {}  # of styles that were made
        self.requests: list[pb.StylizeSettings] = []
        self.cancelled = 0  # calls whose caller went away while they were slow
        self.unimplemented = False
        self.slow: threading.Event | None = None  # pictures are answered only once that is set

    def ListStyles(self, request: Any, context: Any) -> pb.ListStylesResponse:
        if self.unimplemented:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown service")
        return pb.ListStylesResponse(styles=self.styles)

    def Stylize(self, request: pb.StylizeRequest, context: Any) -> pb.StylizeResponse:
        settings = request.settings
        sample = settings.max_side == 180
        if not sample:
            self.requests.append(settings)
            if self.slow:
                self._wait(self.slow, context)
        if not self.styles:
            _abort(context, grpc.StatusCode.FAILED_PRECONDITION, "STYLIZER_NOT_LOADED", "no stylizer is loaded")
        try:
            picture = Image.open(io.BytesIO(request.image))
            pixels = np.asarray(picture.convert("RGB"), np.float64)
        except OSError:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNDECODABLE", "image: not a picture")
        single = len(settings.styles) == 1
        weights = [1.0 if single else entry.weight for entry in settings.styles]
        assert abs(sum(weights) - 1) < 1e-9
        colour = sum(self._colour(entry) * weight for entry, weight in zip(settings.styles, weights, strict=True))
        strength = settings.strength if settings.HasField("strength") else 1.0
        mixed = Image.fromarray((strength * colour + (1 - strength) * pixels).round().astype(np.uint8))
        if settings.max_side:
            mixed.thumbnail((settings.max_side, settings.max_side))
        told = "JPEG" if settings.format == pb.PICTURE_FORMAT_JPEG else picture.format or "PNG"
        told = told if told in _FORMATS else "PNG"
        buffer = io.BytesIO()
        mixed.save(buffer, told)
        return pb.StylizeResponse(
            picture=pb.StylizedPicture(
                image=buffer.getvalue(),
                format=_FORMATS[told],
                width=mixed.width,
                height=mixed.height,
                stylizer_digest=settings.stylizer or DIGEST,
                execution_provider="FakeExecutionProvider",
                tiles=1,
            )
        )

    def _wait(self, slow: threading.Event, context: Any) -> None:
        """Until ``slow`` is set, or the caller has gone."""
        over = threading.Event()
        context.add_callback(over.set)
        give_up = time.monotonic() + 2 * PATIENCE_SECONDS
        while not slow.wait(0.01) and time.monotonic() < give_up:
            if over.is_set():
                self.cancelled += 1
                raise InterruptedError("the caller went away")

    def CreateStyle(self, request: pb.CreateStyleRequest, context: Any) -> pb.CreateStyleResponse:
        """Names like "Oil!" are refused."""
        if not request.name.isalnum():
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "ID_INVALID", "name: has other characters")
        self.pictures[request.name] = request.picture
        made = style(request.name, request.title)
        made.kept = True
        self.styles = [*self.styles, made]
        return pb.CreateStyleResponse(style=made)

    def DeleteStyle(self, request: pb.DeleteStyleRequest, context: Any) -> pb.DeleteStyleResponse:
        self.styles = [one for one in self.styles if one.name != request.name]
        return pb.DeleteStyleResponse()

    def _colour(self, entry: pb.StyleWeight) -> Any:
        """Of a style, float [3]; of a picture, or a style that was made of one, the mean."""
        if entry.style in COLOURS:
            return np.array(COLOURS[entry.style])
        picture = self.pictures[entry.style] if entry.style else entry.picture
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).mean(axis=(0, 1))

    def StylizeStream(self, request_iterator: Iterator[Any], context: Any) -> NoReturn:
        raise NotImplementedError("the console does not stream")


def _abort(context: Any, status: grpc.StatusCode, reason: str, message: str) -> NoReturn:
    field, _, description = message.partition(": ")
    violations = [FieldViolation(field=field, description=description)] if description else []
    error = Error(code=status.value[0], message=message, reason=reason, field_violations=violations)
    context.set_trailing_metadata(((DETAIL_KEY, error.SerializeToString()),))
    context.abort(status, message)
    raise AssertionError("abort raises")
