"""What this server is and can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from oneglance_core.fusion import FUSIONS
from oneglance_core.pictures import FORMATS
from oneglance_core.sounds import SOUND_SUFFIXES
from oneglance_index import SCHEMA_VERSION
from oneglance_server.calls import Call
from oneglance_server.settings import Settings


@dataclass(frozen=True, slots=True)
class About:
    version: str
    schema_version: int
    device: str
    capabilities: Sequence[str]
    settings: Settings


class AboutService:
    """``kinds``: of the models that are loaded. ``device``: what galleries are searched on."""

    def __init__(
        self, settings: Settings, kinds: Sequence[str], finds_faces: bool, backs_up: bool, device: str
    ) -> None:
        can = {
            "encode": "encoder" in kinds,
            "faces": finds_faces,
            "stylize": "stylizer" in kinds,
            "stylize:picture": "style-reader" in kinds,
            "calibrate": "encoder" in kinds,
            "backup": backs_up,
            "callers": bool(settings.policy),
            "audit": settings.audit != "off",
        }
        words = [
            *(word for word, true in can.items() if true),
            *(f"fusion:{rule}" for rule in FUSIONS),
            *(f"picture:{name}" for name in FORMATS),
            *(f"sound:{suffix.removeprefix('.').upper()}" for suffix in SOUND_SUFFIXES),
        ]
        self._about = About(version("oneglance"), SCHEMA_VERSION, device, words, settings)

    def get(self, call: Call) -> About:
        call.need_any()
        return self._about
