"""The two halves of a life from data sheets: a training run's bill, and what one serving machine costs and takes.

A machine is the chips that were named for serving. What it takes at most is found with all requests queued; for the
traffic there are as many such machines as keep each below the planned fill in the busiest hours, and the bill of one is
then planned at its share of the traffic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from twobills.errors import RequestError, SpecError
from twobills.flows.asked import parse_chips, resolve_model
from twobills.flows.chip_terms import Terms, chip_terms, split_of
from twobills.flows.plan_training import TrainingRequest, planned_run
from twobills.flows.training_document import assumptions, run_plan_to_json
from twobills.money.rates import Rates
from twobills.plan.interval import Interval, Spread
from twobills.plan.life import Serving, machines_for
from twobills.plan.serving import ServingPlan, plan_serving
from twobills.plan.serving_chip import serving_chip
from twobills.specs import catalog
from twobills.specs.calibration import published_calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.engine import Engine
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.plan_file import PlanSpec
from twobills.specs.running import default_running
from twobills.specs.serving_calibration import published_serving_calibration
from twobills.units import SECONDS_PER_DAY

DEFAULT_CHIPS = "h100-sxm"
_MOST_DOUBLINGS = 7
_NEAR_FRAC = 0.1
"""Where no serving machine is named: the fewest chips that answer within this share as much each as any number does."""


class Trained(NamedTuple):
    """The training half."""

    document: dict[str, Any]
    total_usd: Interval
    chip: str
    n_chips: int
    split: dict[str, Any] | None
    assumed: list[str]


class Served(NamedTuple):
    """The serving half: one machine, and how sure that is."""

    document: dict[str, Any]
    """Without the machines' number, which the life says."""
    serving: Serving
    spread: Spread
    """Of the chip-seconds of an answer."""
    chip: str
    machine_chips: int
    prices: Mapping[str, Mapping[str, float | None]]
    """Dollars per million tokens: of the time used, of all that is reserved, of machines that are always full."""
    split: dict[str, Any] | None
    rates_of_work: str
    assumed: list[str]


def trained_on_datasheet(asked: PlanSpec) -> Trained:
    """The bill of the run. Raises RequestError, one line, for what cannot be."""
    chips = asked.train_chips or asked.chips or DEFAULT_CHIPS
    request = TrainingRequest(
        model=asked.model,
        tokens=asked.tokens,
        chips=chips,
        batch_size=asked.batch_size,
        seq_len=asked.seq_len,
        dtype=DType.parse(asked.train_dtype),
        owned=asked.owned,
        usd_per_chip_hour=_first(asked.train_usd_per_chip_hour, asked.usd_per_chip_hour),
        catalog_file=asked.catalog_file,
    )
    plan, terms = planned_run(request)
    return Trained(
        document=run_plan_to_json(plan),
        total_usd=plan.figures.total_usd,
        chip=plan.cluster.chip.name,
        n_chips=plan.cluster.n_chips,
        split=split_of(plan.bill, plan.cluster.chip, terms),
        assumed=[f"training: {line}" for line in assumptions(plan, published_calibration())],
    )


def served_on_datasheet(asked: PlanSpec, like: Mapping[str, int] | None = None) -> Served:
    """One serving machine at its share of the traffic. Raises RequestError, one line, for what cannot be.

    ``like``: degrees of parallelism of a plan that was made, which are then not sought again.
    """
    machine = _machine(asked, like or {})
    full, life = machine.full, asked.life()
    at_most = full.served.answers_per_s
    launch = life.demand.launch_requests_per_day / SECONDS_PER_DAY
    n_machines = int(machines_for(launch, at_most, life))
    planned = machine.at(launch / n_machines) if launch > 0 else full
    unused = machine.cluster.n_chips / planned.n_chips
    usd_per_day = planned.bill.total_usd * unused
    return Served(
        document=_document(planned, machine, at_most),
        serving=Serving(
            usd_per_request=full.bill.total_usd * unused / (at_most * SECONDS_PER_DAY),
            usd_per_machine_day=usd_per_day,
            requests_per_machine_day=at_most * SECONDS_PER_DAY,
        ),
        spread=full.figures.usd_per_request.spread,
        chip=machine.cluster.chip.name,
        machine_chips=machine.cluster.n_chips,
        prices={
            "usd_per_mtok": _per_mtok(planned, "", unused),
            "usd_per_mtok_reserved": _per_mtok(planned, "_reserved", unused),
            "usd_per_mtok_when_full": _per_mtok(full, "", unused),
        },
        split=split_of(planned.bill, machine.cluster.chip, machine.terms),
        rates_of_work="data sheet",
        assumed=[f"inference: {line}" for line in _assumed(planned, machine)],
    )


class _Machine(NamedTuple):
    """A serving machine of so many chips, planned with all requests queued."""

    asked: PlanSpec
    model: ModelSpec
    cluster: ClusterSpec
    terms: Terms
    full: ServingPlan
    assumed: tuple[str, ...]

    @property
    def answers_per_chip_s(self) -> float:
        """Of every chip of the machine, those left over included."""
        return self.full.served.answers_per_s / self.cluster.n_chips

    def at(self, requests_per_s: float) -> ServingPlan:
        """The same machine at this rate."""
        full = self.full
        degrees = {"tp": full.tp, "pp": full.pp, "ep": full.ep, "dp": full.dp, "n_instances": full.n_instances}
        return _plan(self.asked, self.model, self.cluster, self.terms.rates, requests_per_s, **degrees)


def _machine(asked: PlanSpec, like: Mapping[str, int]) -> _Machine:
    model = resolve_model(asked.model, asked.catalog_file)
    given = asked.serve_chips or asked.chips
    name = parse_chips(given or asked.train_chips or DEFAULT_CHIPS)[0]
    chip, assumed = serving_chip(catalog.chip(name, asked.catalog_file))
    terms = chip_terms(
        chip,
        default_running(),
        owning=asked.owned,
        usd_per_chip_hour=_first(asked.serve_usd_per_chip_hour, asked.usd_per_chip_hour),
        catalog_file=asked.catalog_file,
    )
    sizes = [parse_chips(asked.serve_chips)[1]] if asked.serve_chips else [2**n for n in range(_MOST_DOUBLINGS + 1)]
    found: list[_Machine] = []
    error: SpecError | None = None
    for n_chips in sizes:
        if found and n_chips > (chip.scaleup_chips or 1):
            break
        cluster = ClusterSpec(chip=chip, n_chips=n_chips)
        try:
            full = _full(asked, model, cluster, terms.rates, like)
        except SpecError as reason:
            error = error or reason
        else:
            found.append(_Machine(asked, model, cluster, terms, full, assumed))
    if not found:
        raise error or RequestError(f"--serve-chips {given}: no chips")
    best = max(machine.answers_per_chip_s for machine in found)
    return next(machine for machine in found if machine.answers_per_chip_s >= best * (1 - _NEAR_FRAC))


def _full(
    asked: PlanSpec, model: ModelSpec, cluster: ClusterSpec, rates: Rates, like: Mapping[str, int]
) -> ServingPlan:
    """The machine with all requests queued, spread so that the whole of it answers most, chips left over included.

    Stages in a row only where nothing fits without them: they save dollars and cost every token time.
    """
    if like:
        return _plan(asked, model, cluster, rates, None, **like)
    error: SpecError | None = None
    widths = [tp for tp in range(1, cluster.n_fast + 1) if cluster.n_chips % tp == 0]
    for stages in ({"pp": 1}, {}):
        plans = []
        for tp in widths:
            try:
                plans.append(_plan(asked, model, cluster, rates, None, tp=tp, **stages))
            except SpecError as found:
                error = found
        if plans:
            return max(plans, key=lambda plan: plan.served.answers_per_s)
    raise error or SpecError(f"n_chips={cluster.n_chips}: nothing fits")


def _plan(
    asked: PlanSpec, model: ModelSpec, cluster: ClusterSpec, rates: Rates, requests_per_s: float | None, **degrees: Any
) -> ServingPlan:
    load = Load(
        prompt_tokens=asked.prompt_tokens,
        answer_tokens=asked.answer_tokens,
        cached_frac=asked.cached,
        requests_per_s=requests_per_s,
    )
    return plan_serving(
        model,
        load,
        cluster,
        rates,
        default_running(),
        published_serving_calibration(),
        engine=Engine(asked.engine),
        weights=asked.weights,
        kv=asked.kv,
        **degrees,
    )


def _document(plan: ServingPlan, machine: _Machine, at_most: float) -> dict[str, Any]:
    figures = plan.figures
    latencies = ("ttft_s", "ttft_p99_s", "tpot_s", "e2e_s", "output_tokens_per_s_per_user")
    return {
        "chip": machine.cluster.chip.name,
        "chips_per_machine": machine.cluster.n_chips,
        "parallel": {"tp": plan.tp, "pp": plan.pp, "ep": plan.ep, "dp": plan.dp, "n_instances": plan.n_instances},
        "weights": plan.weight_format.name,
        "kv": plan.kv_format.name,
        "engine": plan.engine.value,
        "requests_per_day_per_machine_at_most": at_most * SECONDS_PER_DAY,
        "utilization_frac": float(plan.steady.utilization[0]),
        **{name: getattr(figures, name).to_json() for name in latencies},
        "j_per_token": figures.j_per_token.to_json() if figures.j_per_token else None,
        "bill": plan.bill.to_json(),
    }


def _per_mtok(plan: ServingPlan, view: str, unused: float) -> dict[str, float | None]:
    """By kind of token; chips of the machine that are left over are paid for too."""
    kinds = ("input", "cached_input", "output")
    return {kind: getattr(plan.figures, f"usd_per_mtok_{kind}{view}").value * unused for kind in kinds}


def _assumed(plan: ServingPlan, machine: _Machine) -> Iterator[str]:
    yield from machine.assumed
    yield from (line for line in plan.assumed if not line.startswith("instances are made"))
    if plan.bill.rates.assumed:
        yield f"price: {plan.bill.rates.source}"


def _first(*prices: float | None) -> float | None:
    return next((price for price in prices if price is not None), None)
