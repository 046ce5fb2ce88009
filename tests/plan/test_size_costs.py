"""What one size costs: the run is plan.training's, serving is the search's rate, memory steps, prompts shared."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.sizing import BF16, TERMS, USD, serve_offer, service, train_offer
from twobills.counts.llama_shape import llama_shape
from twobills.errors import SpecError
from twobills.plan.serving import plan_serving
from twobills.plan.size_costs import ServedSize, Service, paid_days, served, trained
from twobills.specs.cluster import ClusterSpec
from twobills.specs.life import Demand, LifeSpec
from twobills.specs.load import Load
from twobills.specs.running import default_running
from twobills.specs.serving_calibration import published_serving_calibration
from twobills.units import DAYS_PER_YEAR, SECONDS_PER_DAY

EIGHT, SEVENTY = llama_shape(8e9), llama_shape(70e9)


def way(model_size: float, offer: object = None, of: Service | None = None, column: int = 0) -> ServedSize | None:
    asked = of or service(1e10)
    offer = offer or serve_offer()
    return served(llama_shape(model_size), [offer], asked, paid_days(asked.life))[0][column]  # type: ignore[list-item]


def test_a_machine_steps_up_where_the_model_no_longer_fits_a_chip() -> None:
    """141 GB of an H200 hold 8B in 16 bits, not 70B with a cache beside it, and 405B takes a whole server."""
    chips = [found.machine_chips if (found := way(n)) else None for n in (8e9, 75e9, 405e9)]
    assert chips[0] == 1
    assert chips[1] is not None
    assert chips[1] >= 2
    assert chips[2] == 8
    four_bit = way(75e9, column=2)
    assert four_bit is not None
    assert four_bit.machine_chips < chips[1]


def test_a_lone_request_a_day_still_takes_a_machine() -> None:
    found = way(8e9, of=service(700))
    assert found is not None
    assert found.n_machines == 1
    assert found.usd == pytest.approx(2 * DAYS_PER_YEAR * 24 * 3.0)


def test_many_answers_cost_what_the_plan_of_serving_says() -> None:
    """At the full rate, filled to 80 %: the same machine as ``plan inference`` with all requests queued."""
    cluster = ClusterSpec(chip=serve_offer().chip, n_chips=1)
    full = plan_serving(
        EIGHT,
        Load(prompt_tokens=1000, answer_tokens=300),
        cluster,
        USD,
        default_running(),
        published_serving_calibration(),
    )
    found = way(8e9, of=service(1e13))
    assert found is not None
    at_most = full.served.answers_per_s * SECONDS_PER_DAY
    assert found.usd_per_answer == pytest.approx(24 * 3.0 / (0.8 * at_most), rel=1e-6)
    assert found.usd == pytest.approx(found.usd_per_answer * 1e13, rel=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.floats(1e6, 1e13), st.floats(1.0, 100.0))
def test_more_answers_never_cost_less(n_answers: float, factor: float) -> None:
    few, many = way(8e9, of=service(n_answers)), way(8e9, of=service(factor * n_answers))
    assert few is not None
    assert many is not None
    assert many.usd >= few.usd


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([3e9, 30e9, 70e9]), st.floats(1.0, 4.0))
def test_more_memory_is_never_dearer(n_params: float, factor: float) -> None:
    plain = serve_offer()
    memory = plain.chip.usable_memory_bytes or plain.chip.memory_bytes
    assert memory is not None
    larger = plain._replace(chip=replace(plain.chip, memory_bytes=factor * memory, usable_memory_bytes=factor * memory))
    one, other = way(n_params, plain), way(n_params, larger)
    assert one is not None
    assert other is not None
    assert other.usd <= one.usd * (1 + 1e-9)


def test_no_answers_cost_nothing() -> None:
    found = way(8e9, of=service(0))
    assert found is not None
    assert found.usd == 0


def test_samples_share_their_prompt() -> None:
    """Four samples cost less than four answers, whose prompts are read each time, and more than one."""
    once, four, sampled = (
        way(8e9, of=each) for each in (service(1e12), service(4e12), service(1e12)._replace(n_samples=4))
    )
    assert once is not None
    assert four is not None
    assert sampled is not None
    assert once.usd < sampled.usd < four.usd


def test_a_named_machine_is_paid_for_as_a_whole() -> None:
    found = way(8e9, serve_offer(n_chips=8), service(700))
    assert found is not None
    assert found.machine_chips == 8
    assert found.usd == pytest.approx(8 * 2 * DAYS_PER_YEAR * 24 * 3.0)


def test_a_model_too_large_for_the_machine_is_none() -> None:
    assert way(70e9, serve_offer(n_chips=1)) is None


def test_cheaper_chips_and_later_dollars_shorten_the_days_paid() -> None:
    plain = LifeSpec(demand=Demand(requests_per_day=1.0), years=3.0)
    assert paid_days(plain) == pytest.approx(3 * DAYS_PER_YEAR)
    assert paid_days(replace(plain, price_decline_frac=0.3)) < paid_days(plain)
    assert paid_days(replace(plain, discount_frac=0.1)) < paid_days(plain)


def test_chips_are_chosen_that_finish_in_time() -> None:
    few, many = (trained(EIGHT, 2e12, train_offer(), TERMS._replace(days=days)) for days in (180.0, 20.0))
    assert many.cluster.n_chips > few.cluster.n_chips
    assert many.cluster.n_chips & (many.cluster.n_chips - 1) == 0
    assert many.figures.wall_s.value < few.figures.wall_s.value


def test_a_run_that_fits_no_given_number_of_chips_is_refused() -> None:
    with pytest.raises(SpecError, match="does not fit"):
        trained(SEVENTY, 1e12, train_offer(n_chips=1), TERMS)


def test_a_teacher_is_charged_to_training() -> None:
    alone = trained(EIGHT, 1e12, train_offer(n_chips=64), TERMS)
    taught = trained(EIGHT, 1e12, train_offer(n_chips=64), TERMS, teacher=SEVENTY)
    assert taught.bill.total_usd > alone.bill.total_usd * 2


def test_formats_are_those_of_the_offer() -> None:
    offer = serve_offer()._replace(weights=(BF16,))
    assert len(served(EIGHT, [offer], service(1e10), 730.5)[0]) == 1
