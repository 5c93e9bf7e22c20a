"""Where a network is trained, or a picture optimised: one setting for all."""

import torch

from oneglance_exporter.errors import SettingsError
from oneglance_exporter.settings import DeviceName

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def usable_device(name: DeviceName, process: int = 0, processes: int = 1) -> torch.device:
    """The device of process number ``process`` of so many: each has a card of its own.

    Raises SettingsError where torch can't use it.
    """
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        why = f"torch {torch.__version__} is built without it"
        if torch.version.cuda is not None:
            why = f"torch {torch.__version__} finds no card that it can use, or no driver"
        raise SettingsError(f"--device cuda: {why}; nothing is computed on the CPU instead")
    cards = torch.cuda.device_count()
    if cards < processes:
        raise SettingsError(f"--processes {processes}: each needs a card of its own, and there are {cards}")
    return torch.device("cuda", process)
