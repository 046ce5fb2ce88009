"""The meter on somebody else's loop: what it counts is what ran, and every second has a phase."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from twobills.errors import RequestError
from twobills.flows import accounts
from twobills.flows.adapters.torch_loop import Planned, metered
from twobills.ledger.reconcile import reconcile
from twobills.ledger.record import Outcome, RecordKind
from twobills.ledger.store import Ledger
from twobills.units import SECONDS_PER_HOUR
from twobills.usage import Job, Phase, PhaseUsage

VOCAB, WIDTH = 32, 16


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Path(os.environ["TWOBILLS_LEDGER"]))


def network() -> nn.Module:
    """A linear layer between an embedding and a head: 2·(16·16 + 16·32)·tokens FLOPs forward."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, VOCAB))


FORWARD = 2 * (WIDTH * WIDTH + WIDTH * VOCAB)
"""FLOPs per token."""


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, *shapes: tuple[int, int]) -> None:
    for shape in shapes:
        tokens = torch.zeros(shape, dtype=torch.int64)
        F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def phases(ledger: Ledger, run_id: str | None) -> dict[Phase, PhaseUsage]:
    assert run_id is not None
    return dict(ledger.measured_bills(run_id)[Job.TRAINING].usage.phases)


def test_flops_are_those_of_every_step_though_few_are_counted(ledger: Ledger) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    shapes = [(2, 8), (4, 8), (2, 8), (1, 3), (4, 8)] * 4
    with metered(model, name="mine") as run:
        for shape in shapes:
            train_step(model, optimizer, shape)
            run.step()
    n_tokens = 4 * (16 + 32 + 16 + 3 + 32)
    used = phases(ledger, run.run_id)[Phase.PRETRAIN]
    assert used.tokens == n_tokens
    assert used.flops == 3 * FORWARD * n_tokens
    assert used.bytes > 0
    assert run.run_id is not None
    (result,) = ledger.records(run.run_id, RecordKind.RESULT)
    assert result.body["steps"] == {"pretrain": 20}
    assert (result.body["n_heard"], result.body["n_fitted"]) == (20, 0)
    assert result.body["n_counted"] == 3 + 1  # shapes, and the optimiser's update
    assert ledger.started(run.run_id).body["name"] == "mine"


def test_micro_batches_are_one_step(ledger: Ledger) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with metered(model) as run:
        for _ in range(3):
            train_step(model, optimizer, (2, 8), (2, 8), (1, 8))
            run.step()
    used = phases(ledger, run.run_id)[Phase.PRETRAIN]
    assert (used.tokens, used.flops) == (3 * 40, 3 * 40 * 3 * FORWARD)


def test_an_optimiser_that_multiplies_matrices_is_counted(ledger: Ledger) -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False))
    optimizer = torch.optim.Muon(model.parameters(), lr=0.01)

    def step() -> None:
        model(torch.ones(4, 8)).sum().backward()
        optimizer.step()  # type: ignore[no-untyped-call]

    with FlopCounterMode(display=False) as counter:
        step()
    with metered(model) as run:
        for _ in range(5):
            step()
            run.step(tokens=4)
    used = phases(ledger, run.run_id)[Phase.PRETRAIN]
    assert used.tokens == 5 * 4
    assert used.flops == 5 * counter.get_total_flops()
    assert counter.get_total_flops() > 2 * 2 * 4 * 8 * 8


def test_evaluation_and_lost_work_have_their_own_lines(ledger: Ledger) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tokens = torch.zeros((2, 8), dtype=torch.int64)
    with metered(model, phase="finetune") as run:
        train_step(model, optimizer, (2, 8))
        run.step()
        with run.phase("evaluate"), torch.no_grad():
            for _ in range(3):
                model(tokens)
        with run.phase("lost"):
            train_step(model, optimizer, (2, 8))
            run.step()
        train_step(model, optimizer, (2, 8))
        run.step()
    used = phases(ledger, run.run_id)
    assert set(used) == {Phase.FINETUNE, Phase.EVALUATE, Phase.LOST}
    assert (used[Phase.FINETUNE].tokens, used[Phase.FINETUNE].flops) == (32, 32 * 3 * FORWARD)
    assert (used[Phase.EVALUATE].tokens, used[Phase.EVALUATE].flops) == (48, 48 * FORWARD)
    assert (used[Phase.LOST].tokens, used[Phase.LOST].flops) == (0, 16 * 3 * FORWARD)


def test_phases_add_up_to_the_chip_seconds_of_the_loop(ledger: Ledger) -> None:
    model = network()
    start_s = time.perf_counter()
    with metered(model, n_chips=3, watts_per_chip=5.0) as run:
        for _ in range(3):
            time.sleep(0.05)
            run.step(tokens=1)
            with run.phase("evaluate"):
                time.sleep(0.1)
        wall_s = time.perf_counter() - start_s
    used = phases(ledger, run.run_id)
    assert used[Phase.EVALUATE].chip_s == pytest.approx(3 * 0.3, rel=0.2)
    assert sum(phase.chip_s for phase in used.values()) == pytest.approx(3 * wall_s, rel=0.1)
    assert sum(phase.energy.declared_j for phase in used.values()) == pytest.approx(15 * wall_s, rel=0.1)


class Attends(nn.Module):
    """Self-attention with a head: FLOPs grow with tokens and with their square."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix, self.head = nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, VOCAB)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.mix(self.table(tokens))
        logits: Tensor = self.head(torch.softmax(x @ x.transpose(1, 2), dim=-1) @ x)
        return logits


def test_shapes_beyond_those_that_are_counted_are_fitted(ledger: Ledger) -> None:
    model = Attends()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    shapes = [(1 + i % 3, 2 + i) for i in range(36)]
    with FlopCounterMode(display=False) as counter:
        for shape in shapes:
            train_step(model, optimizer, shape)
    with metered(model) as run:
        for shape in shapes:
            train_step(model, optimizer, shape)
            run.step()
    assert run.run_id is not None
    (result,) = ledger.records(run.run_id, RecordKind.RESULT)
    assert result.body["n_fitted"] == 36 - 24
    assert phases(ledger, run.run_id)[Phase.PRETRAIN].flops == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_without_a_network_whole_steps_are_counted(ledger: Ledger) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with metered() as run:
        for rows in (2, 2, 2, 4, 4, 2):
            train_step(model, optimizer, (rows, 8))
            run.step(tokens=8 * rows)
    used = phases(ledger, run.run_id)[Phase.PRETRAIN]
    assert used.tokens == 8 * 16
    assert used.flops == pytest.approx(8 * 16 * 3 * FORWARD)


def test_steps_without_tokens_are_counted_too(ledger: Ledger) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with metered() as run:
        for _ in range(4):
            train_step(model, optimizer, (2, 8))
            run.step()
    used = phases(ledger, run.run_id)[Phase.PRETRAIN]
    assert (used.tokens, used.flops) == (0, 4 * 16 * 3 * FORWARD)


def test_the_account_is_closed_however_the_loop_ends(ledger: Ledger) -> None:
    def loop(error: type[BaseException]) -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with metered(model, name=error.__name__) as run:
            train_step(model, optimizer, (2, 8))
            run.step()
            with run.phase("evaluate"):
                model(torch.zeros((2, 8), dtype=torch.int64))
                raise error

    for error, outcome in ((KeyboardInterrupt, Outcome.INTERRUPTED), (ValueError, Outcome.FAILED)):
        with pytest.raises(error):
            loop(error)
        run_id = ledger.resolve("last")
        assert ledger.outcome(run_id) is outcome
        used = phases(ledger, run_id)
        assert used[Phase.PRETRAIN].tokens == 16
        assert used[Phase.EVALUATE].flops == 16 * FORWARD


def test_the_network_is_left_as_it_was() -> None:
    model = network()
    with pytest.raises(ValueError, match="mine"), metered(model):
        raise ValueError("mine")
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert torch.utils._python_dispatch._get_current_dispatch_mode_stack() == []


def test_a_pass_that_failed_is_not_taken_for_the_others(ledger: Ledger) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with metered(model) as run:
        with pytest.raises(IndexError):
            model(torch.full((2, 8), VOCAB))
        train_step(model, optimizer, (2, 8))
        run.step()
        train_step(model, optimizer, (2, 8))
        run.step()
    used = phases(ledger, run.run_id)[Phase.PRETRAIN]
    assert (used.tokens, used.flops) == (32, 32 * 3 * FORWARD)


def test_a_plan_is_held_against_the_meter(ledger: Ledger) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plan = Planned(n_tokens=64, hours=2.0, usd_per_chip_hour=3.0, watts_per_chip=10.0)
    with metered(model, n_chips=4, usd_per_chip_hour=2.0, plan=plan) as run:
        for _ in range(2):
            train_step(model, optimizer, (2, 8))
            run.step()
    assert run.run_id is not None
    planned = ledger.planned_bills(run.run_id)[Job.TRAINING]
    measured = ledger.measured_bills(run.run_id)[Job.TRAINING]
    assert planned.total_usd == pytest.approx(2.0 * 4 * 3.0)
    assert planned.usage.total.energy.declared_j == pytest.approx(2 * SECONDS_PER_HOUR * 4 * 10.0)
    assert measured.rates.usd_per_chip_s == pytest.approx(2.0 / SECONDS_PER_HOUR)
    gaps = reconcile(planned, measured).total
    assert gaps.work_usd == pytest.approx(-24.0 / 2)  # half the tokens
    assert gaps.total_usd == pytest.approx(measured.total_usd - planned.total_usd)


def test_a_killed_loop_has_been_billed_up_to_its_last_reading(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "READING_EVERY_S", 0.02)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with metered(model) as run:
        train_step(model, optimizer, (2, 8))
        run.step()
        deadline = time.monotonic() + 20
        assert run.run_id is not None
        while time.monotonic() < deadline:
            read = ledger.measured_bills(run.run_id)
            if read and read[Job.TRAINING].usage.total.tokens and read[Job.TRAINING].usage.total.chip_s:
                break
            time.sleep(0.02)
        assert phases(ledger, run.run_id)[Phase.PRETRAIN].tokens == 16


def test_only_the_first_of_several_processes_writes(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monkeypatch.setenv("RANK", "1")
    with metered(model, name="second") as other:
        train_step(model, optimizer, (2, 8))
        other.step()
        with other.phase("evaluate"):
            pass
    assert other.run_id is None
    assert other.bill() is None
    monkeypatch.setenv("RANK", "0")
    with metered(model, name="first") as run:
        train_step(model, optimizer, (2, 8))
        run.step()
    assert [ledger.started(run_id).body["name"] for run_id in ledger.run_ids()] == ["first"]
    used = phases(ledger, run.run_id)[Phase.PRETRAIN]
    assert (used.tokens, used.flops) == (4 * 16, 4 * 16 * 3 * FORWARD)
    assert run.run_id is not None
    started = ledger.started(run.run_id).body
    assert started["n_processes"] == 4
    assert started["n_chips"] % 2 == 0  # the cores of two nodes


@pytest.mark.gpu
def test_on_a_gpu_joules_are_read_from_its_counter(ledger: Ledger) -> None:
    model = network().cuda()
    tokens = torch.zeros((2, 8), dtype=torch.int64, device="cuda")
    with metered(model) as run:
        for _ in range(50):
            model(tokens).sum().backward()
            run.step()
        torch.cuda.synchronize()
        time.sleep(0.3)
    used = phases(ledger, run.run_id)[Phase.PRETRAIN]
    assert used.flops == 50 * 16 * 3 * FORWARD
    assert used.energy.measured_j > 0
    assert used.energy.declared_j == 0


@pytest.mark.parametrize(
    ("options", "field"),
    [({"phase": "decode"}, "phase='decode'"), ({"n_chips": 0}, "n_chips=0")],
)
def test_what_cannot_be_is_refused_in_one_line(options: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError, match=field) as refused, metered(**options):  # type: ignore[arg-type]
        pass
    assert "\n" not in str(refused.value)


def test_a_plan_without_tokens_is_refused() -> None:
    with pytest.raises(RequestError, match="n_tokens=0"):
        Planned(n_tokens=0, hours=1)
