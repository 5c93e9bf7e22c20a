"""How often an enrollment is doubted rightly and wrongly, at the server's limits, on people not used for them.

    oneglance-exporter encode --model MODEL --data DATA --out people.npz
    python -m benchmarks.doubts people.npz ... [--halvings 5]

The people of all files are split in two halves, at random, several times over. What ``oneglance-exporter calibrate``
measures on one half gives the limits; the other half is enrolled. Like another: the first example of somebody new, and
another one of somebody who is enrolled already, given a new name. Unlike own: one more example of an enrolled subject,
and one of somebody else given that name; by the share of wrong claims that the limit accepts.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.report import table
from oneglance_core.distance import squared_l2
from oneglance_core.expectation import Expectation
from oneglance_exporter.encoder.false_positives import false_positives
from oneglance_exporter.encoder.random_galleries import RandomGalleries

EXAMPLES = (1, 2, 3)
TARGET = 0.01
ACCEPTED = (0.01, 0.02, 0.05, 0.1, 0.2)


def measure(path: Path, seed: int, examples: int) -> dict[str, list[float]]:
    """Of one halving: the distances in question, divided by their limits, so that 1 is the limit."""
    with np.load(path) as file:
        encodings, person = file["encodings"], np.unique(file["subjects"], return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    order = rng.permutation(person.max() + 1)
    first = np.flatnonzero(np.isin(person, order[: len(order) // 2]))
    made = false_positives(RandomGalleries(encodings[first], person[first], seed), "", {}, TARGET)
    assert made is not None
    expectation = Expectation(made)
    shown = [rng.permutation(np.flatnonzero(person == one)) for one in order[len(order) // 2 :]]
    shown = [own for own in shown if len(own) > examples]
    enrolled, new = shown[: len(shown) // 2], shown[len(shown) // 2 :]
    limit = expectation.tau(TARGET, "nearest", examples, len(enrolled))
    everybody = np.concatenate([own[:examples] for own in enrolled])

    def nearest(one: int, others: npt.NDArray[np.int64]) -> float:
        return float(squared_l2(encodings[others], encodings[one]).min())

    found: dict[str, list[float]] = {
        "new": [nearest(own[0], everybody) / limit for own in new],
        "again": [nearest(own[examples], own[:examples]) / limit for own in enrolled],
    }
    for accepted in ACCEPTED:
        far = max(limit, expectation.tau(accepted, "nearest", 1, 1))
        found[f"own {accepted}"] = [nearest(own[examples], own[:examples]) / far for own in enrolled]
        found[f"wrong {accepted}"] = [
            nearest(other[0], own[:examples]) / far for own, other in zip(enrolled, new, strict=False)
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", metavar="FILE.npz")
    parser.add_argument("--halvings", type=int, default=20, metavar="N")
    options = parser.parse_args()
    likes: list[tuple[object, ...]] = []
    unlikes: list[tuple[object, ...]] = []
    for path in options.data:
        for examples in EXAMPLES:
            halves = [measure(path, seed, examples) for seed in range(options.halvings)]
            found = {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
            new, again = (np.mean(found[name] <= 1) for name in ("new", "again"))
            likes.append((path.stem, examples, f"{new:.1%}", f"{again:.1%}"))
            shares = [
                f"{np.mean(found[f'own {accepted}'] > 1):.1%} / {np.mean(found[f'wrong {accepted}'] > 1):.1%}"
                for accepted in ACCEPTED
            ]
            unlikes.append((path.stem, examples, *shares))
    table(
        f"Like another subject, {options.halvings} halvings, target {TARGET:.0%}",
        ("data", "examples of each", "new people doubted", "known people under a new name doubted"),
        likes,
    )
    table(
        "Unlike its own subject: right examples doubted / wrong ones doubted",
        ("data", "examples of the subject", *(f"{accepted:.0%} of wrong claims accepted" for accepted in ACCEPTED)),
        unlikes,
    )


if __name__ == "__main__":
    main()
