"""On a real graphics card: the models as on the CPU, and what happens when the card fails for good."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from oneglance_core.folder import read_any_model_folder, read_model_folder
from oneglance_core.manifests import StylizerManifest
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.settings import BUNDLED_MODEL, BUNDLED_STYLIZER, Settings
from tests.card import needs_card
from tests.waiting import PATIENCE_SECONDS

pytestmark = needs_card


def test_an_encoder_at_every_size_of_a_batch() -> None:
    """Loading compares each prepared size with the CPU; here all sizes in between, from two threads."""
    folder = read_model_folder(BUNDLED_MODEL)
    on_card, on_cpu = (Encoder.load(folder, Settings(device=device)) for device in ("cuda", "cpu"))
    sample = folder.manifest.parity.inputs.unpack()
    tolerance = folder.manifest.vectors().tolerance

    def apart(size: int) -> float:
        inputs = np.roll(sample, size, axis=0)[np.arange(size) % len(sample)]
        return float(np.abs(on_card.encode(inputs) - on_cpu.encode(inputs)).max())

    with ThreadPoolExecutor(2) as threads:
        assert max(threads.map(apart, [1, 64, 2, 33, 8, 9, 64, 1, 31, 32, 63, 70])) <= tolerance


def test_a_stylizer_paints_as_on_the_cpu() -> None:
    folder = read_any_model_folder(BUNDLED_STYLIZER).of(StylizerManifest)
    on_card, on_cpu = (Stylizer.load(folder, Settings(device=device)) for device in ("cuda", "cpu"))
    weights = np.eye(len(folder.manifest.styles), dtype=np.float32)[0]
    for side in (64, 192):
        picture = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
        one, other = on_card.run(picture, weights), on_cpu.run(picture, weights)
        assert np.abs(one[0] - other[0]).max() <= folder.manifest.vectors().tolerance


BREAK_THE_CARD = """
import ctypes, os, sys
from pathlib import Path
import numpy as np
from oneglance_core.folder import read_model_folder
from oneglance_index import DeviceLost, LocalGalleries, Search
from oneglance_server.engines.encoder import Encoder
from oneglance_server.settings import BUNDLED_MODEL, Settings

folder = read_model_folder(BUNDLED_MODEL)
encoder = Encoder.load(folder, Settings(device="cuda"))
galleries = LocalGalleries.open(Path(sys.argv[1]), device="cuda")
galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
galleries.enroll("g", "s", np.ones((3, 8), np.float32)).result()
search = [Search(np.ones((1, 8), np.float32), "e", 1)]
assert galleries.search_many("g", search)[0].candidates[0][0].subject_id == "s"
blas, handle, two = ctypes.CDLL("libcublas.so.13"), ctypes.c_void_p(), ctypes.c_float(2)
assert blas.cublasCreate_v2(ctypes.byref(handle)) == 0
blas.cublasSscal_v2(handle, 1000, ctypes.byref(two), ctypes.c_void_p(4096), 1)  # writes where nothing is
ctypes.CDLL("libcudart.so.13").cudaDeviceSynchronize()
sample = folder.manifest.parity.inputs.unpack()
for what in (lambda: galleries.search_many("g", search), lambda: encoder.encode(sample)):
    try:
        what()
    except DeviceLost as error:
        print("DeviceLost:", error, flush=True)
print("trouble:", galleries.trouble(), "|", encoder.trouble, flush=True)
galleries.enroll("g", "t", np.zeros((1, 8), np.float32) + 2)
galleries.close()
os._exit(0)  # FAISS would end the process otherwise
"""


def test_a_card_that_fails_is_told_by_index_and_models(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", BREAK_THE_CARD, str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("DeviceLost:") == 2, ran.stdout + ran.stderr
    assert "trouble: None" not in ran.stdout
    assert "| None" not in ran.stdout
