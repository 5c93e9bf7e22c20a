"""oneglance[gpu] as it is installed, on a machine without a card: it loads, has what we call, and fails closed with
the cause.

The wheels take 4 GB, so that these tests run only with ONEGLANCE_GPU_PYTHON, the Python of an environment that has
them.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.card import HAS_CARD
from tests.waiting import PATIENCE_SECONDS

PYTHON = os.environ.get("ONEGLANCE_GPU_PYTHON", "")
pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="needs ONEGLANCE_GPU_PYTHON, a Python with oneglance[gpu]"),
    pytest.mark.skipif(HAS_CARD, reason="there is a card"),
]


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PYTHON, "-c", code, *args], capture_output=True, text=True, timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize("order", ["faiss, onnxruntime", "onnxruntime, faiss"])
def test_both_libraries_live_in_one_process(order: str, models: tuple[Path, Path]) -> None:
    """CUDA 12 comes with faiss-gpu, CUDA 13 with onnxruntime-gpu."""
    code = f"""
import {order}, sys
import numpy as np
assert "CUDAExecutionProvider" in onnxruntime.get_available_providers()
onnxruntime.preload_dlls()
assert faiss.get_num_gpus() == 0
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(None, {{"input": np.zeros((2, 8, 8, 1), np.uint8)}})
index = faiss.IndexFlatL2(4)
index.add(np.eye(4, dtype=np.float32))
assert index.search(np.eye(4, dtype=np.float32), 1)[1].ravel().tolist() == [0, 1, 2, 3]
"""
    ran = python(code, str(models[0] / "model.onnx"))
    assert ran.returncode == 0, ran.stderr


def test_what_we_call_is_there() -> None:
    code = """
import faiss, onnxruntime, inspect
from oneglance_index.search.cuda import load_runtime
args = faiss.GpuDistanceParams()
for name in ("metric", "k", "dims", "vectors", "vectorType", "numVectors", "vectorNorms", "queries", "queryType",
             "numQueries", "outDistances", "outIndices", "outIndicesType", "device", "use_cuvs"):
    assert hasattr(args, name), name
args.vectors = args.vectorNorms = faiss.cast_integer_to_float_ptr(4096)
assert int(args.vectorNorms) == 4096
args.vectorType, args.outIndicesType = faiss.DistanceDataType_F32, faiss.IndicesDataType_I64
faiss.bfKnn, faiss.StandardGpuResources.setTempMemory
runtime = load_runtime()
for name in ("cudaSetDevice", "cudaMalloc", "cudaFree", "cudaMemcpyAsync", "cudaStreamSynchronize", "cudaStreamQuery",
             "cudaMemGetInfo", "cudaGetErrorString", "cudaGetLastError"):
    getattr(runtime, name)
assert "enable_fallback" in inspect.getsource(onnxruntime.InferenceSession.__init__)
onnxruntime.create_and_register_allocator_v2, onnxruntime.OrtArenaCfg({"max_mem": 1, "arena_extend_strategy": 1})
onnxruntime.InferenceSession.get_provider_graph_assignment_info
"""
    ran = python("import faiss\nfaiss.get_num_gpus()\n" + code)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("device", ["cuda", "cuda:9"])
def test_a_server_says_why_it_can_not_start(device: str, models: tuple[Path, Path], tmp_path: Path) -> None:
    command = [PYTHON, "-m", "oneglance_apps.cli", "serve", "--listen", "127.0.0.1:0", "--device", device]
    command += ["--models", str(models[0]), "--data-dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert device in ended.stderr
    assert "there is no NVIDIA driver" in ended.stderr


@pytest.mark.parametrize("device", ["cuda", "cuda:9"])
def test_an_index_says_why_it_can_not_be_opened(device: str, tmp_path: Path) -> None:
    code = "import sys; from oneglance_index import LocalGalleries as G; G.open(sys.argv[1], device=sys.argv[2])"
    ran = python(code, str(tmp_path), device)
    assert "DeviceUnavailable" in ran.stderr
    assert "there is no NVIDIA driver" in ran.stderr
