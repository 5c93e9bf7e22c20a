"""The examples work: the Node client against a real server; signals and volumes, at a tiny size."""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.models import pixels_model
from tests.pictures import picture, png
from tests.running import server_thread
from tests.sounds import soundfile

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed")
def test_node(tmp_path: Path) -> None:
    # A copy beside a copy of the contract, so that nothing is installed into the checkout.
    app = tmp_path / "examples" / "node"
    shutil.copytree(ROOT / "examples/node", app, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(ROOT / "proto", tmp_path / "proto", ignore=shutil.ignore_patterns("__pycache__"))
    install = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund"], cwd=app, capture_output=True, text=True, timeout=900
    )
    if install.returncode:
        pytest.skip(f"npm could not install the example's packages: {install.stderr.strip()[-300:]}")
    for i in (1, 2):
        (tmp_path / f"{i}.png").write_bytes(png(picture(i)))
    with server_thread(data_dir=tmp_path / "data", models=(pixels_model(tmp_path / "pixels"),)) as server:

        def node(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = ["node", "identify.js", server.address, *arguments]
            return subprocess.run(command, cwd=app, capture_output=True, text=True, timeout=900)

        one, two = str(tmp_path / "1.png"), str(tmp_path / "2.png")
        ran = node("node", one, one, two)
        assert ran.returncode == 0, ran.stderr
        first, second = map(json.loads, ran.stdout.splitlines())
        assert first == {"probe": "1.png", "decision": "DECISION_IDENTIFIED", "subject_id": "1", "distance": 0}
        assert second["distance"] > 0.01
        refused = node("node", one)
        assert refused.returncode == 1
        assert refused.stderr.strip() == "ALREADY_EXISTS GALLERY_EXISTS"


@pytest.mark.parametrize("kind", ["voices", "solids"])
def test_one_shot(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if kind == "voices":
        soundfile()
    example = runpy.run_path(str(ROOT / "examples" / "one_shot" / "one_shot.py"))
    example["main"]([kind, "--out", str(tmp_path / "out"), "--subjects", "8", "--others", "5", "--steps", "3"])
    told = capsys.readouterr().out
    assert re.search(r"^tau \d", told, re.MULTILINE)
    assert re.search(r"^5 enrolled from one example each: \d+ nearest, \d+ identified$", told, re.MULTILINE)
    assert re.search(r"^5 strangers: \d+ identified$", told, re.MULTILINE)
