"""kill -9 at random moments, within the writing of files too: resumed, a training ends as one that was left alone."""

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from oneglance_exporter.api import resume, train
from oneglance_exporter.encoder.checkpoint import EncoderCheckpoint
from oneglance_exporter.encoder.train import EncoderTraining
from oneglance_exporter.training import log
from oneglance_exporter.training.checkpoint import BEST_FILE, CHECKPOINT_FILE, load
from oneglance_exporter.training.log import LOG_FILE

PROJECT = Path(__file__).resolve().parents[2]
PATHS = (Path(__file__).parent, PROJECT / "core", PROJECT / "exporter")
STEPS, VALIDATED = 22, 4
SETTINGS: dict[str, Any] = {"classes_per_batch": 4, "examples_per_class": 2, "dimension": 8, "shrink": 15}
Moment = str
Deadly = Callable[[Moment], bool]


def life(run: Path, data: str, heldout: str, deadly: Deadly) -> int:
    """Begin or resume the training in ``run``; die at the first moment that is ``deadly``. Returns how many there were
    if none is. Moments are before and within whatever is written, and before each step and measurement."""
    moments = 0

    def moment(name: Moment) -> None:
        nonlocal moments
        moments += 1
        if deadly(name):
            os.kill(os.getpid(), signal.SIGKILL)

    def before(name: Moment, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            moment(name)
            return function(*arguments)

        return called

    def halved(name: Moment, write: Callable[..., Any], to: Callable[..., Any]) -> Callable[..., Any]:
        def written(file: Any, content: Any) -> Any:
            write(file, content[: len(content) // 2])
            moment(name)
            return to(file, content)

        return written

    def replace(source: Path, target: Path) -> None:
        moment(f"before {Path(target).name}")
        os_replace(source, target)
        moment(f"after {Path(target).name}")

    def rest(file: Any, content: bytes) -> None:
        append(file, content[len(content) // 2 :])

    os_replace, append = os.replace, log._append
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "replace", replace)
    patch.setattr(log, "_append", halved("half a line", append, rest))
    patch.setattr(Path, "write_bytes", halved("half a file", Path.write_bytes, Path.write_bytes))
    patch.setattr(EncoderTraining, "step", before("step", EncoderTraining.step))
    patch.setattr(EncoderTraining, "validate", before("measurement", EncoderTraining.validate))
    if (run / CHECKPOINT_FILE).exists():
        resume(run)
    else:
        every: dict[str, Any] = {"steps": STEPS, "validation_steps": VALIDATED, "checkpoint_seconds": 0, "average": 0.5}
        train(data, run, validation=heldout, **every, **SETTINGS)
    return moments


def lives(folder: Path, data: str, heldout: str) -> None:
    """One run left alone, and one with a dozen lives, each a process of its own. Prints what they died of."""
    importlib.import_module("torch._dynamo")  # once: else each life does, before its first step

    def lived(run: str, deadly: Deadly) -> int:
        """The process's end: its signal, negative; 0."""
        child = os.fork()
        if not child:
            status = 1
            try:
                moments = life(folder / run, data, heldout, deadly)
                (folder / "moments").write_text(str(moments))
                status = 0
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def at_count(wanted: int) -> Deadly:
        left = iter(range(wanted))
        return lambda name: next(left, None) is None

    def at_name(wanted: Moment, times: int) -> Deadly:
        left = iter(range(times - 1))
        return lambda name: name == wanted and next(left, None) is None

    assert lived("alone", lambda name: False) == 0
    moments = int((folder / "moments").read_text())
    rng = random.Random(0)
    for deadly in [
        at_name("half a file", 1),  # the first checkpoint
        at_count(rng.randrange(moments // 8)),
        at_name("half a file", 3),
        at_count(rng.randrange(moments // 4)),
        at_name("before best.pt", 1),
        at_name("after best.pt", 1),  # checkpoint.pt is older, then
        at_name("half a line", 1),
        at_count(rng.randrange(moments // 4)),
        at_name("after checkpoint.pt", 2),
    ]:
        print("life", lived("killed", deadly))
    print("life", lived("killed", lambda name: False))


def test_a_training_that_is_killed_again_and_again_ends_as_one_left_alone(
    tmp_path: Path, drawings_zip: Path, heldout_zip: Path
) -> None:
    code = f"""
from pathlib import Path
import torch
torch.set_num_threads(1)
from {__name__} import lives
lives(Path({str(tmp_path)!r}), {str(drawings_zip)!r}, {str(heldout_zip)!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": ":".join(map(str, PATHS))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("life")]
    assert ends[-1] == 0, done.stderr
    assert ends.count(-signal.SIGKILL) >= 7, done.stderr  # a late moment may not come, when little is left to do
    for file in (CHECKPOINT_FILE, BEST_FILE):
        killed, alone = (load(tmp_path / run, EncoderCheckpoint, file) for run in ("killed", "alone"))
        assert (killed.step, killed.best_step, killed.best_error) == (alone.step, alone.best_step, alone.best_error)
        for name in ("model", "average"):
            a, b = getattr(killed, name), getattr(alone, name)
            assert all(torch.equal(a[key], b[key]) for key in b), name
        moments = alone.optimizer["state"]
        assert all(torch.equal(killed.optimizer["state"][i]["exp_avg"], moments[i]["exp_avg"]) for i in moments)
    lines = [json.loads(line)["step"] for line in (tmp_path / "killed" / LOG_FILE).read_text().splitlines()]
    assert lines == [20, STEPS]
