from __future__ import annotations

import tests.laws.scipy_or_skip  # noqa: F401
from tests.laws import sweeps
from twobills.laws.approaches import isoflops
from twobills.laws.fit import fit
from twobills.laws.published import published_law
from twobills.laws.runs import Runs
from twobills.laws.verdict import Verdict, verdict

TRUTH = published_law("besiroglu-2024")


def judged(runs: Runs) -> Verdict:
    return verdict(runs, fit(runs).law, isoflops(runs), None)


def test_minima_between_the_sizes_may_be_extrapolated() -> None:
    found = judged(sweeps.sweep(TRUTH))
    assert found.extrapolates
    assert found.runs_to_add == ()
    assert "5 of 5 budgets" in " ".join(found.sentences)


def test_without_an_interior_minimum_it_says_which_runs_to_add() -> None:
    found = judged(sweeps.sweep(TRUTH, factors=(1.5, 2, 3, 5, 8)))
    assert not found.extrapolates
    assert "Nothing beyond these runs can be said" in found.sentences[-1]
    assert len(found.runs_to_add) == len(sweeps.BUDGETS)
    assert found.runs_to_add[0].startswith("at 1e+18 FLOPs: sizes of 80.6M")


def test_as_many_runs_as_constants_determine_nothing() -> None:
    found = judged(sweeps.sweep(TRUTH, budgets=(1e18,), factors=(0.3, 0.6, 1.0, 1.8, 3)))
    assert not found.extrapolates
    assert found.sentences[0] == "5 runs do not determine 5 constants."


def test_one_budget_on_the_edge_is_named_and_the_rest_suffice() -> None:
    inside = sweeps.sweep(TRUTH, budgets=(1e18, 1e19))
    edge = sweeps.sweep(TRUTH, budgets=(1e20,), factors=(1.5, 2, 3, 5, 8))
    found = judged(sweeps.together(inside, edge))
    assert found.extrapolates
    assert [words[:15] for words in found.runs_to_add] == ["at 1e+20 FLOPs:"]
