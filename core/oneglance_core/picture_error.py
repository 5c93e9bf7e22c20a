"""Why a picture can't be used."""


class PictureError(ValueError):
    """A picture that can't be used. ``reason`` is stable (docs/errors.md)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
