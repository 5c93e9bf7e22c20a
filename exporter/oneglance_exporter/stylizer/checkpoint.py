"""The checkpoint of a stylizer's training."""

from dataclasses import dataclass
from typing import ClassVar, Self

from oneglance_core.manifests import Style
from oneglance_exporter.stylizer.network import Stylizer
from oneglance_exporter.stylizer.settings import StylizerSettings
from oneglance_exporter.training.checkpoint import Checkpoint, State


@dataclass
class StylizerCheckpoint(Checkpoint):
    """A stylizer's training between two steps.

    fixed: the first ``fixed`` styles are another run's and aren't trained. network: the loss network's description and
    SHA-256. scale: for each style that is trained, the moving mean of its J, which the loss is divided by. betas: for
    all styles. before: steps of the runs it began with. photos: how many it was trained on.
    """

    FORMAT: ClassVar[str] = "oneglance-stylizer-run/1"
    SETTINGS: ClassVar[type[StylizerSettings]] = StylizerSettings
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"styles", "photos", "loss_network", "device", "threads", "tensorboard", "checkpoint_seconds"}
    )

    settings: StylizerSettings
    styles: tuple[Style, ...]
    fixed: int
    network: tuple[str, str]
    scale: list[float]
    betas: list[float]
    before: int = 0
    photos: int = 0

    def content(self) -> State:
        return {**super().content(), "styles": [style.model_dump() for style in self.styles]}

    @classmethod
    def of(cls, content: State) -> Self:
        return super().of({**content, "styles": tuple(Style(**style) for style in content["styles"])})

    def stylizer(self) -> Stylizer:
        """The averaged network, in eval mode."""
        model = Stylizer(len(self.styles))
        model.load_state_dict(self.average)
        return model.eval()
