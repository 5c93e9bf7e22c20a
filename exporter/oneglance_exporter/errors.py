"""What the exporter raises when the user's input can't be used.

ExporterError
├── SettingsError     an option, or options that don't go together
├── DataError         a path, a picture or a set of pictures that can't be trained on or measured
├── RunError          a run folder that is missing, damaged, or belongs to other settings
├── WeightsError      weights to import that are missing, other than expected, or damaged
├── DivergedError     a training or an optimisation whose loss isn't a finite number any more
└── ExportError       a graph that doesn't answer as the network it was made from
    └── PrecisionError    in fewer bits it costs more accuracy than is allowed

A model folder that can't be read raises ``oneglance_core.manifests.ModelFolderError``. The CLI prints
either as one line and ends with status 1.
"""


class ExporterError(Exception):
    """Any failure that the user can understand and mend."""


class SettingsError(ExporterError):
    """Raised when an option's value is out of range, or two options contradict each other."""


class DataError(ExporterError):
    """Raised when pictures are missing, undecodable, or too few; the message names the file."""


class RunError(ExporterError):
    """Raised when a run folder can't be read, or would be overwritten."""


class ExportError(ExporterError):
    """Raised when a graph is invalid, or ONNX Runtime doesn't answer as the network it was made from."""


class PrecisionError(ExportError):
    """Raised when an encoder in fewer bits makes more errors than the user allows; the message has both figures."""


class WeightsError(ExporterError):
    """Raised when weights to import can't be found, have another SHA-256, or can't be parsed."""


class DivergedError(ExporterError):
    """Raised when a loss becomes, or stays, NaN or infinite."""
