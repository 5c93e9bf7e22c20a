"""oneglance.v1.GalleryService."""

from typing import Any

import grpc

from oneglance.v1 import gallery_pb2 as pb
from oneglance.v1.gallery_pb2_grpc import GalleryServiceServicer
from oneglance_server.errors import ThresholdMissing
from oneglance_server.service.content import MAX_DESCRIPTION_CHARACTERS, check_text
from oneglance_server.service.services import Door
from oneglance_server.servicers.convert import page_from, to_gallery, to_page_token, to_threshold

Context = grpc.aio.ServicerContext[Any, Any]


class GalleryServicer(GalleryServiceServicer):
    def __init__(self, door: Door) -> None:
        self._door = door

    async def CreateGallery(self, request: pb.CreateGalleryRequest, context: Context) -> pb.CreateGalleryResponse:
        galleries = self._door.services.galleries
        description = check_text("description", request.description, MAX_DESCRIPTION_CHARACTERS)
        gallery = await galleries.create(request.gallery_id, request.encoder, description)
        return pb.CreateGalleryResponse(gallery=to_gallery(gallery, galleries))

    async def GetGallery(self, request: pb.GetGalleryRequest, context: Context) -> pb.GetGalleryResponse:
        galleries = self._door.services.galleries
        return pb.GetGalleryResponse(gallery=to_gallery(await galleries.get(request.gallery_id), galleries))

    async def ListGalleries(self, request: pb.ListGalleriesRequest, context: Context) -> pb.ListGalleriesResponse:
        galleries = self._door.services.galleries
        page = await galleries.page(*page_from(request.page_size, request.page_token))
        return pb.ListGalleriesResponse(
            galleries=[to_gallery(gallery, galleries) for gallery in page.galleries],
            next_page_token=to_page_token(page.next_after),
        )

    async def DeleteGallery(self, request: pb.DeleteGalleryRequest, context: Context) -> pb.DeleteGalleryResponse:
        services = self._door.services
        gone = await services.galleries.delete(request.gallery_id)
        services.identification.forget(request.gallery_id)
        return pb.DeleteGalleryResponse(deleted_subjects=gone.subjects)

    async def GetThreshold(self, request: pb.GetThresholdRequest, context: Context) -> pb.GetThresholdResponse:
        galleries = self._door.services.galleries
        gallery = await galleries.get(request.gallery_id)
        return pb.GetThresholdResponse(threshold=to_threshold(galleries.tau(gallery, gallery.subjects)))

    async def SetThreshold(self, request: pb.SetThresholdRequest, context: Context) -> pb.SetThresholdResponse:
        galleries = self._door.services.galleries
        tau = request.tau if request.HasField("tau") else None
        gallery = await galleries.set_tau(request.gallery_id, tau)
        try:
            return pb.SetThresholdResponse(threshold=to_threshold(galleries.tau(gallery, gallery.subjects)))
        except ThresholdMissing:
            return pb.SetThresholdResponse()
