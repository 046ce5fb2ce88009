"""May one trust this fit, and beyond the runs? What the runs lack, in words, and which runs would mend it.

An optimum is between two mistakes, too small and too big. Runs that show only one of them leave it open, and then no
figure beyond the runs is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from twobills.laws.approaches import IsoFlop
from twobills.laws.forms import Law
from twobills.laws.objective import N_PARAMETERS
from twobills.laws.optimum import optimum
from twobills.laws.runs import Runs, sizes
from twobills.units import show_count

ENOUGH_SIZES, ENOUGH_RUNS = 5, 10
FAR = 1000.0
"""An optimum this many times the largest budget of the runs is far, and said to be."""
_STEP = 1.5
"""Between the sizes that are proposed."""


class Verdict(NamedTuple):
    """What the runs can carry."""

    extrapolates: bool
    sentences: tuple[str, ...]
    runs_to_add: tuple[str, ...]


def verdict(runs: Runs, law: Law, curves: Sequence[IsoFlop], standard_errors: Mapping[str, float] | None) -> Verdict:
    """Whether sizes, runs and interior minima suffice."""
    said, add = [], []
    n_sizes = len(sizes(runs))
    enough = len(runs) > N_PARAMETERS
    if not enough:
        said.append(f"{len(runs)} runs do not determine {N_PARAMETERS} constants.")
        add.append(f"at least {ENOUGH_RUNS - len(runs)} runs of other sizes and lengths")
    said.append(_sizes_sentence(n_sizes))
    if n_sizes < ENOUGH_SIZES:
        add.append(f"{ENOUGH_SIZES - n_sizes} more sizes at the budgets there are")
    inside = [curve for curve in curves if curve.side == "within"]
    if curves:
        said.append(
            f"{len(inside)} of {len(curves)} budgets with 4 or more sizes have their lowest loss within the sizes."
        )
        add += [words for curve in curves if (words := _missing_side(curve))]
        closed = bool(inside)
    else:
        closed = _within_fitted(runs, law)
        words = "the fitted optimum lies within" if closed else "not even the fitted optimum lies within"
        said.append(f"No budget has 4 sizes, so no minimum can be seen; {words} the sizes.")
        if not closed:
            add.append("runs of 5 sizes at one budget, on both sides of the best")
    if not (enough and closed):
        said.append("Nothing beyond these runs can be said: no minimum lies between a size too small and one too big.")
    if standard_errors and standard_errors["E"] > 0.1 * law.E:
        said.append(f"The irreducible loss E is loose (standard error {standard_errors['E']:.2g}): add longer runs.")
    return Verdict(enough and closed, tuple(said), tuple(add))


def _sizes_sentence(n_sizes: int) -> str:
    return f"{n_sizes} sizes {'are enough' if n_sizes >= ENOUGH_SIZES else f'are few, {ENOUGH_SIZES} would be enough'}."


def _missing_side(curve: IsoFlop) -> str | None:
    least, most = float(curve.n_params.min()), float(curve.n_params.max())
    wanted = {"below": (least / _STEP, least / _STEP**2), "above": (most * _STEP, most * _STEP**2)}.get(curve.side)
    if wanted is None:
        return (
            None
            if curve.side == "within"
            else f"at {curve.compute_flops:.3g} FLOPs: the same sizes again, their losses scatter"
        )
    return (
        f"at {curve.compute_flops:.3g} FLOPs: sizes of {show_count(wanted[0])} and {show_count(wanted[1])} parameters"
    )


def _within_fitted(runs: Runs, law: Law) -> bool:
    best = optimum(law, float(runs.compute_flops.max()) ** 0.5 * float(runs.compute_flops.min()) ** 0.5)
    return bool(runs.n_params.min() < best.n_params < runs.n_params.max())
