import pytest

from oneglance_server.logs import configure_logs


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    configure_logs("text", "error")
