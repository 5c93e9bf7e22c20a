"""The model card: what the manifest says, and what isn't known; written beside it."""

from pathlib import Path

import pytest

from oneglance_core.folder import CARD_FILE, read_any_model_folder, read_model_folder, write_model_folder
from oneglance_core.model_card import model_card
from oneglance_exporter.uprightness import train as uprightness
from oneglance_server.settings import BUNDLED_MODEL
from tests.models import pixels_model

BUNDLED = (
    BUNDLED_MODEL,
    BUNDLED_MODEL.parent / "glyphs",
    BUNDLED_MODEL.parent / "stylizer",
    Path(uprightness.__file__).parents[1] / "models/uprightness",
)


def test_it_is_written_with_the_manifest_and_again_when_that_changes(tmp_path: Path) -> None:
    folder = read_model_folder(pixels_model(tmp_path / "pixels"))
    assert (folder.path / CARD_FILE).read_text() == model_card(folder.manifest)
    assert folder.digest in model_card(folder.manifest)
    changed = folder.manifest.model_copy(update={"description": "Pixels, as they are"})
    write_model_folder(folder.path, changed, folder.model)
    assert "Pixels, as they are" in (folder.path / CARD_FILE).read_text()


def test_a_folder_from_before_there_were_cards_is_read_and_gets_one(tmp_path: Path) -> None:
    folder = read_model_folder(pixels_model(tmp_path / "pixels"))
    (folder.path / CARD_FILE).unlink()
    again = read_model_folder(folder.path)
    write_model_folder(folder.path, again.manifest, again.model)
    assert (folder.path / CARD_FILE).exists()


def test_it_tells_what_was_measured_and_what_was_not(tmp_path: Path) -> None:
    manifest = read_model_folder(BUNDLED_MODEL).manifest
    assert manifest.threshold is not None
    told = model_card(manifest)
    assert f"FPIR | {100 * manifest.threshold.fpir:.2f} %" in told
    assert manifest.threshold.data in told
    assert manifest.license in told
    never = model_card(manifest.model_copy(update={"threshold": None, "false_positives": None}))
    assert "it was never calibrated" in never
    assert "It has no threshold of ours" in never


def test_what_a_manifest_says_stays_in_its_cell(tmp_path: Path) -> None:
    folder = read_model_folder(pixels_model(tmp_path / "pixels"))
    hostile = folder.manifest.model_copy(update={"license": "MIT | <script>\n# Heading"})
    (line,) = (line for line in model_card(hostile).splitlines() if line.startswith("| licence"))
    assert line == "| licence | MIT \\| &lt;script> # Heading |"


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.name)
def test_the_bundled_models_have_theirs(path: Path) -> None:
    assert (path / CARD_FILE).read_text() == model_card(read_any_model_folder(path).manifest)
