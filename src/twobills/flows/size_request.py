"""What ``twobills size`` was asked, in the user's words, as a question with laws, chips, prices and a life."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from twobills.counts.params import count_params
from twobills.errors import RequestError, SpecError
from twobills.flows.asked import MOST_TOKENS, quantity, resolve_model
from twobills.flows.laws_questions import chosen_law
from twobills.flows.offered_chips import chip_prices, offered_chips
from twobills.flows.plan_training import MAX_SEQ_LEN
from twobills.flows.search_inference import any_weights
from twobills.laws.forms import Law
from twobills.laws.published import DEFAULT_LAW, published, published_laws
from twobills.laws.quality import Quality
from twobills.laws.testtime import CoverageLaw
from twobills.money.rates import Rates
from twobills.plan.serving_chip import serving_chip
from twobills.plan.size import Question
from twobills.plan.size_costs import ServeOffer, Service, TrainOffer, TrainTerms
from twobills.plan.size_options import Teacher
from twobills.specs import catalog
from twobills.specs.calibration import published_calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.engine import Engine
from twobills.specs.hardware import ChipSpec
from twobills.specs.life import YEARS, LifeSpec
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.plan_file import plan_of
from twobills.specs.running import default_running
from twobills.specs.serving_calibration import published_serving_calibration
from twobills.specs.trained_tokens import trained_tokens
from twobills.specs.weight_format import WeightFormat
from twobills.units import DAYS_PER_YEAR

TRAIN_DAYS = 90.0
"""Assumed: how long a run may take, where the number of chips is ours to choose."""
COVERAGE_LAW = "brown-2024-swe-bench-lite"
MOST_ANSWERS, MOST_SAMPLES = 1e17, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRequest:
    """None where nothing was said."""

    quality_of: str | None = None
    tokens: str | None = None
    """That the model named was trained on, where the catalogue does not know."""
    quality_of_params: str | None = None
    loss: str | None = None
    law: str = DEFAULT_LAW
    answers: str = "0"
    prompt_tokens: float = 1000
    answer_tokens: float = 300
    train_chips: str
    serve_chips: str
    train_days: float = TRAIN_DAYS
    params: str | None = None
    """A size to price beside the best."""
    teacher: str | None = None
    teacher_tokens: str | None = None
    unique_tokens: str | None = None
    samples: int = 4
    coverage_law: str = COVERAGE_LAW
    years: float | None = None
    peak_over_mean: float | None = None
    fill: str | None = None
    price_decline: str | None = None
    discount: str | None = None
    kv: str = "bf16"
    engine: Engine = Engine.SERVER
    usd_per_chip_hour: str | None = None
    catalog_file: Path | None = None


class KnownModel(NamedTuple):
    """A model of the catalogue with what it was trained on."""

    name: str
    spec: ModelSpec
    n_params: float
    """Active ones."""
    n_tokens: float
    source: str
    verified: bool


class Asked(NamedTuple):
    """The request, understood."""

    law: Law
    law_facts: dict[str, Any]
    quality: Quality
    known: KnownModel | None
    question: Question
    rates: dict[str, Rates]
    teacher: Teacher | None
    coverage: CoverageLaw
    unique_tokens: float | None
    params: float | None
    assumed: tuple[str, ...]


def understood(asked: SizeRequest) -> Asked:
    """Raises RequestError, one line, for what cannot be meant."""
    law, facts = chosen_law(asked.law)
    quality, known = _quality(asked)
    target = float(quality.target(law))
    train, serve = _chips("--train-chips", asked.train_chips, asked), _chips("--serve-chips", asked.serve_chips, asked)
    rates = _rates([chip for chip, _ in (*train, *serve)], asked)
    served = [(serving_chip(chip), n) for chip, n in serve]
    question = Question(
        law=law,
        target_loss=target,
        service=_service(asked),
        train=tuple(TrainOffer(chip, n, rates[chip.name]) for chip, n in train),
        terms=TrainTerms(_days(asked.train_days), MAX_SEQ_LEN, default_running(), published_calibration()),
        serve=tuple(
            ServeOffer(each.chip, n, rates[each.chip.name].usd_per_chip_s, any_weights(each.chip)) for each, n in served
        ),
    )
    if not 1 <= asked.samples <= MOST_SAMPLES:
        raise RequestError(f"--samples {asked.samples}: must be from 1 to {MOST_SAMPLES}")
    return Asked(
        law=law,
        law_facts=facts,
        quality=quality,
        known=known,
        question=question,
        rates=rates,
        teacher=_teacher(asked),
        coverage=_coverage(asked.coverage_law),
        unique_tokens=quantity("--unique-tokens", asked.unique_tokens, MOST_TOKENS) if asked.unique_tokens else None,
        params=quantity("--params", asked.params) if asked.params else None,
        assumed=tuple(words for each, _ in served for words in each.assumed),
    )


def known_model(option: str, name: str, tokens: str | None, catalog_file: Path | None) -> KnownModel:
    """The model of that name with its tokens. Raises RequestError where nobody knows them."""
    spec = resolve_model(name, catalog_file)
    known = trained_tokens().get(spec.name)
    ours = known is not None and catalog.models(catalog_file).get(spec.name) == catalog.models().get(spec.name)
    n_params = float(count_params(spec).active)
    if tokens is not None:
        return KnownModel(spec.name, spec, n_params, quantity(option, tokens, MOST_TOKENS), "given", True)
    if known is None or not ours:
        raise RequestError(f"model {spec.name}: its training tokens are not in the catalogue; give them with {option}")
    return KnownModel(spec.name, spec, n_params, known.n_tokens, known.source, known.verified)


def _quality(asked: SizeRequest) -> tuple[Quality, KnownModel | None]:
    given = [asked.quality_of, asked.quality_of_params, asked.loss]
    if sum(each is not None for each in given) != 1:
        raise RequestError("give one of --quality-of MODEL, --quality-of-params N and --loss NATS: how good it must be")
    if asked.tokens is not None and asked.quality_of is None:
        raise RequestError("--tokens: goes with --quality-of, whose training tokens they are")
    if asked.quality_of is not None:
        known = known_model("--tokens", asked.quality_of, asked.tokens, asked.catalog_file)
        return Quality(n_params=known.n_params, n_tokens=known.n_tokens), known
    if asked.quality_of_params is not None:
        return Quality(n_params=quantity("--quality-of-params", asked.quality_of_params, 1e16)), None
    return Quality(loss=quantity("--loss", asked.loss or "", 1e3)), None


def _service(asked: SizeRequest) -> Service:
    n_answers = 0.0 if asked.answers.strip() in {"0", "0.0"} else quantity("--answers", asked.answers, MOST_ANSWERS)
    Load(prompt_tokens=asked.prompt_tokens, answer_tokens=asked.answer_tokens)
    try:
        kv = WeightFormat.parse(asked.kv)
    except SpecError as error:
        raise RequestError(f"--kv: {error}") from None
    return Service(
        n_answers=n_answers,
        prompt_tokens=asked.prompt_tokens,
        answer_tokens=asked.answer_tokens,
        life=_life(asked, n_answers),
        kv=kv,
        engine=asked.engine,
        calibration=published_serving_calibration(),
    )


def _life(asked: SizeRequest, n_answers: float) -> LifeSpec:
    """As ``twobills plan`` reads the same options."""
    names = ("years", "peak_over_mean", "fill", "price_decline", "discount")
    given = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
    years = given.get("years", YEARS)
    if n_answers and years > 0:
        given["requests_per_day"] = n_answers / (years * DAYS_PER_YEAR)
    return plan_of({"model": "size", "tokens": "1", **given}, "size").life()


def _chips(option: str, text: str, asked: SizeRequest) -> list[tuple[ChipSpec, int | None]]:
    """Kinds, each with its number where one is given."""
    found: list[tuple[ChipSpec, int | None]] = []
    for part in dict.fromkeys(each.strip() for each in text.split(",")):
        try:
            ((chip, n_chips),) = offered_chips(part, asked.catalog_file)
            ClusterSpec(chip=serving_chip(chip).chip if option == "--serve-chips" else chip, n_chips=1)
        except RequestError as error:
            raise type(error)(str(error).replace("--chips", option)) from None
        found.append((chip, n_chips if ":" in part else None))
    return found


def _rates(chips: Sequence[ChipSpec], asked: SizeRequest) -> dict[str, Rates]:
    found: dict[str, Rates] = {}
    for name, rates in chip_prices(chips, asked.usd_per_chip_hour, asked.catalog_file).items():
        if isinstance(rates, str):
            raise RequestError(rates)
        if not rates.usd_per_chip_s > 0:
            raise RequestError(
                f"--usd-per-chip-hour: an hour of {name} costs nothing, so no size is cheaper than another"
            )
        found[name] = rates
    return found


def _days(days: float) -> float:
    if not 0 < days < math.inf:
        raise RequestError(f"--train-days {days:g}: must be above 0")
    return days


def _teacher(asked: SizeRequest) -> Teacher | None:
    if asked.teacher is None:
        if asked.teacher_tokens is not None:
            raise RequestError("--teacher-tokens: goes with --teacher, whose training tokens they are")
        return None
    known = known_model("--teacher-tokens", asked.teacher, asked.teacher_tokens, asked.catalog_file)
    return Teacher(known.name, known.spec, known.n_params, known.n_tokens, assumed=False)


def _coverage(name: str) -> CoverageLaw:
    law = published(name).law
    if not isinstance(law, CoverageLaw):
        known = ", ".join(row for row, each in published_laws().items() if isinstance(each.law, CoverageLaw))
        raise RequestError(f"--coverage-law {name}: says nothing of repeated samples; one of {known}")
    return law
