"""``python -m oneglance_exporter.encoder.worker NUMBER FOLDER``: encode a share of each batch, as ``encoder.workers``
has it begun.

On standard input it is given the checkpoint, without weights. When that ends, process 0 has: so has this one.
"""

import io
import os
import sys
import threading
from pathlib import Path

import torch

from oneglance_exporter.device import usable_device
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.learning import learner_on
from oneglance_exporter.encoder.pieces import Pieces
from oneglance_exporter.encoder.shares import READY, Shares, join


def main() -> None:
    """Ends by its end only, or that of standard input."""
    number, folder = int(sys.argv[1]), Path(sys.argv[2])
    ready = os.dup(1)
    os.dup2(2, 1)  # a network of the user's own may print
    length = int.from_bytes(sys.stdin.buffer.read(8), "little")
    content = torch.load(io.BytesIO(sys.stdin.buffer.read(length)), weights_only=True)
    threading.Thread(target=_end_with_process_0, daemon=True).start()
    checkpoint = EncoderCheckpoint.of(content)
    settings = checkpoint.settings
    torch.set_num_threads(settings.threads)
    device = usable_device(settings.device, number, settings.processes)
    encoder = learner_on(checkpoint, device).encoder
    os.write(ready, READY)
    os.close(ready)
    join(folder, number, settings.processes, device)
    *sizes, channels = checkpoint.spec.shape
    shares = Shares(encoder, device, settings.processes)
    while True:
        step, inputs = shares.take_inputs(number, (channels, *sizes))
        encoder.zero_grad(set_to_none=True)
        own = Pieces(encoder, inputs, settings, step, number * settings.accumulate)
        own.backward(shares.give_encodings(own.encodings))
        shares.add_up()


def _end_with_process_0() -> None:
    while os.read(0, 1):  # not through sys.stdin, whose lock the end of this process would wait for
        pass
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # whatever the network, torch or the card says
        line = next((line for line in str(error).splitlines() if line.strip()), "")
        print(f"oneglance-exporter: process {sys.argv[1]}: {type(error).__name__}: {line}", file=sys.stderr)
        sys.exit(1)
