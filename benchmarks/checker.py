"""Is what the server answers right? python -m benchmarks.checker [--probes 10000] [--rows 21000] [--workers 2]

Every rule of fusion, by distance and by a pair head's probability, searched in each way: exactly by the rows alone and
by row codes, exactly where answers may be approximate, and approximately; on data that makes it hard (hostile_data.py).
All goes through gRPC: subjects are enrolled, some with several encodings; probes are identified with several candidates
and all matches, some among those with a label, some with a tau that is exactly their score and just below it; and
verified. What is right is computed in float64 from the vectors that were sent, as the docs define it
(by_definition.py).

Of exact answers none may differ, in decision, order or distance, and of approximate ones no distance; of known probes
(those with a match by the definition) certainly no more may be decided otherwise than was allowed. Exit status 1 where
that isn't so. Row codes begin at 16,384 rows, approximate answers at 20,000: with fewer --rows the server is told to
begin sooner. `--workers` puts so many processes before the one that has the galleries (docs/servers.md). `--milvus`
names a wheel of milvus==2.3.5, or a folder that it was unpacked to: the galleries are searched there, where nothing is
decided by probability and nothing approximate.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.by_definition import Enrolled, Expected, Head, Rule, Subject, expected
from benchmarks.compared import Asked, Cells, Counted, lines, score_of
from benchmarks.hostile_data import CHANGING, DIMENSION, KINDS, Vectors, for_head, others_of, probes_of
from benchmarks.report import options, table
from oneglance import Client, encoded_subject, encoding
from oneglance.v1.approximation_pb2 import EXACT_BECAUSE_TOO_FEW_MATES_YET, ExactBecause
from oneglance.v1.common_pb2 import SubjectFilter
from oneglance.v1.identification_pb2 import IdentifyResponse
from oneglance_core.pair_head import PairHead
from oneglance_index.search.approximate import LEAST_ROWS
from tests.models import pixels_model
from tests.running import ServerProcess

ROWS, CODES, EXACTLY, NEARLY = "rows alone", "row codes", "approximate, asked exactly", "approximate"
MILVUS = "at a Milvus"
Served = Sequence[tuple[Mapping[str, Any], Sequence[str]]]  # settings of a server, and the ways of searching to try
HERE: Served = (({"row_codes": "int8"}, (CODES, EXACTLY, NEARLY)), ({"row_codes": "off"}, (ROWS,)))
MATES_FOUND = 0.95
CANDIDATES, TEAMS = 10, 7
BATCHES = (1, 3, 8, 16)  # row codes are read for up to 8 probes
# Before answers are approximate: so many times 64 probes to learn from, and so long where nothing comes of it.
MOST_LEARNT, SETTLED_SECONDS = 40, 120.0
WEIGHTS = (-np.abs(np.random.default_rng(0).standard_normal(DIMENSION)) * 2).astype(np.float32).astype(np.float64)
WEIGHTS[::4] *= -1  # so that the nearest isn't always the likeliest
HEADS = (Head("difference", WEIGHTS, 0.75), Head("chi-square", WEIGHTS, 0.75))
RULES = (
    *(Rule(f"{fusion}, distance", fusion, HEADS[0]) for fusion in ("nearest", "mean", "margin")),
    *(Rule(f"{fusion}, {head.form}", fusion, head, True) for head in HEADS for fusion in ("nearest", "mean")),
)


@dataclass
class Gallery:
    """One that is served, and what was enrolled in it. `gone`: vectors of subjects that were deleted."""

    id: str
    kind: str
    head: Head
    digest: str
    rng: np.random.Generator
    subjects: dict[str, Subject] = field(default_factory=dict)
    gone: list[Vectors] = field(default_factory=list)
    enrolled: int = 0

    def fill(self, client: Client, rows: Vectors) -> None:
        """Of every twentieth subject two to four encodings, some of which come after everybody else's."""
        client.create_gallery(self.id, encoder=self.head.form, quality_policy="off", doubt_policy="off")
        several = np.arange(0, len(rows), 20)
        others = for_head(self.head.form, others_of(self.rng, self.kind, rows[several].repeat(3, axis=0)))
        own = {at: others[3 * i : 3 * i + 3] for i, at in enumerate(several.tolist())}
        names = [f"s{at:06}" for at in range(len(rows))]
        first = [(name, [row, *own.get(at, [])[:1]]) for at, (name, row) in enumerate(zip(names, rows, strict=True))]
        self.enroll(client, first)
        self.enroll(client, [(names[at], list(more[1 : 1 + at // 20 % 3])) for at, more in own.items() if at // 20 % 3])

    def enroll(self, client: Client, given: Sequence[tuple[str, list[Vectors]]]) -> None:
        made = [
            encoded_subject(name, np.array(vectors), {"team": str(int(name[1:]) % TEAMS)}) for name, vectors in given
        ]
        outcomes = client.bulk_enroll_encodings(self.id, iter(made), encoder_digest=self.digest)
        for (name, vectors), outcome in zip(given, outcomes, strict=True):
            assert not outcome.HasField("error"), outcome.error
            one = self.subjects.setdefault(name, Subject({"team": str(int(name[1:]) % TEAMS)}))
            one.vectors += vectors
            one.ids += outcome.enrolled.encoding_ids
            one.places += range(self.enrolled, self.enrolled + len(vectors))
            self.enrolled += len(vectors)

    def change(self, client: Client) -> None:
        """Deletes some subjects; some of them come anew, with other vectors, and so do others."""
        names = self.rng.choice(list(self.subjects), 5, replace=False).tolist()
        for name in names:
            client.delete_subject(self.id, name)
            self.gone += self.subjects.pop(name).vectors
        coming = [*names[:3], *(f"s{1_000_000 + self.enrolled + i}" for i in range(2))]
        rows = for_head(self.head.form, KINDS[self.kind](self.rng, 2 * len(coming)))
        self.enroll(client, [(name, list(rows[2 * i : 2 * i + 1 + i % 2])) for i, name in enumerate(coming)])

    def probes(self, count: int) -> tuple[Vectors, np.ndarray]:
        rows = np.array([one.vectors[0] for one in self.subjects.values()])
        probes, known = probes_of(self.rng, self.kind, rows, count)
        for at, vector in zip(range(6, count, 10), self.gone[-count:], strict=False):
            probes[at] = vector
        return for_head(self.head.form, probes), known


class Asking:
    """The probes of one gallery by one rule, and what must be answered."""

    def __init__(self, client: Client, gallery: Gallery, rule: Rule, probes: int) -> None:
        self._client, self._gallery, self._rule = client, gallery, rule
        self._probes, known = gallery.probes(probes)
        self._known: dict[tuple[str, int], Expected] = {}  # while nothing changes
        self._among: dict[str, tuple[Enrolled, dict[str, int], dict[str, int]]] = {}
        self._tau = 0.0
        # Nine in ten of the known probes match; by distance it is exactly the score of one of them.
        self._tau = float(
            np.quantile([self._best_score(at) for at in np.flatnonzero(known).tolist()], 0.9, method="lower")
        )
        self._known.clear()

    def _best_score(self, at: int) -> float:
        wanted = self._asked(at, "").expected
        return float(wanted.scores.high[wanted.best()])

    def _asked(self, at: int, team: str) -> Asked:
        if team not in self._among:
            enrolled = Enrolled.of(self._gallery.subjects, {"team": team} if team else None)
            subjects, rows = ({one: at for at, one in enumerate(ids)} for ids in (enrolled.names, enrolled.ids))
            self._among[team] = enrolled, subjects, rows
        enrolled, subjects, rows = self._among[team]
        if (team, at) not in self._known:
            self._known[team, at] = expected(enrolled, self._rule, self._probes[at])
        return Asked(enrolled, subjects, rows, self._rule, self._known[team, at], self._tau, CANDIDATES)

    def _changed(self) -> None:
        self._known.clear()
        self._among.clear()

    def _identify(
        self, probes: Vectors, tau: float, team: str, *, exact: bool, matches: bool = True
    ) -> IdentifyResponse:
        return self._client.identify(
            self._gallery.id,
            *(encoding(probe, self._gallery.digest) for probe in probes),
            max_candidates=CANDIDATES,
            tau=tau,
            all_matches=matches,
            filter=SubjectFilter(labels={"team": team}) if team else None,
            exact=exact,
        )

    def ask(self, way: str) -> Counted:
        counted = Counted()
        exact = way != NEARLY or self._rule.by_probability
        for number, batch in enumerate(self._batches()):
            if self._gallery.kind == CHANGING:
                self._gallery.change(self._client)
                self._changed()
            team = str(number % TEAMS) if number % 3 == 2 else ""
            answer = self._identify(self._probes[batch], self._tau, team, exact=way == EXACTLY)
            if exact and not answer.provenance.exact:
                counted.orders += 1
                counted.tell("an answer that has to be exact says that it isn't")
            for at, result in zip(batch, answer.results, strict=True):
                counted.add(result, self._asked(at, team), exact=answer.provenance.exact)
            self._verify(batch[0], counted)
            if exact:
                self._at_border(answer, batch[0], team, counted, exact=way == EXACTLY)
        return counted

    def _batches(self) -> Iterator[range]:
        start = 0
        for size in itertools.cycle(BATCHES):
            if start >= len(self._probes):
                return
            yield range(start, min(start + size, len(self._probes)))
            start += size

    def _at_border(self, answer: IdentifyResponse, at: int, team: str, counted: Counted, *, exact: bool) -> None:
        score = score_of(answer.results[0].candidates[0])
        below = math.nextafter(score, -math.inf)
        if below >= 0 or self._rule.fusion == "margin":  # else it is no tau
            probe = self._probes[at : at + 1]
            asked = [self._identify(probe, tau, team, exact=exact, matches=False) for tau in (score, below)]
            counted.add_at_border(*(one.results[0] for one in asked))

    def _verify(self, at: int, counted: Counted) -> None:
        asked = self._asked(at, "")
        for subject in (asked.expected.best(), int(self._gallery.rng.integers(len(asked.enrolled.names)))):
            name = asked.enrolled.names[subject]
            probe = encoding(self._probes[at], self._gallery.digest)
            counted.add_verified(self._client.verify(self._gallery.id, name, probe, tau=self._tau), subject, asked)

    def settle(self) -> str:
        """Asks until answers are approximate. Where that is too much to read for it to be worth while, or it takes too
        long, why they are exact yet."""
        client, gallery = self._client, self._gallery
        client.set_approximation(gallery.id, MATES_FOUND)
        if self._rule.by_probability:
            return "by probability"
        too_few, until = 0, time.monotonic() + SETTLED_SECONDS
        while True:
            self._identify(gallery.probes(64)[0], self._tau, "", exact=False, matches=False)
            state = client.get_gallery(gallery.id).approximation_state
            if state.approximate:
                return ""
            too_few += state.because == EXACT_BECAUSE_TOO_FEW_MATES_YET
            if too_few > MOST_LEARNT or time.monotonic() > until:
                return ExactBecause.Name(state.because).removeprefix("EXACT_BECAUSE_").lower().replace("_", " ")


def check(
    rows: int,
    probes: int,
    first: str = "",
    kinds: Sequence[str] = tuple(KINDS),
    ways: Served = HERE,
    rules: Sequence[Rule] = RULES,
) -> Cells:
    """With so many subjects in each gallery, and so many probes for each rule, way and kind of data. `first`: what a
    server's process does before anything else."""
    if rows < LEAST_ROWS:
        first = (
            "from oneglance_index.search import approximate, coded\n"
            "coded._LEAST_ROWS = approximate.LEAST_ROWS = approximate._MOST_READ = 1\n"
            f"approximate._MANY_RECENT = approximate._MANY_MATES = 32\n{first}"
        )
    cells: Cells = {}
    with tempfile.TemporaryDirectory() as folder:
        models = [
            pixels_model(Path(folder) / head.form, name=head.form, head=PairHead(head.form, head.weights, head.bias))
            for head in HEADS
        ]
        galleries: list[Gallery] = []
        heads = [head for head in HEADS if any(rule.head is head for rule in rules)]
        for given, tried in ways:
            data, log, served = Path(folder) / "data", Path(folder) / "log", ":".join(map(str, models))
            settings: dict[str, Any] = {"models": served, "log_level": "error", **given}
            with ServerProcess(data, log=log, first=first, **settings) as server:
                with Client(server.address, timeout_seconds=600) as client:
                    galleries = galleries or [*filled(client, rows, kinds, heads)]
                    client.wait_until_serving()
                    for gallery in galleries:
                        _check_gallery(
                            client, gallery, tried, [one for one in rules if one.head is gallery.head], probes, cells
                        )
                        asked = sum(counted.probes for counted in cells.values())
                        wrong = len(differing(cells))
                        told = f"{gallery.id}, {', '.join(tried)}: {asked:,} probes so far, {wrong} combinations differ"
                        print(told, file=sys.stderr, flush=True)
                server.terminate()
    return cells


def filled(client: Client, rows: int, kinds: Sequence[str], heads: Sequence[Head]) -> Iterator[Gallery]:
    for number, (kind, head) in enumerate(itertools.product(kinds, heads)):
        rng = np.random.default_rng(number)
        count = rows if head is HEADS[0] else max(100, rows // 10)  # every row is looked at by probability, anyway
        gallery = Gallery(f"{kind}, {head.form}", kind, head, client.describe_model(head.form).model.digest, rng)
        gallery.fill(client, for_head(head.form, KINDS[kind](rng, count)))
        yield gallery


def _check_gallery(
    client: Client, gallery: Gallery, ways: Sequence[str], rules: Sequence[Rule], probes: int, cells: Cells
) -> None:
    for rule in rules:
        if not rule.by_probability:
            client.set_decided_by(gallery.id, "distance")
        client.set_fusion(gallery.id, rule.fusion)
        if rule.by_probability:
            client.set_decided_by(gallery.id, "probability")
        asking = Asking(client, gallery, rule, probes)
        for way in ways:
            note = asking.settle() if way == EXACTLY else ""
            counted = cells[rule.name, way, gallery.kind] = asking.ask(way)
            counted.note = note
        if EXACTLY in ways:
            client.set_approximation(gallery.id, None)


def differing(cells: Cells) -> Cells:
    """Where more differs than may."""
    return {cell: counted for cell, counted in cells.items() if counted.differing(MATES_FOUND, "margin" in cell[0])}


@contextmanager
def milvus(given: Path) -> Iterator[int]:
    """The port of a real one."""
    from tests.index.milvus.engine import VARIABLE, Engine, installation, why_not

    os.environ[VARIABLE] = str(given)
    reason = why_not()
    if reason:
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine(installation(Path(scratch) / "installed"), Path(scratch) / "data")
        try:
            yield engine.port
        finally:
            engine.close()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--probes", type=int, default=10_000, help="in all, about")
    parser.add_argument("--rows", type=int, default=21_000, help="subjects of each gallery")
    parser.add_argument("--workers", type=int, default=0, metavar="N")
    parser.add_argument("--milvus", type=Path, metavar="PATH")
    told = parser.parse_args()
    with ExitStack() as opened:
        rules, ways = RULES, HERE
        if told.milvus is not None:
            rules = tuple(rule for rule in RULES if not rule.by_probability)
            ways = (
                ({"galleries": f"milvus://127.0.0.1:{opened.enter_context(milvus(told.milvus))}/default"}, (MILVUS,)),
            )
        ways = [({**given, "workers": told.workers}, tried) for given, tried in ways]
        count = len(KINDS) * len(rules) * sum(len(tried) for _, tried in ways)
        probes = max(20, round(told.probes / count / 1.6))  # some are asked more than once
        cells = check(told.rows, probes, ways=ways, rules=rules)
    differ = "differ: decisions", "order", "distances"
    rest = "largest relative error", "approximate answers", f"lost of known, at most {1 - MATES_FOUND:.0%}; let in"
    table(f"{told.rows:,} x {DIMENSION}", ("rule", "index", "data", "probes", *differ, *rest), lines(cells, range(3)))
    for name, place in (("rule", 0), ("index", 1), ("data", 2)):
        table(f"By {name}", (name, "probes", *differ, *rest), lines(cells, [place]))
    wrong = differing(cells)
    for cell, counted in wrong.items():
        print(f"\n{', '.join(cell)}:", *counted.told, sep="\n  ", file=sys.stderr)
    notes = {counted.note for counted in cells.values()} - {""}
    print(f"\n{len(wrong)} of {len(cells)} combinations differ; exact yet: {', '.join(sorted(notes))}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
