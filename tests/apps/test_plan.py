"""What is planned: the queue against others' formulas, and what the command says."""

import numpy as np
import pytest

from oneglance_apps.cli import main
from oneglance_apps.planning import queueing
from oneglance_apps.planning.costs import CPU, H200, MILVUS, NODE_BYTES, NODE_CORES
from oneglance_apps.planning.queueing import OVERLOADED, simulate, simulate_behind
from oneglance_apps.planning.sheet import Load, options, sizes

Capture = pytest.CaptureFixture[str]


def load(subjects: float, per_second: float = 100, within: float = 0.2, dimension: int = 128) -> Load:
    return Load(subjects, 1, dimension, per_second, "encodings", within)


@pytest.mark.parametrize("per_second", [1.0, 50.0, 90.0])
def test_one_at_a_time_waits_as_lindley_says(per_second: float) -> None:
    """W(n + 1) = max(0, W(n) + S - A(n)): Lindley, The theory of queues with a single server, 1952."""
    between = np.random.default_rng(0).exponential(1 / per_second, queueing.PROBES)
    waits, wait = [], 0.0
    for gap in between[1:]:
        waits.append(wait)
        wait = max(0.0, wait + 0.01 - gap)
    waits.append(wait)
    found = simulate(lambda probes: 0.01 * probes, per_second, 1)
    expected = 0.01 + np.array(waits)[queueing._WARM_UP :]
    assert (found.p50, found.p99) == pytest.approx(np.quantile(expected, [0.5, 0.99]).tolist())
    assert found.busy == pytest.approx(per_second * 0.01, rel=0.05)
    assert found.together == 1


def test_those_who_wait_are_answered_together() -> None:
    alone, together = (simulate(lambda probes: 0.01 + 0.0001 * probes, 95, most) for most in (1, 64))
    assert together.p99 < alone.p99 / 3
    assert together.together > 1.2


def test_more_than_is_answered_is_told() -> None:
    assert simulate(lambda probes: 0.01 * probes, 101, 64) is OVERLOADED
    assert simulate(lambda probes: 0.01 * probes, 99, 64) != OVERLOADED


def test_of_two_stages_each_waits_as_lindley_says() -> None:
    came = np.cumsum(np.random.default_rng(0).exponential(1 / 80, queueing.PROBES))
    there = came
    for seconds in (0.01, 0.011):
        done = np.empty_like(there)
        before = 0.0
        for i, at in enumerate(there):
            before = done[i] = max(before, at) + seconds
        there = done
    found = simulate_behind(1, lambda probes: 0.01 * probes, lambda probes: 0.011 * probes, 80, 1)
    expected = np.quantile((there - came)[queueing._WARM_UP :], [0.5, 0.99]).tolist()
    assert (found.p50, found.p99) == pytest.approx(expected)
    assert found.busy == pytest.approx(80 * 0.011, rel=0.05)


def test_more_servers_wait_less_and_too_few_are_told() -> None:
    def asked(servers: int) -> queueing.Waited:
        return simulate_behind(servers, lambda probes: 0.02 * probes, lambda probes: 0.0001, 120, 64)

    assert asked(2) is OVERLOADED
    assert asked(3).p99 > asked(6).p99 > 0.02


def test_where_one_machine_has_to_be_large_several_are_planned() -> None:
    assert len(options(load(1e6, 20))) == 3
    photos = Load(1e6, 1, 128, 300, "photos", 0.2)
    assert options(photos)[0].cores > 8
    several = options(photos)[-1]
    assert several.does(0.2)
    assert several.servers > 1
    assert several.cores < options(photos)[0].cores


def test_where_one_machine_wants_much_memory_a_milvus_is_planned() -> None:
    assert not any(one.nodes for one in options(load(1e6, 500)))
    vectors = 4 * 1e9 * 128
    at_ease, pressed = (options(load(1e9, per_second, within=3))[-1] for per_second in (0.1, 20))
    assert at_ease.nodes == np.ceil(vectors / NODE_BYTES)
    assert at_ease.cores == at_ease.nodes * NODE_CORES
    assert pressed.nodes > at_ease.nodes
    assert pressed.does(3)
    assert [MILVUS.scan_seconds(n, 128e6) for n in MILVUS.probes] == pytest.approx(MILVUS.seconds)


def test_a_scan_takes_what_was_measured_and_grows_with_rows() -> None:
    assert [CPU.scan_seconds(n, CPU.numbers) for n in CPU.probes] == pytest.approx(CPU.seconds)
    assert CPU.scan_seconds(512, 2 * CPU.numbers) == pytest.approx(4 * CPU.seconds[-1])
    assert CPU.seconds[1] < CPU.scan_seconds(20, CPU.numbers) < CPU.seconds[2]


def test_the_fewest_cores_that_do_are_found() -> None:
    few, many = (options(load(1e6, per_second))[0] for per_second in (20, 500))
    assert few.cores == 2
    assert many.cores > few.cores
    assert few.does(0.2)
    assert many.does(0.2)


def test_what_does_not_fit_a_card_is_told() -> None:
    cpu, card, half, *_ = options(load(0.9 * 141e9 / 4 / 128 * 1.01))
    assert card.waited is None
    assert half.waited is not None
    assert cpu.waited is not None
    assert H200.memory_bytes == pytest.approx(126.9e9)


def test_memory_and_disk_of_a_million_are_as_measured() -> None:
    """benchmarks.ready: 831 MB; 754 MB of store, 528 of snapshot, 31 of keys."""
    of = sizes(load(1e6))
    assert of.memory == pytest.approx(831e6, rel=0.02)
    assert of.disk == pytest.approx(1313e6, rel=0.02)


def test_the_command_tells(capsys: Capture) -> None:
    assert main(["plan", "1M", "--probes", "200"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("1,000,000 subjects, 1,000,000 encodings of 128 numbers\n  memory        820 MB")
    assert "\n  2 cores  " in said
    assert main(["plan", "1B", "--dimension", "512", "--encodings", "2", "--as", "photos"]) == 0
    said = capsys.readouterr().out
    assert "doesn't fit into its memory" in said
    assert said.endswith("approximate answers, and docs/milvus.md.\n")


@pytest.mark.parametrize("text", ["0", "-1", "many", "1MM", "nan", "inf", "M", ""])
def test_what_is_no_amount_is_refused(text: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", text])
    assert ended.value.code == 2
    assert "as 20000, 1.5M or 2B" in capsys.readouterr().err or text == "-1"
