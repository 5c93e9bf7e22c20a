"""What fewer bits gain and cost: encoders in float32, int8 and fp16, their size, speed and accuracy in one table.

    python -m benchmarks.shipping --encoder MODEL_DIR DATA [RANGES] [--encoder ...]

DATA: subjects that the encoder wasn't trained on; accuracy is measured on them, each precision beside float32 on the
same examples, with 95 % intervals of the difference over subjects. RANGES: other examples, which set the ranges of
int8; without, those of DATA do. Speed: ONNX Runtime on one thread, precisions in turn; medians.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.precision import ONE_THREAD, Encode, milliseconds
from benchmarks.report import table
from oneglance_core.folder import read_model_folder
from oneglance_exporter.api import quantize
from oneglance_exporter.encoder.encoded import Reading
from oneglance_exporter.errors import ExportError
from oneglance_exporter.quantize.settings import QuantizeSettings
from oneglance_server.engines.encoder import Encoder

PRECISIONS = ("int8", "fp16")
BATCHES = (1, 32)
FIGURES = ("EER", "FNIR at FPIR 1 %")


def rows_of(model: Path, data: Path, ranges: Sequence[Path], scratch: Path) -> list[tuple[object, ...]]:
    """One for each precision."""
    ways: dict[str, Encode] = {"fp32": Encoder(read_model_folder(model), ONE_THREAD).encode}
    told: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    for precision in PRECISIONS:
        out = scratch / f"{model.name}-{precision}"
        try:
            made = quantize(
                model,
                data,
                out,
                precision=precision,
                most_lost=1.0,
                ranges=tuple(map(str, ranges)),
                finders=model.parent,
            )
        except ExportError as error:
            refused[precision] = str(error).partition(": ")[2]
            continue
        told[precision] = made.training["quantized"]
        ways[precision] = Encoder(read_model_folder(out), ONE_THREAD).encode
    reading = Reading(model, [data], model.parent, least=1)
    _, examples = reading.examples(lambda line: None)
    took = {batch: milliseconds(ways, examples.inputs, batch) for batch in BATCHES}
    size = len(read_model_folder(model).model)
    subjects = next(iter(told.values()))["cost"]["subjects"] if told else ""
    speeds = [f"{took[batch]['fp32']:.2f}" for batch in BATCHES]
    first = next(iter(told.values())) if told else None
    figures = [_share(_figure(first, name)["first"]) if first else "" for name in FIGURES]
    rows: list[tuple[object, ...]] = [
        (model.name, "fp32", f"{size / 1e6:.2f}", *speeds, *figures, f"{subjects} subjects")
    ]
    for precision in PRECISIONS:
        if precision in refused:
            rows.append((model.name, precision, "", "", "", "", "", f"refused: {refused[precision]}"))
            continue
        done = told[precision]
        ratios = [f"{took[batch]['fp32'] / took[batch][precision]:.2f} times" for batch in BATCHES]
        costs = [_points(_figure(done, name)["difference"]) for name in FIGURES]
        lost = _figure(done, "EER")["difference"]["value"]
        allowed = QuantizeSettings().most_lost
        verdict = "written" if lost <= allowed else f"refused: more than {100 * allowed:g} point of EER"
        rows.append((model.name, precision, f"{done['bytes'] / 1e6:.2f}", *ratios, *costs, verdict))
    return rows


def _figure(done: dict[str, Any], name: str) -> dict[str, Any]:
    """The first of that name: FNIR is of one example each."""
    return next(one for one in done["cost"]["differences"] if one["name"].startswith(name))


def _share(told: dict[str, float]) -> str:
    return f"{100 * told['value']:.2f} % ({100 * told['low']:.2f} to {100 * told['high']:.2f})"


def _points(told: dict[str, float]) -> str:
    return f"{100 * told['value']:+.2f} ({100 * told['low']:+.2f} to {100 * told['high']:+.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", nargs="+", action="append", required=True, type=Path, metavar="PATH")
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (model, data, *ranges) in enumerate(options.encoder):
            place = Path(scratch) / str(number)
            place.mkdir()
            rows += rows_of(model, data, ranges, place)
            print(f"{model.name}: done", flush=True)
    table(
        "Encoders in fewer bits; EER and FNIR: that of fp32, then points more, with 95 % intervals",
        ("encoder", "bits", "MB", *(f"ms at batch {batch}, then gain" for batch in BATCHES), *FIGURES, "by default"),
        rows,
    )


if __name__ == "__main__":
    main()
