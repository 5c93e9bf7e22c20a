"""From data to answers, for signals and for volumes: python examples/one_shot/one_shot.py voices|solids [--out DIR]

Invents subjects, trains an encoder on some of them, exports it, calibrates its threshold on others, starts a server,
enrolls others again, each from one example, and asks the server who is who. Minutes, on one core.
"""

import argparse
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance import Client
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED
from oneglance_apps.server_process import ServerProcess
from oneglance_core.solids import cabinet
from oneglance_core.voices import RATE, voices
from oneglance_exporter.api import calibrate, export, train

HERE = Path(__file__).parent
SETTINGS: dict[str, dict[str, Any]] = {
    "voices": {
        "input": "signal",
        "sample_rate": RATE,
        "size": (8000,),
        "window_step": 4000,
        "network": f"{HERE / 'networks.py'}:sounds",
        "steps": 300,
        "learning_rate": 2e-3,
    },
    "solids": {"input": "volume", "widths": (8, 16, 32), "steps": 300},
}
TRAINED, OTHERS = 200, 20  # subjects


def write_voices(folder: Path, seed: int, count: int, each: int) -> None:
    """SUBJECT/0.wav, 1.wav, ..."""
    for voice in voices(seed, count, each):
        (folder / voice.name).mkdir(parents=True)
        for number, utterance in enumerate(voice.utterances):
            with wave.open(str(folder / voice.name / f"{number}.wav"), "wb") as file:
                file.setparams((1, 2, RATE, 0, "NONE", ""))
                file.writeframes((utterance * 32767).astype("<i2").tobytes())


def write_solids(folder: Path, seed: int, count: int, each: int) -> None:
    """SUBJECT/0.npy, 1.npy, ..."""
    for number in range(0, count, 20):
        for solid in cabinet(seed + number, min(20, count - number), each):
            (folder / solid.name).mkdir(parents=True)
            for i, volume in enumerate(solid.volumes):
                np.save(folder / solid.name / f"{i}.npy", volume)


def subjects(folder: Path) -> Iterator[tuple[str, list[Path | npt.NDArray[Any]]]]:
    """(name, its examples), as the client takes them: the path of a sound, or an array."""
    for place in sorted(folder.iterdir()):
        files = sorted(place.iterdir())
        yield place.name, [np.load(file)[..., np.newaxis] if file.suffix == ".npy" else file for file in files]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=SETTINGS)
    parser.add_argument("--out", type=Path, default=Path("one-shot"), help="a new folder for everything [%(default)s]")
    parser.add_argument("--steps", type=int, help="of the training")
    parser.add_argument("--subjects", type=int, default=TRAINED, help="to train on [%(default)s]")
    parser.add_argument(
        "--others",
        type=int,
        default=OTHERS,
        help="to enroll, as many strangers, twice as many to calibrate [%(default)s]",
    )
    options = parser.parse_args(arguments)
    settings = SETTINGS[options.kind] | ({"steps": options.steps} if options.steps else {})
    write = {"voices": write_voices, "solids": write_solids}[options.kind]
    for part, seed, count, each in (
        ("trained", 1000, options.subjects, 6),
        ("calibrated", 2000, 2 * options.others, 4),
        ("enrolled", 3000, options.others, 2),
        ("strangers", 4000, options.others, 1),
    ):
        write(options.out / part, seed, count, each)

    train(
        options.out / "trained",
        options.out / "run",
        classes_per_batch=min(32, options.subjects),
        dimension=64,
        average=0.98,
        tell=print,
        **settings,
    )
    model = options.out / "models" / options.kind
    export(options.out / "run", model, options.kind)
    threshold = calibrate(model, options.out / "calibrated", fpir=0.1, splits=50).threshold
    print(
        f"tau {threshold.tau:.3f}: FPIR {threshold.fpir:.1%}, FNIR {threshold.fnir:.1%}, K = {threshold.gallery_size}"
    )

    with ServerProcess(options.out / "served", options.out / "server.log", (model,)) as server:
        server.start()
        with server.client() as client:
            tell(client, options)


def tell(client: Client, options: argparse.Namespace) -> None:
    """Enroll each of ``enrolled`` from one example, and ask about their others, and about strangers."""
    client.create_gallery("people", target_fpir=0.1)
    known = list(subjects(options.out / "enrolled"))
    for name, (first, *_) in known:
        client.enroll("people", name, first)
    right = nearest = 0
    for name, (_, other) in known:
        result = client.identify("people", other, max_candidates=1).results[0]
        right += result.decision == DECISION_IDENTIFIED and result.subject_id == name
        nearest += result.candidates[0].subject_id == name
    strangers = [example for _, (example,) in subjects(options.out / "strangers")]
    let_in = sum(result.decision == DECISION_IDENTIFIED for result in client.identify("people", *strangers).results)
    print(f"{len(known)} enrolled from one example each: {nearest} nearest, {right} identified")
    print(f"{len(strangers)} strangers: {let_in} identified")


if __name__ == "__main__":
    main()
