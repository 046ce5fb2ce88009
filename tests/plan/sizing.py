"""A small question of size, as tests of ``plan.size`` and its neighbours ask it."""

from __future__ import annotations

from twobills.laws.forms import Law
from twobills.laws.optimum import optimum_for_size
from twobills.laws.published import published_law
from twobills.money.rates import at_user_price
from twobills.plan.size import Question
from twobills.plan.size_costs import ServeOffer, Service, TrainOffer, TrainTerms
from twobills.specs import catalog
from twobills.specs.calibration import published_calibration
from twobills.specs.engine import Engine
from twobills.specs.life import Demand, LifeSpec
from twobills.specs.running import default_running
from twobills.specs.serving_calibration import published_serving_calibration
from twobills.specs.weight_format import FORMATS

LAW = published_law("besiroglu-2024")
USD = at_user_price(3.0, as_of="2026-01-01")
BF16, FP8, INT4 = (FORMATS[name] for name in ("bf16", "fp8", "int4_g128"))


def service(n_answers: float, *, prompt_tokens: float = 1000, answer_tokens: float = 300) -> Service:
    """Two years of so many answers."""
    return Service(
        n_answers=n_answers,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        life=LifeSpec(demand=Demand(requests_per_day=1.0)),
        kv=BF16,
        engine=Engine.SERVER,
        calibration=published_serving_calibration(),
    )


def train_offer(chip: str = "h100-sxm", n_chips: int | None = None) -> TrainOffer:
    return TrainOffer(catalog.chip(chip), n_chips, USD)


def serve_offer(chip: str = "h200", n_chips: int | None = None) -> ServeOffer:
    return ServeOffer(catalog.chip(chip), n_chips, USD.usd_per_chip_s, (BF16, FP8, INT4))


TERMS = TrainTerms(90.0, 8192, default_running(), published_calibration())


def question(n_answers: float, quality_params: float = 13e9, law: Law = LAW) -> Question:
    """As good as the compute-optimal model of that size."""
    target = optimum_for_size(law, quality_params).loss
    return Question(law, target, service(n_answers), (train_offer(),), TERMS, (serve_offer(),))
