"""The loaded encoders, by name and by digest."""

from collections.abc import Sequence

from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import InvalidRequest, ModelNotFound

# Bundled encoders that the server doesn't load by itself any more, by digest: galleries are bound to them.
FORMER = {"512cc1272546a56dde8cb1c3460b621ed021cf454e1b39a64abebd55542caf97": "glyphs"}


def where_bundled(name_or_digest: str) -> str:
    """What the server must load, for the message that an encoder isn't loaded; empty for one that isn't FORMER."""
    name = FORMER.get(name_or_digest, name_or_digest)
    return f" (bundled: --models must name bundled-{name}, too)" if name in FORMER.values() else ""


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
            raise ModelNotFound(f"no loaded model {shown!r}{where_bundled(shown)}", metadata={"model": shown})
        return found

    def by_digest(self, digest: str) -> Encoder | None:
        return self._by_digest.get(digest)
