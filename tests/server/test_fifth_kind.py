"""What a new kind of model needs: a manifest, an engine, and a line in each of the two registries."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter

from oneglance import Client
from oneglance_core import folder as folders
from oneglance_core.manifests import KINDS, EncoderManifest
from oneglance_server.loading import ENGINES
from tests.fifth_kind import Counter, CounterManifest, counter_model
from tests.models import pixels_model
from tests.running import server_thread
from tests.server.test_lifecycle import serve_and_fail


def test_every_kind_that_can_be_read_can_be_loaded() -> None:
    assert set(ENGINES) == set(KINDS)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: Any = Annotated[EncoderManifest | CounterManifest, Field(discriminator="kind")]
    monkeypatch.setattr(folders, "_ANY_MANIFEST", TypeAdapter(kinds))
    engines: dict[Any, Any] = ENGINES
    monkeypatch.setitem(engines, CounterManifest, Counter)


@pytest.mark.usefixtures("registered")
def test_a_registered_kind_is_loaded_checked_and_listed(tmp_path: Path) -> None:
    models = (counter_model(tmp_path / "counter"), pixels_model(tmp_path / "pixels"))
    with server_thread(data_dir=tmp_path / "data", models=models) as server, Client(server.address) as client:
        assert {model.name: model.kind for model in client.list_models()} == {"counter": "counter", "pixels": "encoder"}
        described = client.describe_model("counter")
        assert described.model.execution_provider == "CPUExecutionProvider"
        assert CounterManifest.model_validate_json(described.manifest_json).digest == described.model.digest


def test_a_kind_that_is_not_registered_is_refused(tmp_path: Path) -> None:
    model = counter_model(tmp_path / "counter")
    said = serve_and_fail("--models", str(model), "--data-dir", str(tmp_path / "data"))
    assert "'counter' found using 'kind' does not match any of the expected tags: 'encoder', 'detector'" in said
