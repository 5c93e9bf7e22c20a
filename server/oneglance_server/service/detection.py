"""Find faces, for their own sake."""

from collections.abc import Sequence
from dataclasses import dataclass

from oneglance_core.faces.crops import CropRequest, FaceChoice
from oneglance_core.faces.finder import Photo, SmallFaces
from oneglance_server.calls import Call
from oneglance_server.engines.faces import Detector, FaceCropper, Landmarks
from oneglance_server.service.content import MAX_PHOTOS, check_count
from oneglance_server.service.encoders import Encoders
from oneglance_server.service.encoding import Encoding, detector_missing
from oneglance_server.service.plan import chip_of, default_small_faces


@dataclass(frozen=True, slots=True)
class Detected:
    """What was seen of each photo, and what found it."""

    photos: Sequence[Photo]
    detector: Detector
    landmarks: Landmarks


class DetectionService:
    """``cropper``: None when no face finder is loaded."""

    def __init__(self, cropper: FaceCropper | None, encoding: Encoding, encoders: Encoders) -> None:
        self._cropper = cropper
        self._encoding = encoding
        # Quality is judged on the aligned face, as the first encoder of faces wants it.
        self._chip = next((chip for encoder in encoders.all() if (chip := chip_of(encoder))), None)

    async def detect(
        self, call: Call, images: Sequence[bytes], small_faces: SmallFaces | None, *, upright_only: bool
    ) -> Detected:
        """The faces of each photo. Nothing is stored. Raises as Encoding.crop does."""
        call.need("encode")
        check_count("images", images, MAX_PHOTOS)
        call.spend("probes", len(images))
        if self._cropper is None:
            raise detector_missing()
        which = small_faces or default_small_faces("all")
        every = FaceChoice("all", small_faces=which, upright_only=upright_only)
        requests = [CropRequest(image, every, self._chip, quality_only=True) for image in images]
        crops = await self._encoding.crop(call, requests, [f"images[{i}]" for i in range(len(images))])
        return Detected([one.photo for one in crops], self._cropper.detector, self._cropper.landmarks)
