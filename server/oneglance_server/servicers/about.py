"""oneglance.v1.ServerService."""

from typing import Any

import grpc

from oneglance.v1 import server_pb2 as pb
from oneglance.v1.server_pb2_grpc import ServerServiceServicer
from oneglance_core.defaults import MAX_CANDIDATES
from oneglance_core.names import MAX_NAME_CHARACTERS
from oneglance_server.service import content
from oneglance_server.service.services import ReadinessGate
from oneglance_server.servicers.requests import call_of

Context = grpc.aio.ServicerContext[Any, Any]


class AboutServicer(ServerServiceServicer):
    def __init__(self, gate: ReadinessGate) -> None:
        self._gate = gate

    async def GetServer(self, request: pb.GetServerRequest, context: Context) -> pb.GetServerResponse:
        about = self._gate.services.about.get(call_of(context))
        limits = about.settings
        return pb.GetServerResponse(
            version=about.version,
            schema_version=about.schema_version,
            device=about.device,
            capabilities=about.capabilities,
            limits=pb.ServerLimits(
                message_bytes=limits.max_message_bytes,
                picture_bytes=limits.max_image_bytes,
                picture_pixels=limits.max_image_pixels,
                call_pixels=limits.max_call_pixels,
                sound_bytes=limits.max_sound_bytes,
                sound_seconds=limits.max_sound_seconds,
                examples_per_enroll=content.MAX_EXAMPLES_PER_ENROLL,
                probes=content.MAX_PROBES,
                labels=content.MAX_LABELS,
                id_characters=MAX_NAME_CHARACTERS,
                encodings_per_subject=limits.max_encodings_per_subject,
                candidates=MAX_CANDIDATES,
            ),
        )
