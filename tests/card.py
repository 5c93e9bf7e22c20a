"""A real graphics card, for tests that are marked ``gpu``."""

import faiss
import onnxruntime
import pytest

HAS_CARD = faiss.get_num_gpus() > 0 and "CUDAExecutionProvider" in onnxruntime.get_available_providers()

needs_card = [pytest.mark.gpu, pytest.mark.skipif(not HAS_CARD, reason="needs an NVIDIA GPU and oneglance[gpu]")]
