"""What the meter costs somebody else's training loop: CPU seconds of the same steps with and without it.

Why: `flows/adapters` is to cost under 1 % (issue 5). The loop is plain PyTorch, a decoder of 4 layers of 256 in fp32 on
one thread, about a third of a second a step; each round trains it for so many steps without the meter and with it, in
an order that turns every round, the account opened and closed each time: counting the first step, readings every few
seconds, the ledger's file, all in. CPU seconds are those of the whole process, so the meter's own thread is among them.
Beside that, what the meter does is timed by itself: a step of a network that does nothing, and an account of no steps.
What it does not show: wall seconds on a GPU (nothing waits for it at a step), loops whose every step has a new shape.

    OMP_NUM_THREADS=1 python benchmarks/meter_overhead.py [--quick] [--rounds 5] [--steps 60]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twobills.flows.accounts import READING_EVERY_S
from twobills.flows.adapters.torch_loop import MeteredRun, metered
from twobills.ledger.place import default_ledger
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.meter.environment import environment
from twobills.money.rates import at_user_price
from twobills.units import SECONDS_PER_HOUR
from twobills.usage import Job, Origin, Phase, PhaseUsage, Usage

BAR_FRAC = 0.01
VOCAB, WIDTH, LAYERS, HEADS, ROWS, LENGTH = 4096, 256, 4, 4, 8, 128
IDLE_STEPS = 20_000


class Nothing(nn.Module):
    """A network that does nothing, as fast as it can."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens


class Plain(nn.Module):
    """A decoder as anybody writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        self.mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(self.table(tokens), mask=self.mask, is_causal=True))
        return logits


def main() -> None:
    """Runs the rounds, prints a table and one JSON line, and writes one ledger record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 rounds of 6 steps")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    rounds, steps = (3, 6) if given.quick else (given.rounds, given.steps)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = _measure(rounds, steps, Path(folder) / "ledger.sqlite")
    result["bar_frac"] = BAR_FRAC
    print(f"{'':34} {'best':>10} {'median':>10}")
    for name in ("plain", "metered"):
        print(f"{steps} steps {name:25} {result[f'{name}_best_s']:8.3f} s {result[f'{name}_median_s']:8.3f} s")
    print(f"{'overhead':34} {100 * result['best_frac']:8.2f} % {100 * result['median_frac']:8.2f} %")
    print(f"{'a step, by itself':34} {1e6 * result['per_step_s']:8.1f} µs")
    print(f"{'counting the first step':34} {1e3 * result['counting_s']:8.1f} ms")
    print(f"{'a reading, every few seconds':34} {1e3 * result['reading_s']:8.1f} ms")
    print(f"{'an account opened and closed':34} {1e3 * result['account_s']:8.1f} ms")
    print(f"{'an hour of such steps, reckoned':34} {100 * result['hour_frac']:8.4f} %")
    ledger = Ledger(default_ledger())
    settings = {"rounds": rounds, "steps": steps, "threads": 1, "quick": given.quick}
    run_id = ledger.start("benchmark meter_overhead", {**settings, "environment": environment()})
    ledger.result(run_id, result)
    ledger.end(run_id, Outcome.DONE)
    print(json.dumps({"benchmark": "meter_overhead", "run_id": run_id, **settings, **result}))


def _measure(rounds: int, steps: int, ledger: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    network = Plain()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    _train(network, optimizer, 2, None)
    seconds: dict[str, list[float]] = {"plain": [], "metered": []}
    for i in range(rounds):
        for name in ("plain", "metered") if i % 2 else ("metered", "plain"):
            seconds[name].append(_cpu_s(lambda name=name: _block(network, optimizer, steps, name == "metered", ledger)))
    pairs = zip(seconds["metered"], seconds["plain"], strict=True)
    best = {f"{name}_best_s": min(taken) for name, taken in seconds.items()}
    account_s = min(_cpu_s(lambda: _account(ledger)) for _ in range(3))
    idle_s = [min(_cpu_s(lambda w=watch: _idle(ledger, w)) for _ in range(2)) for watch in (True, False)]
    per_step_s = (idle_s[0] - account_s - idle_s[1]) / IDLE_STEPS
    step_s = best["plain_best_s"] / steps
    counting_s = min(_cpu_s(lambda: _block(network, optimizer, 1, True, ledger)) for _ in range(3)) - account_s - step_s
    reading_s = _reading_s(ledger)
    hour_s = account_s + counting_s + SECONDS_PER_HOUR * (per_step_s / step_s + reading_s / READING_EVERY_S)
    return {
        **best,
        **{f"{name}_median_s": statistics.median(taken) for name, taken in seconds.items()},
        "best_frac": best["metered_best_s"] / best["plain_best_s"] - 1,
        "median_frac": statistics.median(with_meter / without - 1 for with_meter, without in pairs),
        "per_step_s": per_step_s,
        "account_s": account_s,
        "counting_s": counting_s,
        "reading_s": reading_s,
        "hour_frac": hour_s / SECONDS_PER_HOUR,
    }


def _block(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int, meter: bool, ledger: Path) -> None:
    with metered(network, ledger=ledger) if meter else nullcontext() as run:
        _train(network, optimizer, steps, run)


def _train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int, run: MeteredRun | None) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        tokens = torch.randint(0, VOCAB, (ROWS, LENGTH + 1), generator=generator)
        logits = network(tokens[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if run is not None:
            run.step()


def _account(ledger: Path) -> None:
    with metered(Nothing(), ledger=ledger):
        pass


def _idle(ledger: Path, watch: bool) -> None:
    """Steps of nothing; the meter's share is all of it but the call of the network."""
    network, tokens = Nothing(), torch.zeros((ROWS, LENGTH), dtype=torch.int64)
    with metered(network, ledger=ledger) if watch else nullcontext() as run:
        for _ in range(IDLE_STEPS):
            network(tokens)
            if run is not None:
                run.step()


def _reading_s(path: Path) -> float:
    """CPU seconds to write one reading."""
    ledger, used = Ledger(path), Usage(job=Job.TRAINING, origin=Origin.MEASURED, phases={Phase.PRETRAIN: PhaseUsage()})
    rates = at_user_price(1.0, as_of="")
    return min(_cpu_s(lambda: ledger.reading("none", used, rates)) for _ in range(20))


def _cpu_s(run: Callable[[], object]) -> float:
    start_s = time.process_time()
    run()
    return time.process_time() - start_s


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
