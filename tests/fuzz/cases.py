"""Cases: one hostile call each, the same for the same seed and number."""

import base64
import json
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor

from tests.fuzz.mutations import hostile
from tests.fuzz.seeds import Conversation, methods
from tests.fuzz.values import World

_ENDLESS = "/grpc.health.v1.Health/Watch"


@dataclass(frozen=True)
class Case:
    """One call. ``cancel_after_seconds``, ``deadline_seconds``: None: neither."""

    number: int
    path: str
    messages: tuple[bytes, ...] = field(repr=False)
    cancel_after_seconds: float | None = None
    deadline_seconds: float | None = None
    gzip: bool = False

    def write(self, path: Path, **more: object) -> None:
        messages = [base64.b64encode(message).decode() for message in self.messages]
        path.write_text(json.dumps({"case": {**asdict(self), "messages": messages}, **more}, indent=1))


def read_case(path: Path) -> Case:
    """What ``Case.write`` wrote."""
    values = json.loads(path.read_text())["case"]
    values["messages"] = tuple(base64.b64decode(message) for message in values["messages"])
    return Case(**values)


class Cases:
    """``case(number)`` is the same whenever it is asked for, with the same ``seed``, world and good messages."""

    def __init__(self, seed: int, seeds: dict[str, list[Conversation]], world: World) -> None:
        self._seed = seed
        self._seeds = seeds
        self._world = world
        self._methods: dict[str, MethodDescriptor] = methods()
        self._paths = sorted(self._methods)

    def case(self, number: int) -> Case:
        rng = random.Random(f"{self._seed}/{number}")
        path = rng.choice(self._paths)
        method = self._methods[path]
        good = rng.choice(self._seeds[path])
        if method.client_streaming:
            wanted = [rng.choice(good) for _ in range(rng.choice((0, 1, 2, 4, 8)))]
            if rng.random() < 0.7:
                wanted = [good[0], *wanted]
        else:
            wanted = [good[0]]
        messages = tuple(
            message if method.client_streaming and rng.random() < 0.4
            else hostile(rng, method.input_type, message, self._world)
            for message in wanted
        )  # fmt: skip
        chance = rng.random()
        cancel = deadline = None
        if path == _ENDLESS or chance < 0.05:
            cancel = rng.choice((0.0, 0.001, 0.01, 0.05))
        elif chance < 0.1:
            deadline = rng.choice((0.0005, 0.005, 0.05, 0.2))
        return Case(number, path, messages, cancel, deadline, gzip=rng.random() < 0.05)
