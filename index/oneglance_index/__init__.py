"""oneglance_index: keeps encodings durably, and finds the nearest subjects.

GalleryStore says what callers rely on; LocalGalleries.open(data_dir) gives one. Its store (SQLite) is the truth; every
index is a cache of it. Distances are squared L2 throughout. FAISS is loaded when galleries are opened, not before.
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
    GenerationUnsupported,
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
from oneglance_index.local import MAX_DIMENSION, LocalGalleries
from oneglance_index.protocol import GalleryStore
from oneglance_index.records import (
    Candidate,
    Change,
    Deleted,
    Encoding,
    Enrolled,
    Found,
    Gallery,
    GalleryPage,
    Generation,
    OnExisting,
    OpenProgress,
    Search,
    Subject,
    SubjectPage,
    ThresholdVersion,
)
from oneglance_index.search.device import parse_device
from oneglance_index.search.kinds import IndexInfo
from oneglance_index.settings import IndexSettings

__all__ = [
    "MAX_DIMENSION",
    "Candidate",
    "Change",
    "Deleted",
    "DeviceUnavailable",
    "DimensionMismatch",
    "EncoderMismatch",
    "Encoding",
    "EncodingInvalid",
    "EncodingNotFound",
    "Enrolled",
    "Found",
    "Gallery",
    "GalleryError",
    "GalleryExists",
    "GalleryNotFound",
    "GalleryPage",
    "GalleryStore",
    "Generation",
    "GenerationUnsupported",
    "IndexInfo",
    "IndexSettings",
    "LimitExceeded",
    "LocalGalleries",
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
    "parse_device",
]
