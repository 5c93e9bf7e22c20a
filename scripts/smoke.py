"""Does an installation work? A server of the bundled models, the client, the command line, every kind of picture.

Needs no test tools: `make floors` runs it with the lowest versions that pyproject.toml allows.
"""

import asyncio
import io
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from oneglance import AsyncClient, photo
from oneglance_core.glyphs import alphabet
from oneglance_server.app import Server
from oneglance_server.settings import load_settings

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")


def encoded(drawing: np.ndarray, format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(drawing).save(buffer, format)
    return buffer.getvalue()


def heic(drawing: np.ndarray) -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(drawing)).save(buffer, quality=95)
    return buffer.getvalue()


async def main() -> None:
    people = list(alphabet(seed=1, characters=12, drawings=2))
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"listen": "127.0.0.1:0", "data_dir": Path(folder) / "data", "metrics": "127.0.0.1:0"})
        async with Server(settings) as server, AsyncClient(server.address) as client:
            await client.wait_until_serving()
            await client.create_gallery("letters", fusion="nearest")
            for i, person in enumerate(people):
                await client.enroll("letters", f"s{i}", encoded(person.drawings[0], "PNG"), accept_breaches=True)
            for format in FORMATS:
                found = await client.identify("letters", encoded(people[3].drawings[0], format))
                assert found.results[0].candidates[0].subject_id == "s3", format
            for probe in (heic(people[3].drawings[0]), encoded(people[3].drawings[0], "JPEG")[:-2]):
                found = await client.identify("letters", probe)
                assert found.results[0].candidates[0].subject_id == "s3"
            painted = await client.stylize(photo(np.zeros((64, 64, 3), np.uint8), order="RGB"), "oil")
            assert Image.open(io.BytesIO(painted.image)).size == (64, 64)
            command = [sys.executable, "-m", "oneglance_apps.cli", "list-galleries", "--server", server.address]
            listed = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
            assert "letters" in listed.stdout, listed.stderr
    packages = ("numpy", "faiss-cpu", "onnxruntime", "grpcio", "protobuf", "pillow", "pydantic", "pydantic-settings")
    print("works with", ", ".join(f"{name} {version(name)}" for name in packages))


if __name__ == "__main__":
    asyncio.run(main())
