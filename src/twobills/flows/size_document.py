"""The document of ``twobills size``: every figure in base units, with its interval, or null and why.

``reason`` says why figures beside it, or the ends of their intervals, are null. ``outside`` is null where nothing lies
outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twobills.flows.size_request import Asked
from twobills.laws.forms import outside_words
from twobills.laws.isoloss import FORWARD_FLOPS, TRAIN_FLOPS, demand_of
from twobills.laws.lifetime import Lifetime, lifetime
from twobills.laws.optimum import optimum_for_loss
from twobills.plan.size import NEAR_FRAC, Choice, FrontierPoint, SizeTable, cheapest
from twobills.plan.size_bands import Band, pays_from_tokens
from twobills.plan.size_costs import MOST_TRAIN_CHIPS, USUAL_MFU, ServedSize
from twobills.plan.size_demand import PaysFrom
from twobills.plan.size_options import Option
from twobills.plan.size_why import Why
from twobills.plan.training import RunPlan
from twobills.report.documents import SCHEMA
from twobills.units import DAYS_PER_YEAR, SECONDS_PER_DAY, significant

NOT_DRAWN = "the law has no covariance"
NO_MODEL = "no model was named (--quality-of)"


def document(
    asked: Asked,
    *,
    table: SizeTable,
    best: Choice,
    pairs: Sequence[int],
    flop_best: Lifetime,
    flop_bands: Mapping[str, Band],
    flop_near: tuple[float, float],
    dollar_bands: Mapping[str, Band],
    near: tuple[float, float],
    why: Why,
    compared: Sequence[tuple[str, SizeTable]],
    options: Sequence[Option],
    pays: Mapping[str, Any] | None,
    frontier: Sequence[FrontierPoint],
    n_points: int,
    n_tokens_each: int,
    search_s: float,
) -> dict[str, Any]:
    """All of it."""
    question = asked.question
    rows = [row for label, each in compared if (row := _row(asked, label, each, pairs)) is not None]
    return {
        "schema": SCHEMA,
        "law": asked.law_facts,
        "quality": _quality(asked),
        "demand": _demand(asked),
        "in_flops": _in_flops(asked, flop_best, flop_bands, flop_near),
        "in_dollars": _in_dollars(asked, table, best, dollar_bands, near),
        "disagreement": {**why._asdict(), **_missing(why)},
        "compared": rows,
        "options": [_option(each) for each in options],
        "cheapest_option": _cheapest_option(options),
        "pays": _pays(asked, pays),
        "frontier": [_frontier(asked, point) for point in frontier],
        "grid": {
            "n_points": n_points,
            "n_sizes": len(table.models),
            "n_tokens_each": n_tokens_each,
            "n_train_offers": len(question.train),
            "n_serve_formats": len(question.pairs),
            "search_s": search_s,
        },
        "refused": list(table.refused),
        "assumed": list(dict.fromkeys([*asked.assumed, *_assumed(asked, options)])),
    }


def _frontier(asked: Asked, point: FrontierPoint) -> dict[str, Any]:
    floor = asked.law.E
    return {**point._asdict(), "reducible_factor": (point.loss - floor) / (asked.question.target_loss - floor)}


def _quality(asked: Asked) -> dict[str, Any]:
    known, reference = asked.known, asked.quality.reference(asked.law)
    return {
        "target_loss": asked.question.target_loss,
        "model": known.name if known else None,
        "n_params": reference.n_params,
        "n_tokens": reference.n_tokens,
        "tokens_source": known.source if known else None,
        "tokens_verified": known.verified if known else None,
        **({} if known else {"reason": NO_MODEL}),
        "given_as": "model" if known else "params" if asked.quality.n_params is not None else "loss",
        "outside": outside_words(asked.law, reference.n_params, reference.n_tokens),
    }


def _demand(asked: Asked) -> dict[str, Any]:
    service = asked.question.service
    life_days = service.life.years * DAYS_PER_YEAR
    return {
        "n_answers": service.n_answers,
        "prompt_tokens": service.prompt_tokens,
        "answer_tokens": service.answer_tokens,
        "inference_tokens": service.tokens,
        "life_days": life_days,
        "answers_per_day": service.n_answers / life_days,
        "peak_over_mean": service.life.peak_over_mean,
        "fill_frac": service.life.fill_frac,
    }


def _in_flops(asked: Asked, best: Lifetime, bands: Mapping[str, Band], near: tuple[float, float]) -> dict[str, Any]:
    question = asked.question
    optimal = optimum_for_loss(asked.law, question.target_loss)
    usual = lifetime(asked.law, optimal.n_params, question.target_loss, question.service.tokens)
    figures = {
        "n_params": best.n_params,
        "n_tokens": best.n_tokens,
        "tokens_per_param": best.n_tokens / best.n_params,
        "train_flops": best.train_flops,
        "inference_flops": best.inference_flops,
        "total_flops": best.total_flops,
    }
    return {
        **{name: _banded(value, bands[name]) for name, value in figures.items()},
        **_reason(bands),
        "near_best_n_params": list(near),
        "compute_optimal_n_params": optimal.n_params,
        "saving_over_compute_optimal_frac": max(0.0, 1 - best.total_flops / usual.total_flops),
        "outside": outside_words(asked.law, best.n_params, best.n_tokens),
    }


def _in_dollars(
    asked: Asked, table: SizeTable, best: Choice, bands: Mapping[str, Band], near: tuple[float, float]
) -> dict[str, Any]:
    n_params = float(table.n_params[best.size])
    run, way = table.runs[best.size][best.offer], table.served[best.size][best.pair]
    assert run is not None
    assert way is not None
    figures = {
        "n_params": n_params,
        "n_tokens": best.n_tokens,
        "tokens_per_param": best.n_tokens / n_params,
        "train_usd": best.train_usd,
        "inference_usd": best.serve_usd,
        "total_usd": best.total_usd,
    }
    tokens = asked.question.service.tokens
    return {
        **{name: _banded(value, bands[name]) for name, value in figures.items()},
        **_reason(bands),
        "train_flops": TRAIN_FLOPS * n_params * best.n_tokens,
        "inference_flops": FORWARD_FLOPS * n_params * tokens,
        "inference_share": best.serve_usd / best.total_usd if best.total_usd else 0.0,
        "shape": _shape(table, best),
        "training": _training(run),
        "serving": _serving(asked, best, way),
        "near_best_n_params": list(near),
        "outside": outside_words(asked.law, n_params, best.n_tokens),
    }


def _missing(why: Why) -> dict[str, str]:
    """Why figures between the two sizes are not known."""
    reasons = {
        "nothing is to be answered, so serving costs nothing": why.serve_over_train is None,
        "the size that FLOPs want does not fit the chips that serve this one": why.flop_machine_chips is None,
        "too few sizes around the best fit to tell how the bills move with it": why.train_slope is None
        or (why.serve_slope is None and why.serve_over_train is not None),
    }
    words = "; ".join(reason for reason, holds in reasons.items() if holds)
    return {"reason": words} if words else {}


def _shape(table: SizeTable, best: Choice) -> dict[str, Any]:
    model = table.models[best.size]
    return {
        "n_layers": model.n_layers,
        "d_model": model.d_model,
        "n_heads": model.n_heads,
        "n_kv_heads": model.n_kv_heads,
        "d_ff": model.d_ff,
        "vocab_size": model.vocab_size,
    }


def _training(run: RunPlan) -> dict[str, Any]:
    return {
        "chip": run.cluster.chip.name,
        "n_chips": run.cluster.n_chips,
        "wall_days": run.figures.wall_s.value / SECONDS_PER_DAY,
        "mfu_frac": run.figures.mfu.value,
        "plan": run.step.plan.describe(),
        "batch_tokens": run.run.tokens_per_step,
    }


def _serving(asked: Asked, best: Choice, way: ServedSize) -> dict[str, Any]:
    offer, each = asked.question.pairs[best.pair]
    return {
        "chip": asked.question.serve[offer].chip.name,
        "weights": each.name,
        "kv": asked.question.service.kv.name,
        "machine_chips": way.machine_chips,
        "n_machines": way.n_machines,
        "tp": way.tp,
        "pp": way.pp,
        "n_running": way.n_running,
        "tpot_s": way.tpot_s,
        "prompt_share": way.prompt_share,
        "prompt_usd": best.serve_usd * way.prompt_share,
        "answer_usd": best.serve_usd * (1 - way.prompt_share),
        "usd_per_answer": way.usd_per_answer,
    }


def _row(asked: Asked, label: str, table: SizeTable, pairs: Sequence[int]) -> dict[str, Any] | None:
    """One size to hold the best against; figures are null where it cannot be had."""
    choice, n_params, n_tokens = cheapest(table, pairs), float(table.n_params[0]), float(table.n_tokens[0])
    row = {
        "size": label,
        "n_params": n_params,
        "n_tokens": n_tokens,
        "train_flops": TRAIN_FLOPS * n_params * n_tokens,
        "inference_flops": FORWARD_FLOPS * n_params * asked.question.service.tokens,
    }
    if choice is None:
        why = table.refused[0] if table.refused else "does not fit the chips that serve"
        return {
            **row,
            "train_usd": None,
            "inference_usd": None,
            "total_usd": None,
            "machine_chips": None,
            "reason": why,
        }
    way = table.served[0][choice.pair]
    return {
        **row,
        "train_usd": choice.train_usd,
        "inference_usd": choice.serve_usd,
        "total_usd": choice.total_usd,
        "machine_chips": way.machine_chips if way else None,
    }


def _option(each: Option) -> dict[str, Any]:
    """With a reason in place of figures; else without those that only other ways have, like a teacher's bill."""
    told = each._asdict()
    reason = told.pop("reason")
    saving = None
    if each.total_usd is not None and each.versus_usd:
        saving = 1 - each.total_usd / each.versus_usd
    told = {**told, "saving_frac": saving, "assumed": list(each.assumed), "outside": list(each.outside)}
    if reason is not None:
        return {**told, "reason": reason}
    return {name: value for name, value in told.items() if value is not None}


def _cheapest_option(options: Sequence[Option]) -> str:
    """Its label. A student is held against another law, so it is not among them."""
    comparable = [each for each in options if each.total_usd is not None and each.kind != "distilled"]
    return min(comparable, key=lambda each: each.total_usd or 0.0).label


def _pays(asked: Asked, pays: Mapping[str, Any] | None) -> dict[str, Any]:
    if pays is None or asked.known is None:
        return {"model": None, "reason": NO_MODEL}
    known, per_answer = asked.known, asked.question.service.prompt_tokens + asked.question.service.answer_tokens
    optimal, bands = pays["compute_optimal"], pays["bands"]
    best_at = float(demand_of(asked.law, known.n_params, known.n_tokens))
    larger = known.n_params >= float(optimal.n_params)
    pays_from = (
        None if larger else float(pays_from_tokens(known.n_params, known.n_tokens, optimal.n_params, optimal.n_tokens))
    )
    in_flops: dict[str, Any] = {
        "pays_from_tokens": None if pays_from is None else _banded(pays_from, bands["pays_from_tokens"]),
        "pays_from_answers": None if pays_from is None else pays_from / per_answer,
        "best_at_tokens": None if larger else _banded(best_at, bands["best_at_tokens"]),
        "best_at_answers": None if larger else best_at / per_answer,
    }
    if larger:
        in_flops["reason"] = "it is no smaller than the compute-optimal model of its loss, so demand speaks against it"
    found: PaysFrom | None = pays["dollars"]
    in_dollars: dict[str, Any] | None = None
    if found is not None:
        in_dollars = found._asdict()
        if found.pays_from_answers is None:
            in_dollars["reason"] = (
                "cheaper for any demand" if found.always else "never cheaper than the compute-optimal model of its loss"
            )
        in_dollars |= _without_end(found)
    return {
        "model": known.name,
        "n_params": known.n_params,
        "n_tokens": known.n_tokens,
        "compute_optimal_n_params": float(optimal.n_params),
        "compute_optimal_n_tokens": float(optimal.n_tokens),
        "in_flops": in_flops,
        "in_dollars": in_dollars,
        **({} if in_dollars is not None else {"reason": "one of the two does not fit the chips"}),
    }


def _without_end(found: PaysFrom) -> dict[str, str]:
    """Why the demands between which it is nearly the best have no beginning or no end."""
    if found.near_best_from_answers is None:
        return {"near_best_reason": f"never within {NEAR_FRAC:.0%} of the cheapest size"}
    if found.near_best_to_answers is None:
        return {"near_best_reason": f"within {NEAR_FRAC:.0%} of the cheapest size however much is answered"}
    return {}


def _banded(value: float, band: Band) -> dict[str, float | None]:
    return {"value": value, "p5": band.p5, "p95": band.p95}


def _reason(bands: Mapping[str, Band]) -> dict[str, str]:
    """Why there are no intervals of sizes, or why one has no end."""
    if bands["n_params"] == (None, None):
        return {"reason": NOT_DRAWN}
    if any(each.p95 is None for each in bands.values()):
        return {"reason": "in more than 5 % of the draws nothing reaches the loss"}
    return {}


def _assumed(asked: Asked, options: Sequence[Option]) -> Iterator[str]:
    question = asked.question
    for name, rates in asked.rates.items():
        if rates.assumed:
            yield f"price of {name}: {rates.source}"
    if asked.known is not None and not asked.known.verified:
        yield f"training tokens of {asked.known.name}: recalled ({asked.known.source})"
    if not asked.law_facts["verified"]:
        yield f"constants of {asked.law.name}: recalled, not read again"
    yield "every size has Llama 3's proportions; as it is, weights are in bf16"
    if any(offer.n_chips is None for offer in question.train):
        yield (
            f"as many chips train as finish in {question.terms.days:g} days at {significant(USUAL_MFU * 100)} % MFU, a "
            f"power of two up to {MOST_TRAIN_CHIPS:,}"
        )
    life = question.service.life
    yield (
        f"the same traffic every day for {significant(life.years)} years, machines {life.fill_frac:.0%} full in the "
        "busiest hours, at their largest batch"
    )
    for each in options:
        if each.reason is None:
            yield from each.assumed
