"""A collection of characters from the glyph generator, each drawn by several simulated writers."""

from collections.abc import Callable

import numpy as np

from oneglance_apps.demo.collection import MIN_CALIBRATION_PROBES, Collection, Stranger, Subject
from oneglance_apps.demo.errors import DemoError
from oneglance_apps.demo.pictures import Picture, drawing
from oneglance_core.glyphs import TRAINING_SEEDS, alphabet

PROBES = 4  # drawings by other writers, per character
ALPHABET = 30  # characters of one alphabet: they share strokes, as real ones do
_ALPHABETS = 1000  # generator seeds for each seed of the demo
MAX_CHARACTERS = ALPHABET * _ALPHABETS
MAX_SEED = TRAINING_SEEDS.start // _ALPHABETS - 1

Progress = Callable[[int, int], None]


def draw_collection(
    subjects: int, strangers: int, seed: int, progress: Progress = lambda done, total: None
) -> Collection:
    """``subjects`` characters to enroll, and of the same alphabets ``strangers``, and as many calibration strangers.

    The same seed gives the same drawings; none of them was used for training (see TRAINING_SEEDS). Raises DemoError for
    fewer than 2 subjects or 1 stranger, and for a seed out of range.
    """
    total = subjects + 2 * strangers
    if subjects < 2 or strangers < 1 or total > MAX_CHARACTERS:
        raise DemoError(f"2 subjects and 1 stranger at least, {MAX_CHARACTERS:,} together at most")
    if not 0 <= seed <= MAX_SEED:
        raise DemoError(f"a seed is between 0 and {MAX_SEED}")
    characters: list[tuple[str, list[Picture]]] = []
    alphabets = -(-total // ALPHABET)
    for number in range(alphabets):
        size = min(ALPHABET, total - number * ALPHABET)
        for i, glyph in enumerate(alphabet(seed * _ALPHABETS + number, size, 1 + PROBES)):
            name = f"A{number + 1:02d}-{i + 1:02d}"
            hands = [drawing(pixels, f"{name}, hand {hand}") for hand, pixels in enumerate(glyph.drawings, 1)]
            characters.append((name, hands))
            progress(len(characters), total)
    order = np.random.default_rng([seed, 1]).permutation(total).tolist()
    known, unknown = sorted(order[:subjects]), sorted(order[subjects : subjects + strangers])
    calibrating = sorted(order[subjects + strangers :])

    def as_strangers(chosen: list[int]) -> tuple[Stranger, ...]:
        return tuple(Stranger(name, tuple(hands[:PROBES])) for name, hands in (characters[i] for i in chosen))

    return Collection(
        subjects=tuple(Subject(name, hands[0], tuple(hands[1:])) for name, hands in (characters[i] for i in known)),
        strangers=as_strangers(unknown),
        calibration_strangers=as_strangers(calibrating) if len(calibrating) * PROBES >= MIN_CALIBRATION_PROBES else (),
        noun="character",
        picture_noun="drawing",
        origin=f"from {alphabets} invented alphabet{'s' * (alphabets > 1)}, every drawing by a hand of its own",
        drawn=True,
    )
