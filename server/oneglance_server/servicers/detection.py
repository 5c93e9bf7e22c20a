"""oneglance.v1.DetectionService."""

from typing import Any

import grpc

from oneglance.v1 import detection_pb2 as pb
from oneglance.v1.detection_pb2_grpc import DetectionServiceServicer
from oneglance_server.service.services import Door
from oneglance_server.servicers.convert import deadline_of, small_faces_from, to_photo

Context = grpc.aio.ServicerContext[Any, Any]


class DetectionServicer(DetectionServiceServicer):
    def __init__(self, door: Door) -> None:
        self._door = door

    async def DetectFaces(self, request: pb.DetectFacesRequest, context: Context) -> pb.DetectFacesResponse:
        service = self._door.services.identification
        small_faces = small_faces_from(request.small_faces, "small_faces")
        photos, finder = await service.detect(request.images, small_faces, deadline=deadline_of(context))
        return pb.DetectFacesResponse(
            photos=[to_photo(photo) for photo in photos],
            detector_digest=finder.detector.digest,
            landmarks_digest=finder.landmarks.digest,
            execution_provider=finder.detector.execution_provider,
        )
