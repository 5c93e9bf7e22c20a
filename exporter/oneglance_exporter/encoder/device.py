"""Where an encoder is trained."""

import torch

from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.errors import SettingsError

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def usable_device(settings: TrainSettings, process: int = 0) -> torch.device:
    """The device of process number ``process`` of the training. Raises SettingsError where torch can't use it."""
    if settings.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        why = f"torch {torch.__version__} is built without it"
        if torch.version.cuda is not None:
            why = f"torch {torch.__version__} finds no card that it can use, or no driver"
        raise SettingsError(f"--device cuda: {why}; nothing is trained on the CPU instead")
    cards = torch.cuda.device_count()
    if cards < settings.processes:
        raise SettingsError(f"--processes {settings.processes}: each needs a card of its own, and there are {cards}")
    return torch.device("cuda", process)
