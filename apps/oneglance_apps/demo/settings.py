"""What the demo is told. The command line is made from it by ``oneglance_core.flags``."""

import shlex
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from oneglance_core.flags import Flag
from oneglance_core.frozen import Frozen

FACES = Path("models/faces")  # where the documents have `oneglance-exporter import dlib-faces` write


class DemoSettings(Frozen):
    images: Annotated[Path | None, Flag(metavar="DIR", default="characters are drawn")] = Field(
        None, description="your own pictures, a folder per subject"
    )
    models: Annotated[
        tuple[Path, ...], Flag(separator=":", default=f"the bundled models, and for --images {FACES} where it is")
    ] = Field(
        (),
        description="model folders of the server, or folders of them, colon-separated; the encoder that fits is used",
    )
    out: Annotated[Path, Flag(metavar="FILE")] = Field(Path("oneglance-demo.html"), description="the page to write")
    subjects: int = Field(200, ge=1, description="subjects to enroll, at most")
    strangers: int = Field(100, ge=1, description="strangers, at most")
    seed: int = Field(0, ge=0, description="of drawings and random choices: another seed, another run")
    fpir: Annotated[float, Flag(metavar="SHARE")] = Field(
        0.05, gt=0, lt=1, description="strangers to let in, to set tau by"
    )
    keep_data: Annotated[Path | None, Flag(metavar="DIR")] = Field(
        None, description="keep the server's data in this new folder"
    )

    @field_validator("models", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value

    @property
    def served(self) -> tuple[Path, ...]:
        """The model folders of the server; none: the bundled ones."""
        if self.models or self.images is None or not FACES.is_dir():
            return self.models
        return (Path("bundled"), FACES)

    @property
    def command(self) -> str:
        """The command line that repeats this run."""
        words: list[object] = ["oneglance", "demo"]
        words += ["--images", self.images] if self.images else []
        words += ["--models", ":".join(map(str, self.served))] if self.served else []
        words += ["--subjects", self.subjects, "--strangers", self.strangers, "--seed", self.seed]
        words += ["--fpir", self.fpir]
        return shlex.join(map(str, words))
