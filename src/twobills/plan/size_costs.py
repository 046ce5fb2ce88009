"""What one size costs for each job: its training on offered chips, a life of answers on the cheapest way to serve it.

Training is ``plan.training``'s run at the usual batch. Where only a kind of chip is named, as many of them are taken,
in powers of two, as finish in the time wished for. Serving is ``plan.steady``'s instance at its largest batch, filled
as the life says, in whole machines that are always on. Where only a kind of chip is named, a machine is what an
instance takes: one chip, and where the model does not fit, or more chips serve cheaper, 2, 4, 8 ...
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.layouts import Column
from twobills.counts.params import count_params, sparsity
from twobills.errors import SpecError
from twobills.money.rates import Rates
from twobills.plan.global_batch import default_global_batch, sharable_batch
from twobills.plan.life import LifeCase, Serving, live, machines_for
from twobills.plan.serving_degrees import most_tensor_ranks
from twobills.plan.serving_space import Layouts, ServingOffer, Space, serving_space
from twobills.plan.steady import Steady, steady_state
from twobills.plan.training import RunPlan, plan_run
from twobills.specs.calibration import Calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.engine import Engine
from twobills.specs.hardware import ChipSpec
from twobills.specs.life import LifeSpec
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.run import JobKind, TrainingRun
from twobills.specs.running import Running
from twobills.specs.serving_calibration import ServingCalibration
from twobills.specs.weight_format import WeightFormat
from twobills.units import DAYS_PER_YEAR, SECONDS_PER_DAY

USUAL_MFU = 0.35
"""Assumed, only to choose how many chips finish in the time wished for."""
MOST_TRAIN_CHIPS = 65_536
"""Assumed: the most that are chosen where nobody says; beyond them the run takes longer."""
MACHINE_CHIPS, MOST_MACHINE_CHIPS = 8, 64
"""One server; more of them only for a model that does not fit one."""
_DOUBLINGS = 8
_UNBOUNDED = 1e300


class TrainOffer(NamedTuple):
    """Chips to train on."""

    chip: ChipSpec
    n_chips: int | None
    """None: as many as finish in time."""
    rates: Rates


class TrainTerms(NamedTuple):
    """How runs go."""

    days: float
    """Wished for, where the number of chips is ours to choose."""
    seq_len: int
    running: Running
    calibration: Calibration


class ServeOffer(NamedTuple):
    """Chips to serve on."""

    chip: ChipSpec
    n_chips: int | None
    """Of one machine; None: as an instance takes."""
    usd_per_chip_s: float
    weights: tuple[WeightFormat, ...]


class Service(NamedTuple):
    """A life of answers."""

    n_answers: float
    """Over the whole life."""
    prompt_tokens: float
    answer_tokens: float
    life: LifeSpec
    """Its demand is not read: it is ``n_answers`` spread evenly."""
    kv: WeightFormat
    engine: Engine
    calibration: ServingCalibration
    n_samples: int = 1
    """Answers written for each that is given; the prompt is read once."""

    @property
    def tokens(self) -> float:
        """Read and written over the life."""
        return self.n_answers * (self.prompt_tokens + self.n_samples * self.answer_tokens)

    @property
    def load(self) -> Load:
        """One sample as an engine sees it: its prompt is in the cache but for the first one's share."""
        return Load(
            prompt_tokens=self.prompt_tokens, answer_tokens=self.answer_tokens, cached_frac=1 - 1 / self.n_samples
        )


class ServedSize(NamedTuple):
    """The cheapest way to serve one size on one offer in one format."""

    machine_chips: int
    tp: int
    pp: int
    n_machines: float
    usd: float
    """Of whole machines over the life."""
    usd_per_answer: float
    """Of machines filled as the life says, without rounding to whole ones."""
    prompt_share: float
    """Of the time, what reading prompts adds."""
    tpot_s: float
    n_running: float
    """Sequences of one instance."""


def trained(
    model: ModelSpec, n_tokens: float, offer: TrainOffer, terms: TrainTerms, *, teacher: ModelSpec | None = None
) -> RunPlan:
    """The run on the offered chips. Raises SpecError where it does not fit, or not on any number that is tried."""
    n_chips = offer.n_chips or _chips_in_time(model, n_tokens, offer, terms.days)
    error: SpecError | None = None
    for _ in range(1 if offer.n_chips else _DOUBLINGS):
        try:
            return _run(model, n_tokens, offer, terms, n_chips, teacher)
        except SpecError as reason:
            error, n_chips = error or reason, 2 * n_chips
    raise error or SpecError(f"n_chips={n_chips}: no run fits")


def served(
    model: ModelSpec, offers: Sequence[ServeOffer], service: Service, paid_days: float
) -> list[list[ServedSize | None]]:
    """For each offer and each of its formats the cheapest way; None where the model does not fit."""
    found = []
    for offer in offers:
        n_chips, ways = offer.n_chips or MACHINE_CHIPS, _ways(model, offer, service, paid_days)
        if offer.n_chips is None:
            while not any(ways) and n_chips < MOST_MACHINE_CHIPS:
                n_chips *= 2
                ways = _ways(model, offer._replace(n_chips=n_chips), service, paid_days)
        found.append(ways)
    return found


def paid_days(life: LifeSpec) -> float:
    """What a machine that is always on costs over the life, in days at the first day's price."""
    bills = live(LifeCase(0.0, Serving(0.0, 1.0, _UNBOUNDED), life))
    return float(bills.at_end(bills.inference_usd))


def _run(
    model: ModelSpec,
    n_tokens: float,
    offer: TrainOffer,
    terms: TrainTerms,
    n_chips: int,
    teacher: ModelSpec | None,
) -> RunPlan:
    wanted = default_global_batch(n_tokens, terms.seq_len, n_chips, sparsity=sparsity(model))
    batch = min(sharable_batch(wanted, [n_chips]), max(1, int(n_tokens // terms.seq_len)))
    run = TrainingRun(
        job=JobKind.PRETRAIN if teacher is None else JobKind.DISTILL,
        n_tokens=n_tokens,
        seq_len=terms.seq_len,
        global_batch=batch,
        teacher=teacher,
    )
    cluster = ClusterSpec(chip=offer.chip, n_chips=n_chips)
    return plan_run(model, run, cluster, offer.rates, terms.running, terms.calibration)


def _chips_in_time(model: ModelSpec, n_tokens: float, offer: TrainOffer, days: float) -> int:
    work = 6 * count_params(model).active * n_tokens
    one = ClusterSpec(chip=offer.chip, n_chips=1).peak(DType.BF16) * USUAL_MFU * days * SECONDS_PER_DAY
    return min(1 << max(0, math.ceil(math.log2(work / one))), MOST_TRAIN_CHIPS)


def _ways(model: ModelSpec, offer: ServeOffer, service: Service, days: float) -> list[ServedSize | None]:
    cluster = ClusterSpec(chip=offer.chip, n_chips=offer.n_chips or _server_chips(offer.chip))
    space = serving_space(
        model,
        [ServingOffer(cluster, offer.usd_per_chip_s, offer.weights)],
        kvs=(service.kv,),
        engine=service.engine,
        calibration=service.calibration,
    )
    layouts = space.layouts
    state = steady_state(model, space.instance(layouts), space.rates_of(layouts), service.load)
    fits = state.fits
    if (fits & (layouts.pp == 1)).any():
        fits = fits & (layouts.pp == 1)  # stages in a row save dollars and cost every token time
    machine_chips = np.asarray(layouts.n_chips if offer.n_chips is None else 0 * layouts.n_chips + offer.n_chips)
    costs = _costs(layouts, state, machine_chips, offer.usd_per_chip_s, service, days)
    return [
        _cheapest(np.flatnonzero(fits & (layouts.weights == space.weights.index(each))), space, state, costs)
        for each in offer.weights
    ]


def _server_chips(chip: ChipSpec) -> int:
    """Of one server: as far as the fast links reach, at most ``MACHINE_CHIPS``."""
    return min(MACHINE_CHIPS, most_tensor_ranks(ClusterSpec(chip=chip, n_chips=MACHINE_CHIPS)))


class _Costs(NamedTuple):
    machine_chips: Column
    n_machines: Column
    usd: Column
    usd_per_answer: Column


def _costs(
    layouts: Layouts,
    state: Steady,
    machine_chips: Column,
    usd_per_chip_s: float,
    service: Service,
    days: float,
) -> _Costs:
    life, samples_per_day = service.life, service.n_answers * service.n_samples / (service.life.years * DAYS_PER_YEAR)
    at_most = np.floor(machine_chips / layouts.n_chips) * np.maximum(state.answers_per_s, 1e-300) * SECONDS_PER_DAY
    n_machines = machines_for(samples_per_day, at_most, life) if service.n_answers else at_most * 0
    usd_per_day = machine_chips * usd_per_chip_s * SECONDS_PER_DAY
    filled = at_most * life.fill_frac / life.peak_over_mean
    worth = days / (life.years * DAYS_PER_YEAR)
    per_answer = usd_per_day * worth / filled * service.n_samples
    return _Costs(machine_chips, n_machines, n_machines * usd_per_day * days, per_answer)


def _cheapest(rows: NDArray[np.intp], space: Space, state: Steady, costs: _Costs) -> ServedSize | None:
    if not len(rows):
        return None
    row = rows[np.lexsort((state.tpot_s[rows], costs.usd_per_answer[rows], costs.usd[rows]))[0]]
    return ServedSize(
        machine_chips=int(costs.machine_chips[row]),
        tp=int(space.layouts.tp[row]),
        pp=int(space.layouts.pp[row]),
        n_machines=float(costs.n_machines[row]),
        usd=float(costs.usd[row]),
        usd_per_answer=float(costs.usd_per_answer[row]),
        prompt_share=float(state.prompt_step_share[row]),
        tpot_s=float(state.tpot_s[row]),
        n_running=float(state.n_running[row]),
    )
