"""Every setting of the server: stated once here; flags, environment, TOML, docs and tests derive from this table.

Settings of the index and of the search for faces have their default, range and description there.

Precedence: flag (``--max-batch 32``), environment (``ONEGLANCE_MAX_BATCH=32``), TOML file (``max_batch = 32``),
default.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from oneglance.addresses import is_loopback, socket_of
from oneglance.defaults import MAX_MESSAGE_BYTES, SERVER_ADDRESS
from oneglance_core.data_directory import SHOWN, chosen_data_directory, data_directory, default_data_directory
from oneglance_core.defaults import CONSOLE_ADDRESS
from oneglance_core.faces.finder import FaceSearch
from oneglance_core.flags import Flag, complaints
from oneglance_core.frozen import Frozen, as_in
from oneglance_core.sounds import DEFAULT_MAX_BYTES, DEFAULT_MAX_SECONDS
from oneglance_index import IndexSettings
from oneglance_server.environment import unknown_variables
from oneglance_server.errors import StartupError
from oneglance_server.listening import MAX_SOCKET_PATH
from oneglance_server.sharing.addresses import check_keeper, is_keeper

Engine = Literal["onnxruntime", "openvino", "openvino-bf16"]
BUNDLED = Path(__file__).parent / "models"
BUNDLED_MODEL = BUNDLED / "characters"
BUNDLED_STYLIZER = BUNDLED / "stylizer"
# What --models takes in place of a path.
BUNDLED_NAMES: dict[str, tuple[Path, ...]] = {
    "bundled": (BUNDLED_MODEL, BUNDLED_STYLIZER) if BUNDLED_STYLIZER.is_dir() else (BUNDLED_MODEL,),
    **{f"bundled-{folder.name}": (folder,) for folder in sorted(BUNDLED.iterdir()) if folder.is_dir()},
}
_ADDRESS = Flag(metavar="HOST:PORT")
_SIZE = re.compile(r"[1-9]\d{0,4}x[1-9]\d{0,4}", re.ASCII)
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s,]+", re.ASCII)
_CORES = len(os.sched_getaffinity(0))
_WORKERS_ON_A_GPU = 2  # one batch is computed while the next one is prepared; more would only make them smaller


class Settings(Frozen, BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ONEGLANCE_")

    listen: Annotated[str, Flag(metavar="HOST:PORT|unix:PATH")] = Field(
        SERVER_ADDRESS,
        description="host:port to serve gRPC on; port 0 picks a free one. Beyond loopback it needs tls_cert, tls_key "
        "and policy, or insecure. Or unix:/path: a Unix socket, which the user of the server alone may use; no TLS.",
    )
    workers: int = Field(
        0,
        ge=0,
        le=256,
        description="Processes that decode, encode and answer, on the same port, while the one that was started keeps "
        "the galleries; see docs/servers.md. 0: one process does it all.",
    )
    http: Annotated[str, _ADDRESS] = Field(
        "",
        description="host:port to serve the same calls on over HTTP: JSON, Connect and gRPC-Web, see docs/clients.md; "
        "empty: off. TLS, policy and limits are those of listen.",
    )
    http_origins: Annotated[tuple[str, ...], NoDecode, Flag(separator=",", metavar="ORIGIN")] = Field(
        (),
        description="Web pages that may call over HTTP, as https://app.example, comma-separated; *: any.",
    )
    policy: Annotated[str, Flag(metavar="FILE")] = Field(
        "", description="Who may do what, as TOML: see docs/security.md. Empty: everybody everything."
    )
    tls_cert: Annotated[str, Flag(metavar="FILE")] = Field(
        "",
        description="The server's certificate and those above it, PEM: gRPC is served with TLS. Read again when it "
        "changes.",
    )
    tls_key: Annotated[str, Flag(metavar="FILE")] = Field(
        "", description="The certificate's key, PEM, without a password."
    )
    tls_client_ca: Annotated[str, Flag(metavar="FILE")] = Field(
        "", description="Clients must have a certificate of this authority, PEM. It says who they are."
    )
    insecure: bool = Field(
        False,
        description="Serve beyond loopback without TLS and policy, and console and metrics, which have neither: "
        "something in front has to keep strangers out.",
    )
    data_dir: Annotated[Path, Flag(default=SHOWN)] = Field(
        default_factory=default_data_directory, description="Where galleries are kept. One server per folder."
    )
    galleries: str = Field(
        "",
        description="Whose galleries are served. keeper://HOST:PORT, keeper+tls://HOST:PORT or keeper+unix:/PATH: "
        "those of another server, at its --share; the data directory has none then. milvus://HOST:PORT/DATABASE, or "
        "milvus+tls://...: those of the data directory, searched in a Milvus. Empty: those of the data directory, on "
        "--device.",
    )
    galleries_token: str = Field(
        "",
        description="What is shown there: file:PATH or env:NAME, which holds that server's --share-token, or a "
        "Milvus's user:password or API key.",
    )
    galleries_ca: Annotated[str, Flag(metavar="FILE")] = Field(
        "",
        description="The certificate of the authority that the one there is from, PEM, for keeper+tls and milvus+tls.",
    )
    galleries_cert: Annotated[str, Flag(metavar="FILE")] = Field(
        "",
        description="The certificate that is shown there, PEM, for a milvus+tls that asks for one; it needs "
        "galleries_key and galleries_ca.",
    )
    galleries_key: Annotated[str, Flag(metavar="FILE")] = Field(
        "", description="That certificate's key, PEM, without a password."
    )
    galleries_copy_seconds: float = Field(
        0.0,
        ge=0,
        description="How long a Milvus may have copies of what was deleted, which receipts of deletions tell; 0: they "
        "don't.",
    )
    galleries_wait_seconds: float = Field(
        30.0,
        ge=0,
        description="How long a start waits for the server that keeps the galleries to be there, and of the same code. "
        "Health says NOT_SERVING meanwhile.",
    )
    share: Annotated[str, Flag(metavar="HOST:PORT|unix:PATH")] = Field(
        "",
        description="Where other servers may use this one's galleries, with --galleries keeper://...; see "
        "docs/servers.md. Beyond loopback it needs tls_cert, tls_key and share_token, or insecure. Empty: nowhere.",
    )
    share_token: str = Field(
        "", description="What they must show: file:PATH or env:NAME, which holds it. Empty: nothing."
    )
    models: Annotated[tuple[Path, ...], NoDecode, Flag(separator=":")] = Field(
        BUNDLED_NAMES["bundled"],
        description="Model folders to load, or folders of them, colon-separated in flag and environment. The default, "
        "'bundled', is the bundled encoder for drawn characters and the bundled stylizer; 'bundled-NAME' is one of "
        "them.",
    )
    signed_by: Annotated[tuple[Path, ...], NoDecode, Flag(separator=":", metavar="FILE")] = Field(
        (),
        description="Public keys, PEM, colon-separated: models are loaded only if one of them signed them, or if the "
        "server came with them. Empty: any.",
    )
    max_model_memory: int = Field(
        8 << 30,
        ge=0,
        description="Bytes that one model may take while it is loaded and tried, on the CPU; more is a start-up error. "
        "0: no limit.",
    )
    device: str = Field(
        "cpu",
        description="cpu, cuda or cuda:N, for encoder and index alike. A device that can't be used is a start-up "
        "error, never replaced by another.",
    )
    encoder_workers: int = Field(
        _CORES, ge=1, le=256, description="Encoder batches that run at once. Default: cores; 2 on a GPU."
    )
    encoder_threads: int = Field(1, ge=1, le=256, description="Threads inside one encoder batch.")
    photo_workers: int = Field(_CORES, ge=1, le=256, description="Batches of photos looked at at once. Default: cores.")
    max_photo_batch: int = Field(
        1, ge=1, le=256, description="Photos in one such batch. On a CPU one by one is fastest; a GPU likes more."
    )
    encoder_engine: Engine = Field(
        "onnxruntime",
        description="What runs encoders on the CPU. openvino-bf16 computes in 16 bits. An engine that isn't there, "
        "or a processor without bf16, is a start-up error.",
    )
    max_batch: int = Field(64, ge=1, le=4096, description="Examples in one encoder batch.")
    max_search_batch: int = Field(256, ge=1, le=4096, description="Probes in one scan of a gallery.")
    max_wait: float = Field(
        1.0,
        ge=0,
        description="How long a call may wait in a queue, in full rounds of batches (large calls: in proportion to "
        "their own work). What would have to wait longer gets RESOURCE_EXHAUSTED at once. Streams wait.",
    )
    max_image_bytes: int = Field(32 << 20, ge=1, description="Largest encoded picture.")
    max_image_pixels: int = Field(
        50_000_000,
        ge=1,
        description="Largest picture, width x height, before decoding. A JPEG that isn't progressive may have four "
        "times as many: it is decoded at half its sides.",
    )
    max_call_pixels: int = Field(1_000_000_000, ge=1, description="The same of all pictures of one call together.")
    max_sound_bytes: int = Field(DEFAULT_MAX_BYTES, ge=1, description="Largest encoded sound.")
    max_sound_seconds: float = Field(
        DEFAULT_MAX_SECONDS, gt=0, le=86_400, description="Longest sound, as its header says, before decoding."
    )
    max_call_sound_seconds: float = Field(
        1200.0, gt=0, le=86_400, description="The same of all sounds of one call together."
    )
    prepared_sizes: Annotated[tuple[str, ...], NoDecode, Flag(separator=",", metavar="WIDTHxHEIGHT")] = Field(
        (),
        description="Sizes of photos and frames that come often, as 1920x1080: face detector and stylizers are "
        "prepared for them before the server serves, where the first run of a size costs more (a GPU, OpenVINO). "
        "Others are prepared when they come.",
    )
    unfit_inputs: Literal["refuse", "tell", "ignore"] = Field(
        "refuse",
        description="Pictures and tensors that are not of the kind that the encoder's manifest says it is made for: "
        "refuse them at enrollment and tell of them in other answers; only tell; or do not look.",
    )
    min_face: int = as_in(FaceSearch, "min_face")
    search_pixels: int = as_in(FaceSearch, "search_pixels")
    max_faces: int = as_in(FaceSearch, "max_faces")
    stylizer_engine: Engine = Field("onnxruntime", description="What runs stylizers on the CPU, as encoder_engine.")
    stylize_workers: int = Field(
        1,
        ge=1,
        le=256,
        description="Tiles or small pictures that are stylized at once, at low priority: identification comes first.",
    )
    stylize_threads: int = Field(1, ge=1, le=256, description="Threads inside one of them.")
    stylize_queue: int = Field(
        32,
        ge=1,
        le=4096,
        description="Stylize calls that may wait or be under way; beyond it, RESOURCE_EXHAUSTED. Those under way take "
        "turns tile by tile.",
    )
    stylize_streams: int = Field(
        8,
        ge=1,
        le=1024,
        description="StylizeStream calls that may be open at once, half of them of one connection; beyond it, one that "
        "is idle gives way, else RESOURCE_EXHAUSTED.",
    )
    max_stylize_pixels: int = Field(
        25_000_000,
        ge=1,
        description="Largest picture to stylize, and copy of it that stroke_size makes, width x height after max_side; "
        "a side counts as stylize_bucket at least.",
    )
    max_frame_pixels: int = Field(9_000_000, ge=1, description="The same of a frame of a stream.")
    stylize_inflight_pixels: int = Field(
        64_000_000, ge=1, description="Pixels of the pictures, not frames, under way at once; more calls wait."
    )
    stylize_bucket: Annotated[int, Flag(unit="pixels")] = Field(
        64,
        ge=1,
        le=1024,
        description="Sides of pictures that are stylized whole are lengthened to a multiple of so many pixels, by "
        "reflection.",
    )
    stylize_tile: Annotated[int, Flag(unit="pixels")] = Field(
        1024,
        ge=64,
        le=8192,
        description="Pictures of more pixels than a square of this side are stylized in tiles; the memory of a run is "
        "in proportion to its square.",
    )
    max_message_bytes: int = Field(MAX_MESSAGE_BYTES, ge=4096, le=1 << 30, description="Largest gRPC message.")
    max_inflight_bytes: int = Field(
        1 << 30,
        ge=1 << 20,
        description="Bytes of requests, and of large answers not yet sent, at once: half for calls, of which more get "
        "RESOURCE_EXHAUSTED, half for streams, which wait; of either half one connection has at most half.",
    )
    max_encodings_per_subject: int = as_in(IndexSettings, "max_encodings_per_subject")
    master_key: str = as_in(IndexSettings, "master_key")
    former_master_key: str = as_in(IndexSettings, "former_master_key")
    backup_dir: Annotated[str, Flag(metavar="DIR")] = Field(
        "", description="Folder for the backups that calls ask for, made if need be; empty: there are none."
    )
    backup_seconds: float = as_in(IndexSettings, "backup_seconds")
    audit: Literal["off", "on", "fail-closed"] = Field(
        "on",
        description="The audit trail, see docs/security.md: on, changes are told with the change itself, and decisions "
        "within a second; fail-closed, no decision is answered before it is told; off.",
    )
    audit_subjects: Literal["plain", "hashed"] = as_in(IndexSettings, "audit_subjects")
    audit_days: float = as_in(IndexSettings, "audit_days")
    sweep_every_seconds: float = as_in(IndexSettings, "sweep_every_seconds")
    snapshot_every: int = as_in(IndexSettings, "snapshot_every_encodings")
    search_threads: int = as_in(IndexSettings, "search_threads")
    row_codes: Literal["int8", "off"] = as_in(IndexSettings, "row_codes")
    approximate_checked_share: float = as_in(IndexSettings, "approximate_checked_share")
    start_check: Literal["before", "behind"] = Field(  # health and every answer tell a server's clients of it
        "behind", description=str(IndexSettings.model_fields["start_check"].description)
    )
    gpu_memory_bytes: int = Field(
        4 << 30, ge=1 << 20, description="Ceiling of the memory of all models together on a GPU."
    )
    gpu_temp_memory_bytes: int = as_in(IndexSettings, "gpu_temp_memory_bytes")
    gpu_rows: Literal["float32", "float16"] = as_in(IndexSettings, "gpu_rows")
    gpu_lost: Literal["fail", "cpu"] = as_in(IndexSettings, "gpu_lost")
    stream_window: int = Field(256, ge=1, le=65536, description="Items of one stream that may be under way at once.")
    max_connections: int = Field(
        1024, ge=1, le=1 << 20, description="Connections open at once; more are closed at once."
    )
    max_calls_per_connection: int = Field(
        256, ge=1, le=1 << 20, description="Calls and streams of one connection at once; its client holds more back."
    )
    connection_idle_seconds: float = Field(
        600.0, gt=0, le=1e6, description="After so long without a call, a connection is closed; clients open another."
    )
    connection_age_seconds: float = Field(
        3600.0, gt=0, le=1e6, description="So old a connection takes no new calls; clients open another for them."
    )
    connection_grace_seconds: float = Field(
        86_400.0,
        ge=0,
        le=1e6,
        description="So much older, its calls are cut off; long, because a stream lives as long as its camera.",
    )
    stream_idle_seconds: float = Field(
        300.0,
        gt=0,
        description="How long a stream may send nothing while nothing of it is under way, or leave an answer unread; "
        "then it is ended.",
    )
    drain_seconds: float = Field(10.0, ge=0, description="How long calls under way may finish after SIGTERM.")
    metrics: Annotated[str, _ADDRESS] = Field("", description="host:port to serve Prometheus metrics on; empty: off.")
    console: Annotated[str, Flag(metavar="HOST:PORT", alone=CONSOLE_ADDRESS)] = Field(
        "",
        description="host:port to serve the console on, a web page to look at and work with; empty: off. It knows no "
        "callers: beyond loopback it needs insecure.",
    )
    console_watch_events: str = Field(
        "",
        description="File that `oneglance watch --json` writes its events to, for the console to show; empty: none.",
    )
    traces: Literal["off", "on"] = Field(
        "off",
        description="on: send traces of calls by OpenTelemetry, as the variables OTEL_* say; needs oneglance[otel].",
    )
    strict: bool = Field(
        False, description="Refuse to start with a variable ONEGLANCE_* that is no setting; else it is only told."
    )
    send_metrics: Literal["off", "on"] = Field(
        "off",
        description="on: send metrics by OpenTelemetry, as the variables OTEL_* say; needs oneglance[otel].",
    )
    log_format: Literal["text", "json"] = Field("text", description="text for people, json for machines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity to log.")

    @field_validator("signed_by", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value

    @field_validator("models", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        parts = cls._split(value)
        if not isinstance(parts, tuple | list):
            return parts
        folders: list[Any] = []
        for part in parts:
            named = BUNDLED_NAMES.get(part, (part,)) if isinstance(part, str) else (part,)
            folders += [folder for folder in named if folder not in folders]
        return tuple(folders)

    @field_validator("data_dir", mode="before")
    @classmethod
    def _a_folder(cls, value: Any) -> Any:
        return data_directory(value) if isinstance(value, str) else value

    @field_validator("prepared_sizes", mode="before")
    @classmethod
    def _sizes(cls, value: Any) -> Any:
        sizes = tuple(part for part in value.split(",") if part) if isinstance(value, str) else value
        if isinstance(sizes, tuple | list) and not all(_SIZE.fullmatch(str(size)) for size in sizes):
            raise ValueError("expected WIDTHxHEIGHT, comma-separated")
        return sizes

    @field_validator("http_origins", mode="before")
    @classmethod
    def _origins(cls, value: Any) -> Any:
        origins = tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
        if isinstance(origins, tuple | list) and not all(_ORIGIN.fullmatch(str(origin)) for origin in origins):
            raise ValueError(
                "expected SCHEME://HOST or SCHEME://HOST:PORT as browsers send them, or *, comma-separated"
            )
        return origins

    @property
    def sizes_to_prepare(self) -> list[tuple[int, int]]:
        """(height, width) of each of ``prepared_sizes``."""
        return [(int(height), int(width)) for width, height in (size.split("x") for size in self.prepared_sizes)]

    @field_validator("listen", "share")
    @classmethod
    def _listen_address(cls, value: str) -> str:
        path = socket_of(value)
        if path is None:
            return _checked_address(value)
        if not path.is_absolute() or len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise ValueError(f"a socket has an absolute path of at most {MAX_SOCKET_PATH} bytes")
        return value

    @field_validator("http", "metrics", "console")
    @classmethod
    def _address(cls, value: str) -> str:
        return _checked_address(value)

    @model_validator(mode="before")
    @classmethod
    def _few_workers_on_a_gpu(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("device", "cpu") == "cpu":
            return values
        return {"encoder_workers": _WORKERS_ON_A_GPU, **values}

    @model_validator(mode="after")
    def _something_to_serve(self) -> "Settings":
        if not self.listen:
            raise ValueError("--listen: expected host:port")
        return self

    @model_validator(mode="after")
    def _safe(self) -> "Settings":
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("--tls-cert and --tls-key go together")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key")
        if self.insecure:
            return self
        for name, address in (("--listen", self.listen), ("--http", self.http)):
            if address and not (_is_here(address) or (self.tls_cert and self.policy)):
                raise ValueError(
                    f"{name} {address}: beyond loopback a server needs --tls-cert, --tls-key and --policy; "
                    "--insecure serves anybody who reaches it"
                )
        if self.share and self.policy and not self.share_token and socket_of(self.share) is None:
            raise ValueError(f"--share {self.share}: with --policy it needs --share-token, or a Unix socket")
        if self.share and not (_is_here(self.share) or (self.tls_cert and self.share_token)):
            raise ValueError(f"--share {self.share}: beyond loopback it needs --tls-cert, --tls-key and --share-token")
        for name, address in (("--metrics", self.metrics), ("--console", self.console)):
            if address and not is_loopback(address):
                raise ValueError(f"{name} {address}: it has no authentication; beyond loopback it needs --insecure")
        return self

    @model_validator(mode="after")
    def _an_engine(self) -> "Settings":
        if self.uses_keeper:
            try:
                check_keeper(self.galleries)
            except ValueError as error:
                raise ValueError(f"--galleries: {error}") from None
            for name, given in (("--share", self.share), ("--backup-dir", self.backup_dir)):
                if given:
                    raise ValueError(f"{name} is for the server that keeps the galleries, which is at --galleries")
        elif self.galleries and not self.galleries.startswith(("milvus://", "milvus+tls://")):
            raise ValueError("--galleries: expected keeper://HOST:PORT, milvus://HOST:PORT/DATABASE, or with +tls")
        if (self.galleries_token or self.galleries_ca) and not self.galleries:
            raise ValueError("--galleries-token and --galleries-ca are of --galleries")
        if self.galleries_ca and not self.galleries.startswith(("keeper+tls:", "milvus+tls:")):
            raise ValueError("--galleries-ca is for keeper+tls and milvus+tls: this one is without TLS")
        if self.galleries_cert or self.galleries_key:
            if not self.galleries.startswith("milvus+tls:"):
                raise ValueError("--galleries-cert and --galleries-key are for milvus+tls")
            if not (self.galleries_cert and self.galleries_key and self.galleries_ca):
                raise ValueError("--galleries-cert, --galleries-key and --galleries-ca go together")
        if self.share_token and not self.share:
            raise ValueError("--share-token is of --share")
        return self

    @model_validator(mode="after")
    def _processes(self) -> "Settings":
        if self.workers and (self.uses_keeper or socket_of(self.listen) is not None or self.device != "cpu"):
            raise ValueError("--workers: for galleries of this server, on the CPU, at a port (no Unix socket)")
        if self.workers and self.share and socket_of(self.share) is None:
            raise ValueError("--workers: its --share is unix:PATH")
        if self.metrics and int(self.metrics.rpartition(":")[2]) + self.workers > 65535:
            raise ValueError("--workers: their metrics are at the ports after that of --metrics, up to 65535")
        return self

    @property
    def uses_keeper(self) -> bool:
        """Whether another server keeps the galleries."""
        return is_keeper(self.galleries)

    @model_validator(mode="after")
    def _backups_elsewhere(self) -> "Settings":
        if self.backup_dir and Path(self.backup_dir).resolve().is_relative_to(self.data_dir.resolve()):
            raise ValueError("--backup-dir: a backup belongs outside of the data directory")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def _checked_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if value and (not host or not port.isdigit() or int(port) > 65535):
        raise ValueError("expected host:port")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"an IPv6 address stands in brackets: [{host}]:{port}")
    return value


def _is_here(address: str) -> bool:
    """A Unix socket is made for the user of the server alone."""
    return socket_of(address) is not None or is_loopback(address)


def load_settings(flags: dict[str, Any] | None = None, toml: Path | None = None) -> Settings:
    """Settings from ``flags`` (only those given), the environment and an optional TOML file.

    Raises StartupError naming each setting that is wrong.
    """

    class WithFile(Settings):
        model_config = SettingsConfigDict(toml_file=toml)

    if toml is not None and not toml.is_file():
        raise StartupError(f"{toml}: no such settings file")
    try:
        settings = WithFile(**(flags or {}))
    except ValidationError as error:
        raise StartupError("bad settings\n  " + "\n  ".join(complaints(error))) from error
    except ValueError as error:  # TOML syntax
        raise StartupError(f"{toml}: {error}") from error
    if settings.strict and (unknown := unknown_variables(os.environ, Settings.model_fields)):
        raise StartupError("--strict: " + "; ".join(unknown))

    if "data_dir" not in settings.model_fields_set:
        try:
            chosen_data_directory(None)
        except ValueError as error:
            raise StartupError(f"--data-dir: {error}") from error
    return settings
