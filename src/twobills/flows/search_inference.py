"""What ``twobills search inference`` does: from names and words to the best ways to serve, as one document.

Weight formats that are looked at, unless some are given: 16 bits, the 8-bit format that the chip multiplies (fp8 before
integers), fp4 where it multiplies that, and 4-bit integers that are unpacked. Formats below 16 bits change what a model
says, usually little; that is the user's to judge, and the best of each format is shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twobills.counts.params import count_params
from twobills.errors import RequestError, SpecError, TargetError
from twobills.flows.asked import network_bytes_per_s, resolve_model
from twobills.flows.offered_chips import chip_prices, offered_chips
from twobills.flows.serve_command import PLACEHOLDER, plan_command, serve_commands, serve_notes
from twobills.meter.clock import Clock, monotonic
from twobills.money.rates import Rates
from twobills.perf.achieved import links_of
from twobills.plan.serving import about_speed, format_on
from twobills.plan.serving_chip import serving_chip
from twobills.plan.serving_found import FoundServing
from twobills.plan.serving_priced import Targets
from twobills.plan.serving_search import ServingObjective, search_serving
from twobills.plan.serving_space import ServingOffer, serving_space
from twobills.report.serving_search_document import serving_search_to_json
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.engine import Engine
from twobills.specs.hardware import ChipSpec
from twobills.specs.load import Load
from twobills.specs.serving_calibration import ServingCalibration, published_serving_calibration
from twobills.specs.weight_format import FORMATS, WeightFormat
from twobills.units import parse_duration, per_s_to_per_hour

ANY = "any"
WEIGHTS: Mapping[str, str] = {"bf16": "bf16", "fp8": "fp8", "int8": "w8a8", "fp4": "nvfp4", "int4": "int4_g128"}
"""Names on the command line; others are ``WeightFormat``'s own."""
_MILLISECONDS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*ms\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSearchRequest:
    """What was asked, in the user's words."""

    model: str
    chips: str
    """``NAME:COUNT``, several with commas."""
    prompt_tokens: float
    answer_tokens: float
    ttft: str | None = None
    """Seconds, or ``800ms``."""
    tpot: str | None = None
    requests_per_s: float | None = None
    cached_frac: float = 0.0
    weights: str = ANY
    """One format, several with commas, or any."""
    kv: str = ANY
    engine: Engine = Engine.SERVER
    objective: ServingObjective = ServingObjective.DOLLARS
    top: int = 10
    usd_per_chip_hour: str | None = None
    """One price for all chips, or ``NAME=USD``, several with commas."""
    network_gbps: float | None = None
    """Network of one chip, Gbit/s."""
    catalog_file: Path | None = None


def search(asked: ServingSearchRequest, clock: Clock = monotonic) -> dict[str, Any]:
    """The document that ``twobills search inference --json`` prints. Raises RequestError for a wrong request."""
    load = Load(
        prompt_tokens=asked.prompt_tokens,
        answer_tokens=asked.answer_tokens,
        requests_per_s=asked.requests_per_s,
        cached_frac=asked.cached_frac,
    )
    targets = Targets(_target("--ttft", asked.ttft), _target("--tpot", asked.tpot))
    model = resolve_model(asked.model, asked.catalog_file)
    chips = offered_chips(asked.chips, asked.catalog_file)
    rates = chip_prices([chip for chip, _ in chips], asked.usd_per_chip_hour, asked.catalog_file)
    offers, refused, assumed = _offers(asked, chips, rates)
    calibration = published_serving_calibration()
    start_s = clock()
    space = serving_space(
        model, offers, kvs=_formats("--kv", asked.kv) or _ANY_KV, engine=asked.engine, calibration=calibration
    )
    found = search_serving(space, load, targets, calibration, objective=asked.objective, top=asked.top)
    best, named = found.ranking[0], asked.model if Path(asked.model).exists() else PLACEHOLDER
    return {
        **serving_search_to_json(
            model.name, load, targets, found, n_params=count_params(model).total, objective=asked.objective
        ),
        "search_s": clock() - start_s,
        "engine": asked.engine.value,
        "refused": refused,
        "commands": serve_commands(named, best, load),
        "command_notes": serve_notes(named, best),
        "plan_command": plan_command(asked.model, best, load, _flags(asked, best)),
        "assumed": [*_assumed_prices(rates), *assumed, *_assumed(asked), *_speed(best, asked.engine, calibration)],
    }


def check_targets(document: Mapping[str, Any]) -> None:
    """Raises TargetError, saying what is missing, where nothing meets the targets."""
    if document["missed"]:
        raise TargetError(document["missed"])


_ANY_KV = (FORMATS["bf16"], FORMATS["fp8"])


def _offers(
    asked: ServingSearchRequest, chips: list[tuple[ChipSpec, int]], rates: Mapping[str, Rates | str]
) -> tuple[list[ServingOffer], list[dict[str, Any]], list[str]]:
    """What can be searched, what cannot and why, and what is assumed of the chips."""
    network = network_bytes_per_s(asked.network_gbps)
    offers: list[ServingOffer] = []
    refused: list[dict[str, Any]] = []
    assumed: list[str] = []
    for chip, n_chips in chips:
        price, served = rates[chip.name], serving_chip(chip)
        try:
            if isinstance(price, str):
                raise RequestError(price)
            cluster = ClusterSpec(chip=served.chip, n_chips=n_chips, scaleout_bytes_per_s=network)
            if len(chips) > 1:
                _check_links(cluster)
            offers.append(ServingOffer(cluster, price.usd_per_chip_s, _weights(asked.weights, cluster)))
            assumed += served.assumed
        except RequestError as error:
            refused.append({"chip": chip.name, "n_chips": n_chips, "reason": str(error)})
    if not offers:
        raise RequestError("; ".join(dict.fromkeys(str(each["reason"]) for each in refused)))
    return offers, refused, assumed


def _check_links(cluster: ClusterSpec) -> None:
    """Unknown links count as infinitely fast, which must not win against others; alone they are an assumption."""
    if cluster.n_chips > 1 and math.isinf(links_of(cluster)[0]):
        name = cluster.chip.name
        raise SpecError(f"chip {name}: neither its links nor its network are known; it can be searched by itself")


def _weights(text: str, cluster: ClusterSpec) -> tuple[WeightFormat, ...]:
    """The formats named, or those that the chip multiplies. Raises RequestError for what the chip cannot use."""
    if text == ANY:
        return any_weights(cluster.chip)
    return tuple(format_on(cluster, each.name) for each in _formats("--weights", text))


def any_weights(chip: ChipSpec) -> tuple[WeightFormat, ...]:
    """The formats that are looked at where none is named."""
    peaks = chip.peak_flops_per_s
    names = ["bf16"]
    if DType.FP8 in peaks or DType.INT8 in peaks:
        names.append("fp8" if DType.FP8 in peaks else "w8a8")
    if DType.FP4 in peaks:
        names.append("nvfp4")
    return tuple(FORMATS[name] for name in [*names, "int4_g128"])


def _formats(option: str, text: str) -> tuple[WeightFormat, ...]:
    """The formats named; none for any."""
    if text == ANY:
        return ()
    try:
        return tuple(WeightFormat.parse(WEIGHTS.get(part.strip(), part)) for part in text.split(","))
    except SpecError as error:
        raise RequestError(f"{option}: {error}") from None


def _flags(asked: ServingSearchRequest, best: FoundServing) -> dict[str, object]:
    """What else was asked, as ``plan inference`` spells it."""
    price = f"{per_s_to_per_hour(best.offer.usd_per_chip_s):g}" if asked.usd_per_chip_hour else None
    return {
        "engine": asked.engine.value if asked.engine is not Engine.SERVER else None,
        "network-gbps": None if asked.network_gbps is None else f"{asked.network_gbps:g}",
        "usd-per-chip-hour": price,
        "catalog": asked.catalog_file,
    }


def _target(option: str, text: str | None) -> float | None:
    """Seconds of a latency target."""
    if text is None:
        return None
    milliseconds = _MILLISECONDS.fullmatch(text)
    try:
        seconds = float(milliseconds[1]) / 1e3 if milliseconds else parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise RequestError(f"{option} {text!r}: write a time above 0 like 800ms or 0.8 (seconds)")
    return seconds


def _speed(best: FoundServing, engine: Engine, calibration: ServingCalibration) -> Iterator[str]:
    """What the winner's figures rest on."""
    return about_speed(best.offer.cluster, best.weights, engine, calibration, more_than_one=best.n_chips > 1)


def _assumed_prices(rates: Mapping[str, Rates | str]) -> list[str]:
    return [f"price of {chip}: {r.source}" for chip, r in rates.items() if not isinstance(r, str) and r.assumed]


def _assumed(asked: ServingSearchRequest) -> list[str]:
    found = ["every prompt and answer of the mean length"]
    if asked.requests_per_s is None:
        found.append("clients that keep each instance at its number of running sequences")
    if asked.weights == ANY:
        found.append("formats below 16 bits are good enough (--weights bf16 leaves the model as it is)")
    return found
