"""oneglance_index: keeps encodings durably, and finds the nearest subjects.

Galleries.open(data_dir) is the way in. The store (SQLite) is the truth; every index is a cache of it in
memory. Distances are squared L2 throughout.
"""

from oneglance_index.encodings import check_encodings
from oneglance_index.errors import (
    DeviceUnavailable,
    DimensionMismatch,
    EncoderMismatch,
    EncodingInvalid,
    EncodingNotFound,
    GalleryError,
    GalleryExists,
    GalleryNotFound,
    LimitExceeded,
    RequestConflict,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreIOError,
    StoreLocked,
    StoreTooNew,
    SubjectExists,
    SubjectNotFound,
)
from oneglance_index.local import MAX_DIMENSION, Galleries
from oneglance_index.records import (
    Candidate,
    Change,
    Deleted,
    Encoding,
    Enrolled,
    Found,
    Gallery,
    GalleryPage,
    OnExisting,
    OpenProgress,
    Search,
    Subject,
    SubjectPage,
    ThresholdVersion,
)
from oneglance_index.search.device import Device, open_device, parse_device
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.kinds import GalleryIndex, IndexInfo
from oneglance_index.settings import IndexSettings

__all__ = [
    "MAX_DIMENSION",
    "Candidate",
    "Change",
    "Deleted",
    "Device",
    "DeviceUnavailable",
    "DimensionMismatch",
    "EncoderMismatch",
    "Encoding",
    "EncodingInvalid",
    "EncodingNotFound",
    "Enrolled",
    "ExactIndex",
    "Found",
    "Galleries",
    "Gallery",
    "GalleryError",
    "GalleryExists",
    "GalleryIndex",
    "GalleryNotFound",
    "GalleryPage",
    "IndexInfo",
    "IndexSettings",
    "LimitExceeded",
    "OnExisting",
    "OpenProgress",
    "RequestConflict",
    "Search",
    "StoreClosed",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "StoreIOError",
    "StoreLocked",
    "StoreTooNew",
    "Subject",
    "SubjectExists",
    "SubjectNotFound",
    "SubjectPage",
    "ThresholdVersion",
    "check_encodings",
    "open_device",
    "parse_device",
]
