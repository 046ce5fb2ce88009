"""The same quality otherwise: each option reaches the target by its own law, and says what it rests on."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plan.sizing import LAW, question
from twobills.laws.distillation import DistillationLaw, student_loss
from twobills.laws.forms import loss
from twobills.laws.precision import PrecisionLaw, quantisation_loss
from twobills.laws.published import published
from twobills.laws.quality import Reference
from twobills.laws.repeats import DataConstrainedLaw, effective_tokens
from twobills.laws.testtime import CoverageLaw, coverage
from twobills.plan.size import Choice, Question, SizeTable, cheapest, ladder, size_table
from twobills.plan.size_options import Option, as_is, distilled, quantised, repeated, sampled, usual_teacher

PRECISION, DISTILLATION, REPEATS, COVERAGE = (
    published(name).law for name in ("kumar-2024", "busbridge-2025", "muennighoff-2023", "brown-2024-swe-bench-lite")
)


@pytest.fixture(scope="module")
def asked() -> Question:
    return question(1e11)


@pytest.fixture(scope="module")
def table(asked: Question) -> SizeTable:
    return size_table(asked, ladder(LAW, asked.target_loss, 24))


@pytest.fixture(scope="module")
def plain(asked: Question, table: SizeTable) -> Option:
    best = cheapest(table, [0])
    assert isinstance(best, Choice)
    return as_is(asked, table, best)


def test_as_it_is_costs_what_the_table_says(asked: Question, table: SizeTable, plain: Option) -> None:
    best = cheapest(table, [0])
    assert best is not None
    assert plain.total_usd == pytest.approx(best.total_usd)
    assert plain.n_params is not None
    assert plain.n_tokens is not None
    assert loss(LAW, plain.n_params, plain.n_tokens) == pytest.approx(asked.target_loss)


def test_quantised_weights_make_up_for_what_they_lose(asked: Question, table: SizeTable, plain: Option) -> None:
    assert isinstance(PRECISION, PrecisionLaw)
    assert plain.total_usd is not None
    eight, four = quantised(asked, table, PRECISION, plain.total_usd)
    assert eight.total_usd is not None
    assert eight.total_usd < plain.total_usd
    for option, bits in ((eight, 8), (four, 4)):
        assert option.n_params is not None
        assert option.n_tokens is not None
        lost = quantisation_loss(PRECISION, option.n_params, option.n_tokens, bits)
        assert loss(LAW, option.n_params, option.n_tokens) + lost == pytest.approx(asked.target_loss, rel=1e-6)
        assert "recalled" in option.assumed[0]
        assert option.outside


def test_repeats_teach_less_than_new_text(asked: Question, table: SizeTable, plain: Option) -> None:
    assert isinstance(REPEATS, DataConstrainedLaw)
    assert plain.total_usd is not None
    assert plain.n_tokens is not None
    enough = repeated(asked, table, [0], REPEATS, 10 * plain.n_tokens, plain.total_usd)
    assert enough.epochs == 1
    assert enough.total_usd == pytest.approx(plain.total_usd)
    few = repeated(asked, table, [0], REPEATS, plain.n_tokens / 5, plain.total_usd)
    assert few.epochs is not None
    assert few.epochs > 1
    assert few.n_params is not None
    assert few.n_tokens is not None
    assert few.total_usd is not None
    assert few.total_usd > plain.total_usd
    worth = effective_tokens(few.n_tokens, plain.n_tokens / 5)
    assert loss(LAW, few.n_params, worth) == pytest.approx(asked.target_loss, rel=1e-4)
    never = repeated(asked, table, [0], REPEATS, 1e9, plain.total_usd)
    assert never.reason is not None
    assert "never teach enough" in never.reason
    assert never.total_usd is None


def test_a_student_pays_for_its_teachers_passes(asked: Question) -> None:
    assert isinstance(DISTILLATION, DistillationLaw)
    reference = Reference(13e9, 260e9)
    teacher = usual_teacher(reference)
    found = distilled(asked, DISTILLATION, reference, teacher)
    assert found.reason is None
    assert found.teacher_usd is not None
    assert found.teacher_usd > 0
    assert found.n_params is not None
    assert found.n_tokens is not None
    target, of_teacher = (loss(DISTILLATION.law, n, d) for n, d in (reference, (teacher.n_params, teacher.n_tokens)))
    reached = student_loss(DISTILLATION, found.n_params, found.n_tokens, of_teacher)
    assert reached == pytest.approx(target, rel=1e-6)
    assert any("teacher" in words for words in found.outside)


def test_a_teacher_worse_than_the_target_teaches_nobody(asked: Question) -> None:
    assert isinstance(DISTILLATION, DistillationLaw)
    worse = usual_teacher(Reference(1e9, 2e9))
    found = distilled(asked, DISTILLATION, Reference(13e9, 260e9), worse)
    assert found.reason is not None
    assert "never gets to loss" in found.reason


def test_samples_have_the_coverage_of_one_answer_of_the_better_model(asked: Question, plain: Option) -> None:
    assert isinstance(COVERAGE, CoverageLaw)
    found = sampled(asked, COVERAGE, 4, plain)
    assert found.target_loss is not None
    assert found.n_params is not None
    worse = (found.target_loss - LAW.E) / (asked.target_loss - LAW.E)
    once, often = (CoverageLaw(name="x", a=a, b=COVERAGE.b) for a in (-0.5, -0.5 * worse))
    assert coverage(often, 4) == pytest.approx(coverage(once, 1))
    assert plain.n_params is not None
    assert found.n_params < plain.n_params
    assert found.matched_inference_factor is not None
    assert found.matched_inference_factor > 1


def test_one_sample_is_the_model_as_it_is(asked: Question, plain: Option) -> None:
    assert isinstance(COVERAGE, CoverageLaw)
    found = sampled(asked, COVERAGE, 1, plain)
    assert found.target_loss == asked.target_loss
    assert found.total_usd is not None
    assert plain.total_usd is not None
    assert np.log(found.total_usd / plain.total_usd) == pytest.approx(0, abs=0.05)
