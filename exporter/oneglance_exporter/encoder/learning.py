"""A Learner as it is trained: on its device, in the layout in memory that is fastest, with its fixed layers fixed."""

import torch

from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint, Learner
from oneglance_exporter.encoder.optimizer import fix_layers


def learner_on(checkpoint: EncoderCheckpoint, device: torch.device) -> Learner:
    """A new one, whose weights don't matter yet. Raises RunError as ``EncoderCheckpoint.learner``."""
    learner = checkpoint.learner().to(device)
    if checkpoint.spec.axes == 2:
        learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    fix_layers(learner, checkpoint.settings)
    return learner
