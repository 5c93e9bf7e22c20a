"""`oneglance-exporter calibrate` on several data sets: evidence for each, and no FNIR that stands for all."""

import shutil
from pathlib import Path

import pytest

from oneglance_core.folder import read_model_folder
from oneglance_core.glyphs import alphabet
from oneglance_exporter.cli.main import main
from oneglance_server.settings import BUNDLED_MODEL
from tests.pictures import png


def test_no_single_fnir_stands_for_several_data_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(("one", "two")):
        for character in alphabet(seed, 4, 2):
            folder = tmp_path / name / "letters" / character.name
            folder.mkdir(parents=True)
            for i, drawing in enumerate(character.drawings):
                (folder / f"{i}.png").write_bytes(png(drawing))
    model = tmp_path / "model"
    shutil.copytree(BUNDLED_MODEL, model)
    both = [str(tmp_path / "one"), str(tmp_path / "two")]
    for data, told in ((both, False), (both[:1], True)):
        assert main(["calibrate", "--model", str(model), "--data", *data, "--fpir", "0.2"]) == 0
        manifest = read_model_folder(model).manifest
        assert manifest.threshold is not None
        assert manifest.false_positives is not None
        assert ((manifest.threshold.fnir is not None), (manifest.threshold.mated_probes > 0)) == (told, told)
        assert {one.data for one in manifest.false_positives.evidence} == {Path(path).name for path in data}
        first, *rest = capsys.readouterr().out.splitlines()
        assert first.startswith("tau ")
        assert "FNIR" not in first
        for path in data:
            assert any(line.startswith(f"  {Path(path).name}, 2 enrolled from 1 each, by mean: FPIR ") for line in rest)
