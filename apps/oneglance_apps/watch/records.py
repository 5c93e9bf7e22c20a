"""What ``watch`` tells: one record per event, the same for every output. This is the schema of events, version 1.

``docs/watch-events.schema.json`` is made from these classes, and a test holds the two together. Within a version fields
and kinds may be added; what is there keeps its name, its type and its meaning.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from oneglance_apps.frames.source_error import Reason

SCHEMA_VERSION = 1

AppearanceKind = Literal["identified", "unknown", "unclear", "accompanied", "present", "left"]
CameraKind = Literal["camera_lost", "camera_back"]
ServerKind = Literal["server_lost", "server_back"]

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Nearest(_Model):
    """The nearest subject, whatever tau."""

    subject_id: str
    distance: float
    """Squared L2, or a score by margin."""


class Rectangle(_Model):
    """In pixels of the frame, upright; x to the right, y downwards."""

    x: float
    y: float
    width: float
    height: float


class View(_Model):
    """The faces of the frame that decided, this one included."""

    faces: int
    identified: int
    unknown: int
    unclear: int
    """Not identified, and too blurred, dark, small or turned to tell."""
    nearest_other: float | None
    """From this face to the nearest face that isn't identified, in sides of this face, from centre to centre; null when
    there is none."""


class Latency(_Model):
    """Seconds from when a frame was taken to when its faces were known, over the last answers."""

    bound: float
    """The setting ``--latency``."""
    p50: float | None
    p99: float | None


class Frames(_Model):
    """Frames of the source since the start. ``read`` is the sum of the other four."""

    read: int
    answered: int
    skipped: int
    """By choice: more than ``--fps``."""
    dropped: int
    """Replaced by a newer frame, refused, or lost with the connection."""
    under_way: int
    """Neither yet."""


class _Event(_Model):
    version: Literal[1] = 1
    """Of this schema."""
    id: str
    """Of this event: the same whenever, and wherever, it is sent."""
    gallery: str
    source: str
    """As given; of a URL without user and password, and with ``***`` for its query."""
    time: Time | None
    """When the frame was taken, or, without a frame, of the event; null for files."""
    seconds: float
    """Of that frame: position in the file, or since the start."""
    age: float = 0.0
    """Seconds from when the frame was taken, or from the event, until this was sent."""
    expires: Time | None = None
    """After that the event is stale, and is not sent; null: never."""


class AppearanceRecord(_Event):
    """About a face that was followed over frames."""

    kind: AppearanceKind
    appearance: int
    """Its number in this run, from 1."""
    frame: int
    """Number of the frame, from 0."""
    picture: str | None
    """File name, of a folder of pictures."""
    subject_id: str | None
    """Who; null: unknown."""
    distance: float | None
    """Squared L2, the best of the frames so far that agree."""
    tau: float | None
    """That the server decided by."""
    nearest: Nearest | None
    """Of somebody unknown or unclear."""
    box: Rectangle | None
    """Null without faces."""
    frames: int
    """Seen so far in so many frames."""
    duration: float
    """Seconds from the first to the last of them."""
    view: View
    unknown_reason: Literal["nobody_near", "ambiguous", "negative"] | None
    """Why nobody is identified. Ambiguous: the nearest subject is under tau, but not nearer than the next one by the
    gallery's least gap. Negative: whoever is under tau has a negative that is nearer."""
    rival: str | None
    """Of somebody ambiguous: the next subject."""
    follows: str | None
    """Of somebody unknown: the subject who was last identified in the same place, within ``--gone`` seconds."""


class CameraRecord(_Event):
    """A camera gives no frames, or gives them again."""

    kind: CameraKind
    reason: Reason | None
    """Why it was lost; null when it is back."""
    message: str
    silent: float
    """Seconds without a frame."""


class ServerRecord(_Event):
    """The server answers no more, or answers again."""

    kind: ServerKind
    message: str


class BehindRecord(_Event):
    """The bound on the latency isn't kept."""

    kind: Literal["behind"] = "behind"
    latency: Latency
    frames: Frames


class HeartbeatRecord(_Event):
    """Sent every ``--heartbeat`` seconds, whatever happens."""

    kind: Literal["heartbeat"] = "heartbeat"
    camera: bool
    """Frames come."""
    server: bool
    """The server answers."""
    latency: Latency
    frames: Frames


class ExpiredRecord(_Event):
    """An event about an appearance was not sent to an output in time, and no longer will be."""

    kind: Literal["expired"] = "expired"
    event: str
    """Its id."""
    event_kind: AppearanceKind
    appearance: int
    subject_id: str | None
    output: str
    """Where it was to be sent."""


Record = AppearanceRecord | CameraRecord | ServerRecord | BehindRecord | HeartbeatRecord | ExpiredRecord


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one event."""
    schema = TypeAdapter(Annotated[Record, Field(discriminator="kind")]).json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Event of oneglance watch, version {SCHEMA_VERSION}",
        **schema,
    }
