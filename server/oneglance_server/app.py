"""A server's life: bind, load, serve, drain, close. The CLI, the demo and the tests all start it here."""

import asyncio
import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from wsgiref.simple_server import WSGIServer

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import start_http_server

from oneglance.addresses import socket_of
from oneglance.defaults import MAX_PAGE_SIZE
from oneglance.v1 import (
    access_pb2,
    detection_pb2,
    gallery_pb2,
    identification_pb2,
    model_pb2,
    server_pb2,
    stylization_pb2,
    subject_pb2,
)
from oneglance.v1.access_pb2_grpc import add_AccessServiceServicer_to_server
from oneglance.v1.detection_pb2_grpc import add_DetectionServiceServicer_to_server
from oneglance.v1.gallery_pb2_grpc import add_GalleryServiceServicer_to_server
from oneglance.v1.identification_pb2_grpc import add_IdentificationServiceServicer_to_server
from oneglance.v1.model_pb2_grpc import add_ModelServiceServicer_to_server
from oneglance.v1.server_pb2_grpc import add_ServerServiceServicer_to_server
from oneglance.v1.stylization_pb2_grpc import add_StylizationServiceServicer_to_server
from oneglance.v1.subject_pb2_grpc import add_SubjectServiceServicer_to_server
from oneglance_core.files import replacing
from oneglance_core.printable import printable
from oneglance_index import (
    Actor,
    EngineUnavailable,
    Gallery,
    GalleryStore,
    acting,
)
from oneglance_server.accepting import MethodServer, accept_more
from oneglance_server.access.access import Access
from oneglance_server.access.api_keys import ApiKeys
from oneglance_server.access.quotas import Quotas
from oneglance_server.access.tls import Certificates
from oneglance_server.backlog import Backlog
from oneglance_server.byte_budget import ByteBudget
from oneglance_server.composition import Pools, make_services
from oneglance_server.engines.background import yield_to_others
from oneglance_server.errors import AuditFailed, NotServing, StartupError
from oneglance_server.listening import clear_socket, owner_only, why_not
from oneglance_server.loading import Models, load_models
from oneglance_server.logs import lines_lost
from oneglance_server.loop_watch import watch_loop
from oneglance_server.metrics import Metrics
from oneglance_server.offload import Threads, start_threads
from oneglance_server.opening import open_galleries, open_shared, read_secret
from oneglance_server.sent_metrics import begin_sending
from oneglance_server.service.auditing import Audit
from oneglance_server.service.backups import BackupFolder, Backups
from oneglance_server.service.encoders import where_bundled
from oneglance_server.service.galleries import approximation_state
from oneglance_server.service.services import ReadinessGate
from oneglance_server.service.thresholds import Thresholds
from oneglance_server.servicers.about import AboutServicer
from oneglance_server.servicers.access import AccessServicer
from oneglance_server.servicers.detection import DetectionServicer
from oneglance_server.servicers.gallery import GalleryServicer
from oneglance_server.servicers.identification import IdentificationServicer
from oneglance_server.servicers.interceptor import CallInterceptor
from oneglance_server.servicers.model import ModelServicer
from oneglance_server.servicers.stylization import StylizationServicer
from oneglance_server.servicers.subject import SubjectServicer
from oneglance_server.settings import Settings
from oneglance_server.shared_files import LocalFiles
from oneglance_server.sharing.files import RemoteFiles
from oneglance_server.sharing.keeper import Keeper
from oneglance_server.sharing.news import News
from oneglance_server.sharing.own import KeepersOwn
from oneglance_server.standard_services import Health, add_reflection
from oneglance_server.tracing import begin_tracing

if TYPE_CHECKING:
    from oneglance_server.http.listener import HttpListener

log = structlog.get_logger()
SERVICES = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (access_pb2, "AccessService"),
        (detection_pb2, "DetectionService"),
        (gallery_pb2, "GalleryService"),
        (identification_pb2, "IdentificationService"),
        (model_pb2, "ModelService"),
        (server_pb2, "ServerService"),
        (stylization_pb2, "StylizationService"),
        (subject_pb2, "SubjectService"),
    )
)
_OF_ENCODERS = (identification_pb2.DESCRIPTOR.services_by_name["IdentificationService"].full_name,)
_GALLERIES_SHOWN = 5  # in a line of the log
_READ_THREADS = 4
_SHARE_THREADS = 8  # for what other servers read and search
# A server that doesn't hear of a change holds it up so long at most, and a second.
_GRANTED_SECONDS = 3.0
# A file of the data directory that is there while others may decide by what was granted.
_SHARED = "shared"
_WORK_THREADS = 4  # for what is too long for the event loop
_MESSAGE_THREADS = 2
_MESSAGE_ROUNDS = 8  # they are short: 10 ms
_NO_LIMIT = 2**31 - 1
_IDENTITY_AND_GZIP = 1 << grpc.Compression.NoCompression | 1 << grpc.Compression.Gzip
# Of the drain, this is kept to close the store: a share of it, but not more than so long.
_CLOSING_SHARE, _CLOSING_SECONDS = 0.2, 2.0
_OPTIONAL_SHARE = 0.6  # of what is left then, so much for snapshots, which only make the next start quicker
_ACCESS_SECONDS = 0.25  # between two looks at policy and keys: what is revoked is refused within a second
_HANDSHAKE_MS = 10_000  # who connects and says nothing takes a connection from others
_LOOK_SECONDS = 1.0  # between two looks at how store and models are
_TELLING_SECONDS = 0.2  # calls that are ended need as long at most to say so, unless their caller doesn't read


class Server:
    """A oneglance server: ``async with Server(settings) as server: ...`` serves until the block ends.

    ``start`` binds the port and answers health checks with NOT_SERVING, ``load`` reads models and galleries and
    opens the door, ``stop`` drains and closes. ``shares_port``: other processes listen on it, too. Raises StartupError.
    """

    def __init__(self, settings: Settings, *, shares_port: bool = False) -> None:
        self.settings = settings
        self._shares_port = shares_port
        self.address = settings.listen
        self._gate = ReadinessGate()
        self._metrics = Metrics()
        # Half for calls and half for streams: what streams hold refuses no call, and no flood of calls stops a stream.
        self._call_bytes = ByteBudget(settings.max_inflight_bytes // 2)
        self._stream_bytes = ByteBudget(settings.max_inflight_bytes // 2)
        self._backlog = Backlog()
        self._certificates = _certificates(settings)
        self._access: Access | None = None
        self._files = RemoteFiles() if settings.uses_keeper else LocalFiles(settings.data_dir)
        # Servers that share these galleries may know callers where this one doesn't.
        self._keys = ApiKeys(self._files) if settings.policy or settings.share else None
        if settings.policy and self._keys is not None:
            if not settings.uses_keeper:
                settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._access = Access(Path(settings.policy), self._keys)
        self._interceptor = CallInterceptor(
            self._metrics,
            self._backlog,
            self._call_bytes,
            self._stream_bytes,
            max_message_bytes=settings.max_message_bytes,
            idle_seconds=settings.stream_idle_seconds,
            access=self._access,
        )
        self._metrics_server: tuple[WSGIServer, Thread] | None = None
        self._galleries: GalleryStore | None = None
        self._news: News | None = None
        self._loop: asyncio.AbstractEventLoop
        self._audit: Audit | None = None
        self._pools: list[ThreadPoolExecutor] = []
        self._health = Health()
        self._grpc: grpc.aio.Server | None = None
        self._watches: list[asyncio.Task[None]] = []
        self.http_address = settings.http
        self._http: HttpListener | None = None
        self.shared_address = settings.share
        self._sharing: grpc.aio.Server | None = None
        self._closer = ThreadPoolExecutor(1, "oneglance-close")
        self._end_traces: Callable[[], None] = lambda: None
        # Services that can't do their work while the others can: their health says NOT_SERVING.
        self._unserved: tuple[str, ...] = ()
        self._end_metrics: Callable[[], None] = lambda: None
        self.store_closed = False

    async def __aenter__(self) -> Self:
        try:
            await self.start()
            await self.load()
        except BaseException:
            await self.stop(0)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(self.settings.drain_seconds)

    async def start(self) -> None:
        """Bind the port; ``address`` then says which. Calls are refused with UNAVAILABLE until ``load`` is done."""
        settings = self.settings
        self._loop = asyncio.get_running_loop()
        if settings.traces == "on":
            self._end_traces = begin_tracing()
        if settings.send_metrics == "on":
            self._end_metrics = begin_sending(self._metrics.registry)
        start_threads(self._closer)
        asyncio.get_running_loop().set_default_executor(self._pool("work", _WORK_THREADS))
        server = self._grpc = grpc.aio.server(
            interceptors=[self._interceptor], options=_options(settings, self._shares_port)
        )
        ours: Any = MethodServer(server)
        gate, window = self._gate, settings.stream_window
        add_GalleryServiceServicer_to_server(GalleryServicer(gate, window), ours)
        add_SubjectServiceServicer_to_server(SubjectServicer(gate, window), ours)
        add_IdentificationServiceServicer_to_server(IdentificationServicer(gate, window), ours)
        add_DetectionServiceServicer_to_server(DetectionServicer(gate), ours)
        add_AccessServiceServicer_to_server(AccessServicer(gate), ours)
        add_ModelServiceServicer_to_server(ModelServicer(gate), ours)
        add_ServerServiceServicer_to_server(AboutServicer(gate), ours)
        add_StylizationServiceServicer_to_server(StylizationServicer(gate), ours)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_reflection((*SERVICES, health.SERVICE_NAME), server)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            self._backlog.listen(server)
            self.address = self._bind(server, settings.listen)
        except RuntimeError as error:
            raise StartupError(f"can't listen on {settings.listen}: {why_not(settings.listen)}") from error
        self._interceptor.off_loop = Threads(
            "message",
            self._pool("message", _MESSAGE_THREADS),
            workers=_MESSAGE_THREADS,
            max_wait=_MESSAGE_ROUNDS * settings.max_wait,
            observer=self._metrics.stage("message"),
        )
        await server.start()
        accept_more(server, ours.methods, self._interceptor, self._interceptor.expired, self._interceptor.pause)
        self._metrics.watch_log(lines_lost)
        certificates = self._certificates
        self._metrics.watch_certificate(lambda: certificates.expires if certificates else None)
        self._watches.append(asyncio.create_task(watch_loop(self._metrics.loop_lag)))
        self._watches.append(asyncio.create_task(self._backlog.watch()))
        if settings.http:
            await self._serve_http(ours.methods)
        if self._keys is not None or certificates is not None:
            self._watches.append(asyncio.create_task(self._watch_access()))
        if settings.metrics:
            metrics_host, _, metrics_port = settings.metrics.rpartition(":")
            try:
                self._metrics_server = start_http_server(
                    int(metrics_port), metrics_host.strip("[]"), registry=self._metrics.registry
                )
            except OSError as error:
                raise StartupError(f"can't serve metrics on {settings.metrics}: {error}") from error

    def _bind(self, server: grpc.aio.Server, address: str, *, of_clients: bool = True) -> str:
        """The address that came of it. gRPC takes the file of a Unix socket away again when it stops.

        ``of_clients``: see Certificates.credentials().
        """
        if (path := socket_of(address)) is not None:
            clear_socket(path)
            with owner_only():
                server.add_insecure_port(address)
            return address
        if self._certificates is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, self._certificates.credentials(of_clients=of_clients))
        return f"{address.rpartition(':')[0]}:{port}"

    async def _serve_http(self, methods: Mapping[str, Any]) -> None:
        try:
            from oneglance_server.http.calls import Calls
            from oneglance_server.http.listener import HttpListener
        except ImportError as error:
            raise StartupError(f"--http: {error}; pip install 'oneglance[http]'") from error
        settings = self.settings
        calls = Calls(
            methods,
            self._interceptor,
            self._call_bytes,
            self._stream_bytes,
            max_message_bytes=settings.max_message_bytes,
            idle_seconds=settings.stream_idle_seconds,
        )
        self._http = HttpListener(settings, self._certificates, calls, self._shares_port)
        await self._http.start()
        self.http_address = self._http.address

    async def load(self) -> None:
        """Read and check models and galleries, then serve: a gallery answers once it is loaded, health says SERVING
        once all are."""
        try:
            await self._load()
        except EngineUnavailable as error:  # it was there a moment ago
            raise StartupError(f"can't use the galleries: {error}") from error

    async def _load(self) -> None:
        settings = self.settings
        loop = asyncio.get_running_loop()
        read_pool = self._pool("read", _READ_THREADS)
        stylize_pool = self._pool("stylize", settings.stylize_workers, yield_to_others)
        models = await loop.run_in_executor(read_pool, load_models, settings, stylize_pool)
        thresholds = Thresholds(models.encoders)
        quotas = None if self._access is None else self._access.quotas
        if quotas is not None and (settings.share or settings.uses_keeper):
            quotas.begin_telling()
        store, backups = await loop.run_in_executor(read_pool, self._open, thresholds, quotas)
        self._galleries = store
        for model in models.loaded:
            self._metrics.model(model.manifest.name, model.manifest.kind, model.digest, model.execution_provider)
        self._metrics.watch_galleries(
            lambda: _all_galleries(store),
            lambda gallery: _rates(thresholds, gallery),
            lambda gallery: approximation_state(store, gallery),
        )
        pools = Pools(read_pool, _READ_THREADS, stylize_pool, self._pool)
        audit = self._audit = Audit(store, settings.audit, self._metrics.audit_entries_lost)
        services = make_services(
            *(settings, models, thresholds, store, backups, self._files),
            *(self._metrics, pools, self._backlog.crowded, self._access, audit),
        )
        if audit.mode != "off":
            self._interceptor.audit = audit
            if self._access is not None:
                self._access.on_denied = lambda identity, right, gallery_id: audit.refused(
                    acting.get() or Actor(identity.name, ""), right, gallery_id
                )
            try:
                await audit.begin([model.digest for model in models.loaded], self._let_in_by())
            except AuditFailed as error:
                raise StartupError("the audit trail can't be written, and --audit fail-closed needs it") from error
            self._watches.append(asyncio.create_task(audit.watch()))
        self._unserved = await loop.run_in_executor(read_pool, _without_encoders, store, models, True)
        self._gate.open(services)
        await loop.run_in_executor(read_pool, store.await_loaded)
        if settings.share:
            await self._share(store, backups)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        self._watches.append(asyncio.create_task(self._watch(store, models)))
        log.info(
            "serving",
            address=self.address,
            **({"http": self.http_address} if self.settings.http else {}),
            device=store.device,
            models=[model.manifest.name for model in models.loaded],
        )

    def _open(self, thresholds: Thresholds, quotas: Quotas | None) -> tuple[GalleryStore, Backups]:
        """The galleries, and who backs them up. Raises StartupError."""
        settings = self.settings
        if isinstance(self._files, RemoteFiles):
            shared = open_shared(settings, self._files, quotas, self._forget_soon)
            return shared, shared
        restarted = (settings.data_dir / _SHARED).exists()
        news = self._news = News(_GRANTED_SECONDS, restarted=restarted) if settings.share or restarted else None
        if news is not None:
            files = self._files
            files.on_change = lambda name, own: news.tell_file(name, lambda: files.known()[name], wait=own)
        store = open_galleries(settings, thresholds, news, self._forget_soon)
        if news is not None and not settings.share:
            news.begin((), {})
        folder = Path(settings.backup_dir) if settings.backup_dir else None
        return store, BackupFolder(store, folder, self._pool("backup", 1))

    def _forget_soon(self, gallery_id: str) -> None:
        """From any thread: another server deleted it."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._forget, gallery_id)

    def _forget(self, gallery_id: str) -> None:
        with suppress(NotServing):
            self._gate.services.forget(gallery_id)

    async def _share(self, store: GalleryStore, backups: Backups) -> None:
        """Let other servers use the galleries."""
        address, files, news = self.settings.share, self._files, self._news
        assert news is not None
        assert isinstance(files, LocalFiles)
        news.begin(await asyncio.to_thread(lambda: list(_all_galleries(store))), files.known())
        token = read_secret(self.settings.share_token, "--share-token")
        server = self._sharing = Keeper(
            *(store, KeepersOwn(backups, files), news, self._pool("share", _SHARE_THREADS), token),
            None if self._access is None else self._access.quotas,
        ).server()
        with replacing(self.settings.data_dir / _SHARED, private=True):
            pass  # it is there, and stays where this process is killed
        try:
            self.shared_address = self._bind(server, address, of_clients=False)  # they show the token
        except RuntimeError as error:
            raise StartupError(f"can't share galleries on {address}: {why_not(address)}") from error
        await server.start()
        log.info("galleries shared", address=self.shared_address)

    async def _watch_access(self) -> None:
        """Read files that say who may call again when they change, tell so, and end the streams of those whose
        credentials are good no longer."""
        files = self._access or self._keys
        look: Callable[[], object] | None = None if files is None else files.look
        told = ""
        while True:
            await asyncio.sleep(_ACCESS_SECONDS)
            try:
                if look is not None:
                    await asyncio.get_running_loop().run_in_executor(None, look)
                if self._audit is not None:
                    await self._audit.let_in_by(self._let_in_by())
                if self._http is not None:
                    await self._http.look()
                told = ""
            except Exception as error:  # want of memory, or a full disk, say: it looks again
                if told != str(error):
                    told = str(error)
                    log.error("looking at who may call failed", exc_info=error)
            self._interceptor.end_without_credential()

    def _let_in_by(self) -> dict[str, object]:
        """What decides who may call, for the audit trail."""
        access = {} if self._access is None else self._access.files
        return access if self._certificates is None else {**access, **self._certificates.files}

    async def _watch(self, store: GalleryStore, models: Models) -> None:
        """While the store or a model has trouble, health says NOT_SERVING."""
        well, checked = True, store.sound
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if store.sound and not checked:
                    checked = True
                    log.info("store checked", sound=True)
                trouble = store.trouble() or models.trouble()
                if self._unserved and trouble is None:
                    look = functools.partial(_without_encoders, store, models, False)
                    self._unserved = await asyncio.get_running_loop().run_in_executor(None, look)
                    if well and not self._unserved:
                        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
                if (trouble is None) == well:
                    continue
                if trouble is None:
                    log.info("all is well again")
                    await self._set_health(health_pb2.HealthCheckResponse.SERVING)
                else:
                    log.error("calls fail", trouble=trouble)
                    await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
                well = trouble is None
                self._metrics.trouble(not well)
            except Exception as error:  # want of memory, say: it looks again
                log.error("looking at how things are failed", exc_info=error)

    async def stop(self, drain_seconds: float) -> None:
        """Refuse new calls, let those under way finish, refuse what takes too long; write everything down, close.

        ``drain_seconds``: for calls and closing together. What can't be interrupted is waited for nevertheless.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + drain_seconds
        calls_end = end - min(_CLOSING_SECONDS, drain_seconds * _CLOSING_SHARE)
        for watch in self._watches:  # the one of health would say SERVING
            watch.cancel()
        if self._watches:
            await asyncio.wait(self._watches)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        calls = self._interceptor.under_way
        calls.refuse()
        if self._grpc is not None:
            # Wait for our own calls only: health watchers never end by themselves.
            await calls.idle(calls_end - loop.time())
            calls.end()
            await calls.idle(_TELLING_SECONDS)
            await self._grpc.stop(0)
        if self._http is not None:
            await self._http.close()
        if self._sharing is not None:
            await self._sharing.stop(0)
        self._gate.close("the server is draining")
        if self._audit is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(_TELLING_SECONDS, end - loop.time())):
                    await self._audit.close()
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)
        left = max(0.0, end - loop.time())
        await loop.run_in_executor(self._closer, self._close, left * _OPTIONAL_SHARE)
        self._closer.shutdown()

    def _close(self, seconds: float) -> None:
        """Blocks until everything is closed, the store first; it has ``seconds`` for what can be left out."""
        self._end_metrics()  # it reads the store
        if self._galleries is not None:
            if self._news is not None and self._news.quiet:
                with suppress(OSError):
                    (self.settings.data_dir / _SHARED).unlink()
            self._galleries.close(seconds)
        self.store_closed = True
        if self._metrics_server is not None:
            http, thread = self._metrics_server
            http.shutdown()
            http.server_close()
            thread.join()
        for pool in self._pools:  # a batch that runs
            pool.shutdown(wait=True)
        self._end_traces()

    def _pool(self, name: str, threads: int, begin: Callable[[], None] | None = None) -> ThreadPoolExecutor:
        """``begin``: what each of its threads does first."""
        pool = ThreadPoolExecutor(threads, f"oneglance-{name}", begin)
        self._pools.append(pool)
        start_threads(pool)
        return pool

    async def _set_health(self, status: int) -> None:
        for service in ("", *SERVICES):
            off = service in self._unserved
            await self._health.set(service, health_pb2.HealthCheckResponse.NOT_SERVING if off else status)


def _certificates(settings: Settings) -> Certificates | None:
    if not settings.tls_cert:
        return None
    authority = Path(settings.tls_client_ca) if settings.tls_client_ca else None
    return Certificates(Path(settings.tls_cert), Path(settings.tls_key), authority)


def _options(settings: Settings, shares_port: bool) -> list[tuple[str, int]]:
    """What gRPC's core is to bound; docs/operations.md says what it can't."""
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.per_message_decompression", 0),  # servicers/receiving.py does it, once there is room
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_AND_GZIP),
        ("grpc.so_reuseport", int(shares_port)),  # else two servers on one port would share its calls silently
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_connection_idle_ms", _ms(settings.connection_idle_seconds)),
        ("grpc.max_connection_age_ms", _ms(settings.connection_age_seconds)),
        ("grpc.max_connection_age_grace_ms", _ms(settings.connection_grace_seconds)),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.max_concurrent_streams", settings.max_calls_per_connection),
        # Else calls that ended, but aren't freed yet, count, too, and honest clients' calls are dropped without a word.
        ("grpc.http.overload_protection", 0),
        # Our queues refuse what is too much, and say so; gRPC's would drop it without a word.
        ("grpc.server.max_pending_requests", _NO_LIMIT),
        ("grpc.server.max_pending_requests_hard_limit", _NO_LIMIT),
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _without_encoders(store: GalleryStore, models: Models, tell: bool) -> tuple[str, ...]:
    """The services that can't do their work because no gallery's encoder is loaded.

    ``tell``: log which encoders are missing.
    """
    loaded = {encoder.digest for encoder in models.encoders}
    lacking: dict[str, list[str]] = {}
    served = 0
    for gallery in _all_galleries(store):
        digest = gallery.active.encoder_digest
        if digest in loaded:
            served += 1
        else:
            lacking.setdefault(digest, []).append(printable(gallery.id))
    for digest, galleries in lacking.items() if tell else ():
        log.warning(
            "galleries whose encoder is not loaded: pictures for them are refused with ENCODER_NOT_LOADED",
            count=len(galleries),
            galleries=galleries[:_GALLERIES_SHOWN],
            encoder_digest=digest,
            cure=f"name its folder in --models, too{where_bundled(digest)}",
        )
    return _OF_ENCODERS if lacking and not served else ()


def _rates(thresholds: Thresholds, gallery: Gallery) -> tuple[float | None, float | None]:
    """See gallery_metrics.Rates."""
    tau = thresholds.in_force(gallery)
    expected = tau.fpir.value if tau is not None and tau.fpir is not None else None
    target = tau.target_fpir if tau is not None and tau.target_fpir is not None else gallery.target_fpir
    return expected, target


def _all_galleries(galleries: GalleryStore) -> Iterator[Gallery]:
    after: str | None = None
    while True:
        page = galleries.list_galleries(page_size=MAX_PAGE_SIZE, after=after)
        yield from page.galleries
        after = page.next_after
        if after is None:
            return
