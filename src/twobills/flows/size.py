"""What ``twobills size`` does: how big and on how many tokens, for a quality and a life of answers, as one document.

First in FLOPs, as Sardana et al. 2023 do, then in dollars with the forecasts of ``plan``; where the two disagree it
says why. The same quality is then had in other ways, and for a known model the demand is told from which its size pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.flows.size_document import document
from twobills.flows.size_request import Asked, SizeRequest, understood
from twobills.laws.distillation import DistillationLaw
from twobills.laws.forms import draws
from twobills.laws.isoloss import FORWARD_FLOPS, TRAIN_FLOPS, best_sizes, laws_of, tokens_needed
from twobills.laws.lifetime import lifetime_optimum
from twobills.laws.optimum import optimum_for_loss, smallest_params, tokens_for_loss
from twobills.laws.precision import PrecisionLaw
from twobills.laws.published import published
from twobills.laws.repeats import DataConstrainedLaw
from twobills.meter.clock import Clock, monotonic
from twobills.plan.interval import forecast_spread
from twobills.plan.serving import check_context, log_sigma_of
from twobills.plan.size import (
    Choice,
    Question,
    SizeTable,
    by_size,
    cheapest,
    frontier,
    grid,
    ladder,
    near_best,
    refined,
    shapes,
    size_table,
)
from twobills.plan.size_bands import demand_bands, dollar_bands, flop_bands
from twobills.plan.size_demand import pays_from
from twobills.plan.size_options import (
    PLAIN,
    Option,
    as_is,
    distilled,
    quantised,
    repeated,
    sampled,
    usual_teacher,
)
from twobills.plan.size_why import why
from twobills.specs.cluster import ClusterSpec

PRECISION_LAW, DISTILLATION_LAW, REPEATS_LAW = "kumar-2024", "busbridge-2025", "muennighoff-2023"
N_DRAWS = 1000
FRONTIER_FRACS = (-0.1, -0.05, 0.0, 0.05, 0.1)
"""Of what can still be learned at the target loss."""
_N_FLAT = 2001


def size(request: SizeRequest, clock: Clock = monotonic) -> dict[str, Any]:
    """The document that ``twobills size --json`` prints. Raises RequestError, one line, for what cannot be."""
    start_s = clock()
    asked = understood(request)
    question = asked.question
    flop_best = lifetime_optimum(asked.law, question.target_loss, question.service.tokens)
    sizes = ladder(asked.law, question.target_loss)
    check_context(sizes[0], question.service.load)
    plain = [i for i, (_, each) in enumerate(question.pairs) if each.name == PLAIN]
    table = refined(question, size_table(question, sizes), plain)
    best = cheapest(table, plain)
    if best is None:
        raise SpecError(_nothing_fits(table))
    drawn = draws(asked.law, N_DRAWS)
    laws = laws_of(drawn) if drawn else None
    points = grid(question, table)
    reducible = question.target_loss - asked.law.E
    levels = [question.target_loss + share * reducible for share in FRONTIER_FRACS]
    return document(
        asked,
        table=table,
        best=best,
        pairs=plain,
        flop_best=flop_best,
        flop_bands=flop_bands(laws, asked.quality, question.service.tokens),
        flop_near=_flat_in_flops(asked),
        dollar_bands=_dollar_bands(asked, table, best, plain, laws),
        near=near_best(table.n_params, by_size(table, plain)),
        why=why(asked.law, question.target_loss, question.service, table, best, flop_best.n_params),
        compared=_compared(asked, flop_best.n_params),
        options=_options(asked, table, best, plain, request.samples),
        pays=_pays(asked, table, plain, laws),
        frontier=frontier(table, points, plain, levels),
        n_points=points.n_points,
        n_tokens_each=points.n_tokens.shape[1],
        search_s=clock() - start_s,
    )


def _flat_in_flops(asked: Asked) -> tuple[float, float]:
    """Sizes within 5 % of the fewest FLOPs."""
    question = asked.question
    most = 4 * optimum_for_loss(asked.law, question.target_loss).n_params
    least = smallest_params(asked.law, question.target_loss)
    sizes = least * np.exp(np.linspace(1e-3, np.sqrt(np.log(most / least)), _N_FLAT) ** 2)
    tokens = tokens_needed(asked.law, sizes, question.target_loss)
    return near_best(sizes, TRAIN_FLOPS * sizes * tokens + FORWARD_FLOPS * sizes * question.service.tokens)


def _dollar_bands(asked: Asked, table: SizeTable, best: Choice, pairs: Sequence[int], laws: Any) -> Any:
    question = asked.question
    run = table.runs[best.size][best.offer]
    assert run is not None
    offer = question.serve[question.pairs[best.pair][0]]
    cluster = ClusterSpec(chip=offer.chip, n_chips=1)
    sigma = log_sigma_of(cluster, question.service.engine, question.service.calibration)
    return dollar_bands(table, pairs, laws, asked.quality, run.figures.total_usd.spread, forecast_spread(sigma))


def _compared(asked: Asked, flop_params: float) -> list[tuple[str, SizeTable]]:
    """Sizes to hold the best against, each alone in a table."""
    question = asked.question
    named: list[tuple[str, SizeTable]] = []

    def add(label: str, n_params: float) -> None:
        found = [each for each in shapes([n_params]) if _reaches(question, float(count_params(each).active))]
        if found:
            named.append((label, size_table(question, found)))

    if asked.known is not None:
        named.append((asked.known.name, size_table(question, [asked.known.spec])))
    add("compute-optimal", optimum_for_loss(asked.law, question.target_loss).n_params)
    add("best in FLOPs", flop_params)
    if asked.params is not None:
        tokens_for_loss(asked.law, asked.params, question.target_loss)  # says so where no amount of data reaches it
        add("as asked", asked.params)
    return named


def _reaches(question: Question, n_params: float) -> bool:
    return bool(np.isfinite(tokens_needed(question.law, np.array([n_params]), question.target_loss))[0])


def _options(asked: Asked, table: SizeTable, best: Choice, pairs: Sequence[int], n_samples: int) -> list[Option]:
    question = asked.question
    plain = as_is(question, table, best)
    usd = plain.total_usd or best.total_usd
    precision, distillation, repeats = (published(n).law for n in (PRECISION_LAW, DISTILLATION_LAW, REPEATS_LAW))
    assert isinstance(precision, PrecisionLaw)
    assert isinstance(distillation, DistillationLaw)
    assert isinstance(repeats, DataConstrainedLaw)
    found = [plain, *quantised(question, table, precision, usd)]
    reference = asked.quality.reference(asked.law)
    try:
        teacher = asked.teacher or usual_teacher(reference)
        found.append(distilled(question, distillation, reference, teacher))
    except SpecError as error:
        found.append(Option("distilled", "distilled student", reason=str(error)))
    if asked.unique_tokens is None:
        found.append(
            Option(
                "repeated", "repeated data", reason="how many different tokens there are was not said: --unique-tokens"
            )
        )
    else:
        found.append(repeated(question, table, pairs, repeats, asked.unique_tokens, usd))
    return [*found, *(sampled(question, asked.coverage, k, plain) for k in _powers_of_two(n_samples))]


def _powers_of_two(most: int) -> list[int]:
    """2, 4, 8 ... and the last itself."""
    return sorted({2**i for i in range(1, most.bit_length()) if 2**i <= most} | ({most} if most > 1 else set()))


def _pays(asked: Asked, table: SizeTable, pairs: Sequence[int], laws: Any) -> dict[str, Any] | None:
    """From which demand a known model's size pays, in FLOPs and in dollars."""
    if asked.known is None:
        return None
    question, known = asked.question, asked.known
    own = size_table(question, [known.spec])
    cheapest_to_train = best_sizes(asked.law, question.target_loss, 0.0)
    optimal = size_table(question, shapes([float(cheapest_to_train.n_params)]))
    return {
        "bands": demand_bands(laws, asked.quality, known.n_params, known.n_tokens),
        "compute_optimal": cheapest_to_train,
        "dollars": pays_from(own, optimal, table, pairs),
    }


def _nothing_fits(table: SizeTable) -> str:
    if table.refused and not np.isfinite(table.train_usd_per_token).any():
        return f"no size can be trained: {table.refused[0]}"
    return (
        "no size can be served: on these chips none fits with one answer's cache; more chips or ones with more memory"
    )
