"""Busbridge et al. 2025: points recomputed from its verified constants, and the U shape that it reports."""

from __future__ import annotations

from functools import partial

import pytest

from twobills.errors import SpecError
from twobills.laws.distillation import DistillationLaw, distillation_flops, student_loss, tokens_for_student
from twobills.laws.forms import loss
from twobills.laws.published import published


def law() -> DistillationLaw:
    found = published("busbridge-2025").law
    assert isinstance(found, DistillationLaw)
    return found


@pytest.mark.parametrize(("teacher", "student"), [(1.8, 2.286), (1.9, 2.264), (2.0, 2.248), (2.2, 2.265), (2.5, 2.500)])
def test_a_better_teacher_can_make_a_worse_student(teacher: float, student: float) -> None:
    assert student_loss(law(), 0.546e9, 512e9, teacher) == pytest.approx(student, abs=6e-4)


def test_a_student_beats_training_alone_with_a_fitting_teacher() -> None:
    """Teacher 7.75B on 155B: loss 2.0036; student 1.82B on 36.4B: 2.1833 where training alone gives 2.2509."""
    teacher = loss(law().law, 7.75e9, 155e9)
    assert teacher == pytest.approx(2.0036, abs=5e-5)
    assert student_loss(law(), 1.82e9, 36.4e9, teacher) == pytest.approx(2.1833, abs=5e-5)
    assert loss(law().law, 1.82e9, 36.4e9) == pytest.approx(2.2509, abs=5e-5)


def test_what_of_the_teacher_is_counted() -> None:
    """Table 2: best case, the teacher's forward passes, its training, both."""
    flops = partial(distillation_flops, 1e9, 20e9, teacher_params=7e9, teacher_tokens=140e9)
    alone = flops(count_teacher_forward=False)
    both = flops(count_teacher_training=True)
    assert alone == 6 * 1e9 * 20e9
    assert flops() == alone + 2 * 7e9 * 20e9
    assert both == alone + 2 * 7e9 * 20e9 + 6 * 7e9 * 140e9


def test_a_teacher_without_loss_is_refused() -> None:
    with pytest.raises(SpecError, match="teacher_loss=0"):
        student_loss(law(), 1e9, 1e10, 0)


def test_tokens_for_a_student_are_the_loss_turned_round() -> None:
    """546M on 100B tokens from a teacher at 2.0036: 2.2929 by the paper's constants."""
    assert tokens_for_student(law(), 0.546e9, 2.2929, 2.0036) == pytest.approx(100e9, rel=0.01)
    assert tokens_for_student(law(), 0.546e9, 2.0036, 2.0036) == float("inf")
