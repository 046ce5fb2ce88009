"""What a student learns from a teacher: Busbridge et al. 2025, arXiv:2502.08606, equations 8 and 9.

A better teacher helps until the student can no longer follow it; beyond that the student gets worse. The FLOPs count
the student's training, and by choice the teacher's forward passes and the teacher's own training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from twobills.errors import SpecError
from twobills.laws.forms import Law, loss

TRAIN_FLOPS_PER_PARAM = 6.0
FORWARD_FLOPS_PER_PARAM = 2.0
MOST_TOKENS = 1e20
"""What more tokens than this do is not asked."""
_HALVINGS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationLaw:
    """The supervised law of the same setting, and how the student's loss hangs on the teacher's."""

    law: Law
    c0: float
    c1: float
    f1: float
    d1: float
    student_A: float  # noqa: N815 - the paper's letters
    student_B: float  # noqa: N815
    student_alpha: float
    student_beta: float
    student_gamma: float


def student_loss(law: DistillationLaw, n_params: float, n_tokens: float, teacher_loss: float) -> float:
    """Nats per token of a student with ``n_params`` distilled on ``n_tokens`` from a teacher of that loss."""
    if not teacher_loss > 0:
        raise SpecError(f"teacher_loss={teacher_loss:g}: must be above 0")
    supervised = loss(law.law, n_params, n_tokens)
    capacity_gap = (1 + (teacher_loss / (supervised * law.d1)) ** (1 / law.f1)) ** (-law.c1 * law.f1)
    inner = law.student_A / n_params**law.student_alpha + law.student_B / n_tokens**law.student_beta
    return float(teacher_loss + teacher_loss**-law.c0 * capacity_gap * inner**law.student_gamma)


def tokens_for_student(law: DistillationLaw, n_params: float, target_loss: float, teacher_loss: float) -> float:
    """Tokens that bring a student of this size to the loss; infinite where none do."""
    low, high = 1e3, MOST_TOKENS
    if student_loss(law, n_params, high, teacher_loss) > target_loss:
        return math.inf
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        enough = student_loss(law, n_params, middle, teacher_loss) <= target_loss
        low, high = (low, middle) if enough else (middle, high)
    return high


def distillation_flops(
    n_params: float,
    n_tokens: float,
    *,
    teacher_params: float,
    teacher_tokens: float = 0.0,
    count_teacher_forward: bool = True,
    count_teacher_training: bool = False,
) -> float:
    """FLOPs of the student's training and of so much of the teacher as is counted (their table 2)."""
    student = TRAIN_FLOPS_PER_PARAM * n_params * n_tokens
    forward = FORWARD_FLOPS_PER_PARAM * teacher_params * n_tokens if count_teacher_forward else 0.0
    training = TRAIN_FLOPS_PER_PARAM * teacher_params * teacher_tokens if count_teacher_training else 0.0
    return student + forward + training
