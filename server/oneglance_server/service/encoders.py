"""The loaded encoders, by name and by digest."""

from collections.abc import Sequence

from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import InvalidRequest, ModelNotFound


class Encoders:
    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self._by_name = {encoder.manifest.name: encoder for encoder in encoders}
        self._by_digest = {encoder.digest: encoder for encoder in encoders}

    def all(self) -> list[Encoder]:
        """By name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def find(self, path: str, name_or_digest: str) -> Encoder:
        """A loaded encoder; an empty name is the only one loaded. Raises ModelNotFound, InvalidRequest."""
        if not name_or_digest:
            if len(self._by_name) == 1:
                return next(iter(self._by_name.values()))
            known = ", ".join(sorted(self._by_name)) or "none"
            raise InvalidRequest.field(path, f"name one of the loaded models: {known}", reason="MODEL_REQUIRED")
        found = self._by_name.get(name_or_digest) or self._by_digest.get(name_or_digest)
        if found is None:
            shown = name_or_digest if len(name_or_digest) <= 128 else name_or_digest[:125] + "..."
            raise ModelNotFound(f"no loaded model {shown!r}", metadata={"model": shown})
        return found

    def by_digest(self, digest: str) -> Encoder | None:
        return self._by_digest.get(digest)
