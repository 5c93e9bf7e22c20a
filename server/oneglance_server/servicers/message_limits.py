"""How large a request may be: the most bytes of each method's, the most elements of each repeated field.

A method that is not named here takes small requests; a repeated field that is not named here keeps the server from
starting.
"""

from google.protobuf.descriptor import MethodDescriptor

from oneglance_core.manifests import MAX_DIMENSION, MAX_STYLES
from oneglance_server.service.content import (
    MAX_AXES,
    MAX_ENCODED,
    MAX_EXAMPLES_PER_ENROLL,
    MAX_FILTER_LABELS,
    MAX_KNOWN,
    MAX_LABELS,
    MAX_MOVED,
    MAX_PHOTOS,
    MAX_PROBES,
)
from oneglance_server.servicers.wire import Shape

SMALL_REQUEST_BYTES = 64 << 10  # ids, numbers, a page token, a thousand characters of text

# 64 labels with 1,000 characters each.
LABELS_BYTES = 512 << 10
LABELLED_REQUESTS = frozenset({"oneglance.v1.SubjectService.UpdateLabels"})
# Methods whose requests carry pictures, tensors or encodings: up to max_message_bytes.
LARGE_REQUESTS = frozenset(
    {
        "oneglance.v1.DetectionService.DetectFaces",
        "oneglance.v1.GalleryService.Calibrate",
        "oneglance.v1.GalleryService.ImportGallery",
        "oneglance.v1.IdentificationService.Encode",
        "oneglance.v1.IdentificationService.Identify",
        "oneglance.v1.IdentificationService.IdentifyStream",
        "oneglance.v1.IdentificationService.Verify",
        "oneglance.v1.StylizationService.CreateStyle",
        "oneglance.v1.StylizationService.Stylize",
        "oneglance.v1.StylizationService.StylizeStream",
        "oneglance.v1.SubjectService.AddNegative",
        "oneglance.v1.SubjectService.BulkEnroll",
        "oneglance.v1.SubjectService.Enroll",
    }
)

MAX_ELEMENTS = {
    "oneglance.v1.DetectFacesRequest.images": MAX_PHOTOS,
    "oneglance.v1.EncodeRequest.examples": MAX_PROBES,
    "oneglance.v1.EncodedSubject.labels": MAX_LABELS,
    "oneglance.v1.EncodedSubjects.subjects": MAX_ENCODED,
    "oneglance.v1.Encoding.values": MAX_DIMENSION,
    "oneglance.v1.EnrollRequest.examples": MAX_EXAMPLES_PER_ENROLL,
    "oneglance.v1.EnrollRequest.labels": MAX_LABELS,
    "oneglance.v1.ExportKnown.numbers": MAX_KNOWN,
    "oneglance.v1.ExportKnown.versions": MAX_KNOWN,
    "oneglance.v1.IdentifyRequest.probes": MAX_PROBES,
    "oneglance.v1.MovedSubject.encodings": MAX_MOVED,
    "oneglance.v1.MovedSubject.labels": MAX_LABELS,
    "oneglance.v1.MovedSubject.negatives": MAX_MOVED,
    "oneglance.v1.MovedSubjects.subjects": MAX_MOVED,
    "oneglance.v1.MovedThresholds.thresholds": MAX_MOVED,
    "oneglance.v1.StylizeSettings.styles": MAX_STYLES,
    "oneglance.v1.SubjectFilter.labels": MAX_FILTER_LABELS,
    "oneglance.v1.UpdateLabelsRequest.labels": MAX_LABELS,
    "oneglance.v1.UpdateLabelsRequest.remove": MAX_LABELS,
    "oneglance.v1.Tensor.shape": MAX_AXES,
}

# The item of a stream's message: errors name its fields as those of a single call.
_ITEMS = frozenset({"oneglance.v1.BulkEnrollRequest.item", "oneglance.v1.IdentifyStreamRequest.request"})


def max_request_bytes(method: MethodDescriptor, max_message_bytes: int) -> int:
    if method.full_name in LARGE_REQUESTS:
        return max_message_bytes
    most = LABELS_BYTES if method.full_name in LABELLED_REQUESTS else SMALL_REQUEST_BYTES
    return min(most, max_message_bytes)


def request_shape(method: MethodDescriptor) -> Shape:
    """Raises KeyError for a repeated field without a limit."""
    return Shape(method.input_type, MAX_ELEMENTS, _ITEMS)
