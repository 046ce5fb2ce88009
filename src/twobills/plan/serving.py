"""The predicted inference bill of any model on any chips under a load: speed, waiting, joules, dollars per token.

The instance settles as ``plan.steady`` says; who pays for a step is ``plan.serving_split``'s rule; dollars come from
``money.price`` on one day of the machines. Two views: of the chip-seconds in which steps run (**used**: any request is
there, as the meter counts it), and of all of them (**reserved**: whole instances, always on, waiting included). With
clients or a queue all offered chips work; for requests that come as they like only the fewest chips are paid for that
are not too busy (``plan.serving_choice``).

Intervals: speeds miss log-normally (``ServingCalibration.log_sigma``); reserved dollars then move by whole instances
where their number is ours to choose and not at all where it is given; power adds the ranges of its sources.
Left out: variance of lengths, day and night, replicas against failures, the network to the clients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from twobills.errors import SpecError
from twobills.money.bill import Bill, price
from twobills.money.rates import Rates
from twobills.perf.serving_step import ServingRates, product_group, serving_rates
from twobills.plan.serving_choice import TARGET_UTILIZATION, Offer, chosen
from twobills.plan.serving_day import IDLE_DRAW, Served, day_usage, outcome_of
from twobills.plan.serving_degrees import Degrees, only_sram
from twobills.plan.serving_figures import ServingFigures, figures_of
from twobills.plan.serving_split import TokenShares, split_step
from twobills.plan.speculative import Speculated, Speculation, shares_of, speculated
from twobills.plan.steady import Steady
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.engine import Engine
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.running import Running
from twobills.specs.serving_calibration import ServingCalibration, of_engine, sigma_of
from twobills.specs.weight_format import WeightFormat
from twobills.units import show_bytes, show_frac


class ServingPlan(NamedTuple):
    """A load that has not come: how it would be served and what that should cost."""

    model: ModelSpec
    load: Load
    cluster: ClusterSpec
    """One instance's chips."""
    n_instances: int
    tp: int
    pp: int
    ep: int
    dp: int
    weight_format: WeightFormat
    kv_format: WeightFormat
    engine: Engine
    steady: Steady
    """Of one instance, one row."""
    served: Served
    speculated: Speculated | None
    speed: ServingRates
    bill: Bill
    """Of one day of the reserved machines."""
    figures: ServingFigures
    n_compared: int
    assumed: tuple[str, ...]

    @property
    def n_chips(self) -> int:
        """Chips that are paid for."""
        return self.cluster.n_chips * self.n_instances

    @property
    def shares(self) -> TokenShares:
        """Who pays for the time in which steps run."""
        return self.served.shares


def plan_serving(
    model: ModelSpec,
    load: Load,
    cluster: ClusterSpec,
    rates: Rates,
    running: Running,
    calibration: ServingCalibration,
    *,
    engine: Engine = Engine.SERVER,
    weights: str = "bf16",
    kv: str = "bf16",
    tp: int | None = None,
    pp: int | None = None,
    ep: int | None = None,
    dp: int | None = None,
    n_instances: int | None = None,
    speculation: Speculation | None = None,
) -> ServingPlan:
    """The bill of a load on at most the chips of ``cluster``; degrees that are not given are chosen.

    Raises SpecError, one line: where the load saturates the chips (and what they can take), where the model does not
    fit (by how much, and what would), where something contradicts itself.
    """
    check_context(model, load)
    weight_format, kv_format = format_on(cluster, weights), WeightFormat.parse(kv)
    speed = serving_rates(cluster, engine, weight_format.compute, calibration)
    fixed = Degrees(tp, pp, ep, dp, n_instances)
    choice = chosen(Offer(model, load, cluster, speed, weight_format, kv_format, fixed))
    served = Served(
        model=model,
        load=load,
        cluster=replace(cluster, n_chips=choice.way.n_chips),
        n_instances=choice.n_instances,
        n_needed=choice.n_needed,
        capacity_per_s=choice.capacity_per_s,
        instance=choice.instance,
        steady=choice.steady,
        shares=split_step(model, choice.instance, speed, load, float(choice.steady.n_running[0])),
        log_sigma=log_sigma_of(cluster, engine, calibration),
    )
    found = None
    if speculation is not None:
        served, found = _with_speculation(served, cluster, speed, speculation)
    bill = price(day_usage(served, running), rates)
    return ServingPlan(
        model=model,
        load=load,
        cluster=served.cluster,
        n_instances=served.n_instances,
        **choice.way._asdict(),
        weight_format=weight_format,
        kv_format=kv_format,
        engine=engine,
        steady=served.steady,
        served=served,
        speculated=found,
        speed=speed,
        bill=bill,
        figures=figures_of(outcome_of(served), bill, running),
        n_compared=choice.n_compared,
        assumed=tuple(_assumed(served, cluster, weight_format, engine, calibration)),
    )


def _with_speculation(
    plain: Served, offered: ClusterSpec, rates: ServingRates, speculation: Speculation
) -> tuple[Served, Speculated]:
    """The same way of spreading, with guesses, on as many instances as those take."""

    def found(n_instances: int) -> Speculated:
        return speculated(
            plain.model, plain.instance, rates, plain.load, plain.steady, speculation, n_instances=n_instances
        )

    n_instances, n_needed = plain.n_instances, plain.n_needed
    if n_needed is not None:
        most = offered.n_chips // plain.cluster.n_chips
        n_needed = (plain.load.requests_per_s or 0.0) / (found(most).capacity_per_s * TARGET_UTILIZATION)
        n_instances = min(math.ceil(n_needed), most)
    best = found(n_instances)
    served = plain._replace(
        n_instances=n_instances,
        n_needed=n_needed,
        capacity_per_s=best.capacity_per_s,
        steady=best.steady,
        shares=shares_of(plain.shares, best),
        draft_share=best.draft_share,
        decode_work=best.decode_work,
    )
    return served, best


def check_context(model: ModelSpec, load: Load) -> None:
    """Raises SpecError where prompt and answer are longer than the model's positions reach."""
    if load.prompt_tokens + load.answer_tokens > model.max_seq_len:
        raise SpecError(
            f"prompt_tokens={load.prompt_tokens:g} and answer_tokens={load.answer_tokens:g}: together more than the "
            f"{model.max_seq_len:,} positions of {model.name}; shorten one"
        )


def format_on(cluster: ClusterSpec, weights: str) -> WeightFormat:
    """The format, if the chip can use it: 8-bit products need their peak, smaller weights are unpacked instead.

    Raises SpecError, naming what the chip has.
    """
    found, peaks = WeightFormat.parse(weights), cluster.chip.peak_flops_per_s
    as_stored = 8 <= found.bits_per_weight < 8.5 and found.compute in (DType.FP8, DType.INT8)
    if as_stored and found.compute not in peaks:
        raise SpecError(
            f"weights={weights}: {cluster.chip.name} has no {found.compute} products; it has {', '.join(peaks)}; "
            "w8a16 or int4 weights are unpacked to 16 bits on any chip"
        )
    return found


def log_sigma_of(cluster: ClusterSpec, engine: Engine, calibration: ServingCalibration) -> float:
    """How far a forecast of these chips misses; wider for a family that was not among the rows fitted."""
    group = product_group(cluster.chip)
    return sigma_of(calibration, engine, "not fitted" if group == "other" else group)


def about_speed(
    cluster: ClusterSpec, weights: WeightFormat, engine: Engine, calibration: ServingCalibration, *, more_than_one: bool
) -> Iterator[str]:
    """What is assumed of the chips, in words."""
    chip, sigma = cluster.chip, log_sigma_of(cluster, engine, calibration)
    yield f"speed: data sheet times fractions fitted to published figures, forecasts miss log-normally, sigma {sigma:g}"
    if sigma != of_engine(calibration.log_sigma, engine):
        yield f"speed of {chip.family or chip.name}: the mean of the families that were fitted, a wider interval"
    if only_sram(cluster):
        yield f"all {show_bytes(cluster.memory_bytes)} of each {chip.name} hold weights and cache"
    if more_than_one and chip.scaleup_bytes_per_s is None:
        network = cluster.scaleout_bytes_per_s or chip.scaleout_bytes_per_s
        rate = f"taken as fast as its network, {show_bytes(network)}/s" if network else "taken as costing nothing"
        yield f"links of {chip.name}: no rate is known, {rate}"
    if weights.compute.bytes < DType.BF16.bytes and weights.compute not in chip.peak_flops_per_s:
        yield f"{weights.name} weights are unpacked to 16 bits: {chip.name} has no {weights.compute} products"


def _assumed(
    served: Served, offered: ClusterSpec, weights: WeightFormat, engine: Engine, calibration: ServingCalibration
) -> Iterator[str]:
    yield from about_speed(offered, weights, engine, calibration, more_than_one=served.cluster.n_chips > 1)
    left = offered.n_chips - served.n_chips
    unused = f"{left:,} of the offered chips are not needed and not paid for" if left else ""
    if served.n_needed is not None:
        yield f"instances are at most {show_frac(TARGET_UTILIZATION)} busy where the chips allow"
    if unused:
        yield unused
    if served.load.requests_per_s is not None:
        yield f"a waiting server draws {show_frac(IDLE_DRAW)} of what a working one does"
