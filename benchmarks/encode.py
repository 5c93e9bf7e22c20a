"""What the server adds to ONNX Runtime: Encode through gRPC against the same model run bare, in one run.

Both use the same model, the same number of batches at once and one thread inside a batch. Bare means: a loop of
``session.run`` on a ready array of 64 pictures, the best a caller in process could do. The client shares the machine's
cores with the server. Rounds alternate between the two, and the ratio is the median over rounds.

Two models, because what a call costs is the same for both: the bundled encoder, and one of random weights as costly as
a small face encoder. The floor is gRPC alone: a server that answers the same requests with the same bytes, unread.
"""

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from benchmarks.load import ENCODE, Load, drive
from benchmarks.report import options, table
from oneglance.client.requests import example
from oneglance.v1.common_pb2 import Encoding
from oneglance.v1.identification_pb2 import EncodeRequest, EncodeResponse
from oneglance_core.folder import read_model_folder, write_model_folder
from oneglance_core.glyphs import alphabet
from oneglance_core.manifests import Array, EncoderManifest, InputSpec, OutputSpec, Parity
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.session import Runtime
from oneglance_server.settings import BUNDLED_MODEL
from tests.pictures import png
from tests.running import ServerProcess

BATCH = 64
ROUNDS = 3
SECONDS = 3.0
BUNDLED, COSTLY = "bundled, 95 MFLOP", "random weights, 0.6 GFLOP"


@dataclass(frozen=True)
class Case:
    """``calls`` in flight at a time, ``per_call`` pictures in each."""

    model: str
    workers: int
    content: str
    per_call: int
    calls: int


CASES = (
    *(Case(BUNDLED, 1, "tensor", 1, calls) for calls in (1, 8, 64)),
    Case(BUNDLED, 1, "PNG", 1, 64),
    Case(BUNDLED, 1, "tensor", 16, 4),
    Case(BUNDLED, 1, "PNG", 16, 4),
    *(Case(COSTLY, 1, "tensor", 1, calls) for calls in (1, 8, 64)),
    Case(COSTLY, 1, "PNG", 1, 64),
    Case(COSTLY, 2, "tensor", 1, 64),
)


def costly_model(folder: Path) -> Path:
    """A small convolution, then six 3x3 ones of 62 channels on 38 x 38 pixels: 0.6 GFLOP, weights at random."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["x"], ["nchw"], perm=[0, 3, 1, 2]),
    ]
    weights, last, channels = [], "nchw", 1
    for layer in range(7):
        shape = (62, channels, 3, 3)
        values = (rng.standard_normal(shape) / np.sqrt(9 * channels)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(values, f"w{layer}"))
        strides = [3, 3] if layer == 0 else [1, 1]
        nodes += [
            helper.make_node(
                "Conv",
                [last, f"w{layer}"],
                [f"c{layer}"],
                pads=[5, 5, 5, 5] if layer == 0 else [1] * 4,
                strides=strides,
            ),
            helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]),
        ]
        last, channels = f"r{layer}", 62
    nodes += [helper.make_node("GlobalAveragePool", [last], ["p"]), helper.make_node("Flatten", ["p"], ["encoding"])]
    graph = helper.make_graph(
        nodes,
        "costly",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["N", 105, 105, 1])],
        [helper.make_tensor_value_info("encoding", TensorProto.FLOAT, ["N", 62])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    spec = InputSpec(kind="image", shape=(105, 105, 1), dtype="uint8", color="gray")
    inputs = rng.integers(0, 256, (2, 105, 105, 1), dtype=np.uint8)
    manifest = EncoderManifest(
        name="costly",
        created="2026-01-01T00:00:00Z",
        input=spec,
        output=OutputSpec(dimension=62, unit_norm=False),
        # Its outputs mean nothing, so any will do for parity: its own, from a first run.
        parity=Parity(inputs=Array.pack(inputs), outputs=Array.pack(_run(model, inputs)), tolerance=0.1),
        model_sha256="0" * 64,
        model_bytes=1,
    )
    return write_model_folder(folder, manifest, model)


def _run(model: bytes, inputs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs: npt.NDArray[np.float32] = session.run(None, {"input": inputs})[0]
    return outputs


def _echo(ready: Connection) -> None:
    answer = EncodeResponse(encodings=[Encoding(values=[0.1] * 512, encoder_digest="0" * 64)]).SerializeToString()

    async def answer_all(request: bytes, context: object) -> bytes:
        return answer

    async def serve() -> None:
        server = grpc.aio.server()
        service, _, method = ENCODE[1:].partition("/")
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer_all)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        ready.send(port)
        await server.wait_for_termination()

    asyncio.run(serve())


def floor(requests: list[EncodeRequest], calls: int) -> Load:
    """What gRPC alone does with these requests."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_echo, args=(there,), daemon=True)
    process.start()
    try:
        return drive(f"127.0.0.1:{here.recv()}", ENCODE, requests, in_flight=calls, seconds=SECONDS)
    finally:
        process.kill()
        process.join()


def bare(encoder: Encoder, inputs: npt.NDArray[np.uint8], workers: int, seconds: float) -> float:
    """Pictures per second of ``workers`` threads that each run batches of 64 back to back."""
    until = time.perf_counter() + seconds

    def loop(_: int) -> int:
        done = 0
        while time.perf_counter() < until:
            encoder.encode(inputs)
            done += len(inputs)
        return done

    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        done = sum(pool.map(loop, range(workers)))
    return done / (time.perf_counter() - started)


def main() -> None:
    options(__doc__).parse_args()
    drawings = [subject.drawings[0] for subject in alphabet(seed=1, characters=BATCH, drawings=1)]
    inputs = np.stack(drawings)[..., np.newaxis]
    contents = {"tensor": [example(row) for row in inputs], "PNG": [example(png(row)) for row in inputs]}

    def requests(content: str, per_call: int) -> list[EncodeRequest]:
        examples = contents[content]
        return [EncodeRequest(examples=examples[i : i + per_call]) for i in range(0, BATCH, per_call)]

    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folders = {BUNDLED: BUNDLED_MODEL, COSTLY: costly_model(scratch / "costly")}
        rows: list[tuple[object, ...]] = []
        for case in CASES:
            folder = folders[case.model]
            encoder = Encoder(read_model_folder(folder), Runtime("cpu", 1, 1))
            encoder.warm_up(BATCH)
            data_dir = scratch / f"data{len(rows)}"
            with ServerProcess(data_dir, models=folder, encoder_workers=case.workers, log_level="error") as server:
                ratios, loads, bares = [], [], []
                for _ in range(ROUNDS):
                    bares.append(bare(encoder, inputs, case.workers, SECONDS / 2))
                    sent = requests(case.content, case.per_call)
                    loads.append(drive(server.address, ENCODE, sent, in_flight=case.calls, seconds=SECONDS, go_on=True))
                    ratios.append(loads[-1].per_second * case.per_call / bares[-1])
            middle = sorted(loads, key=lambda load: load.per_second)[ROUNDS // 2]
            rows.append(
                (case.model, case.workers, case.content, case.per_call, case.calls, statistics.median(bares),
                 middle.per_second * case.per_call, statistics.median(ratios), middle.refused, middle.p50_ms,
                 middle.p99_ms)
            )  # fmt: skip
    table(
        "Encode: gRPC against bare ONNX Runtime",
        ("model", "workers of both", "input", "pictures a call", "calls in flight", "bare pictures/s",
         "gRPC pictures/s", "ratio", "refused", "p50 ms", "p99 ms"),
        rows,
    )  # fmt: skip
    table(
        "The floor: gRPC alone, the same requests answered unread",
        ("calls in flight", "calls/s", "p50 ms", "p99 ms", "refused"),
        [(calls, *vars(floor(requests("tensor", 1), calls)).values()) for calls in (1, 8, 64)],
    )


if __name__ == "__main__":
    main()
