"""What ``twobills laws list``, ``optimum`` and ``audit`` do: names and words in, one document out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twobills.counts.params import count_params
from twobills.errors import RequestError
from twobills.flows.asked import MOST_TOKENS, quantity, resolve_model
from twobills.laws.audit import Audit, LawAudit, audit
from twobills.laws.conventions import total_params
from twobills.laws.forms import Law, draws, outside_words
from twobills.laws.kaplan import KaplanLaw, kaplan_optimal_params
from twobills.laws.optimum import Optimum, optimum, optimum_for_loss, optimum_intervals, run_for_loss
from twobills.laws.published import DEFAULT_LAW, published, published_law, published_laws
from twobills.report.documents import SCHEMA
from twobills.specs import catalog
from twobills.specs.trained_tokens import trained_tokens

AUDIT_LAWS = (DEFAULT_LAW, "hoffmann-2022")
MOST_COMPUTE_FLOPS = 1e35


def laws_document() -> dict[str, Any]:
    """All published laws with their constants, sources and ranges."""
    rows = []
    for row in published_laws().values():
        told = asdict(row)
        constants = {key: value for key, value in told.pop("law").items() if key not in {"name", "source"}}
        rows.append({**told, "constants": constants})
    return {"schema": SCHEMA, "laws": rows}


def optimum_document(*, law: str, compute: str | None, loss: str | None, params: str | None = None) -> dict[str, Any]:
    """The optimum of a budget, or for a loss (of a given size, if ``params`` says one), with intervals.

    Raises RequestError unless one of the two is given, SpecError where nothing, or not that size, reaches the loss.
    """
    if params is not None and loss is None:
        raise RequestError("--params: goes with --loss; for a budget the size is the answer")
    if (compute is None) == (loss is None):
        raise RequestError("give one of --compute FLOPS and --loss NATS")
    if compute is not None and law in published_laws() and isinstance(published(law).law, KaplanLaw):
        return _kaplan_document(law, quantity("--compute", compute, MOST_COMPUTE_FLOPS))
    chosen, facts = chosen_law(law)
    if compute is not None:
        budget = quantity("--compute", compute, MOST_COMPUTE_FLOPS)

        def find(each: Law) -> Optimum:
            return optimum(each, budget)
    else:
        target = quantity("--loss", loss or "")
        size = quantity("--params", params) if params else None

        def find(each: Law) -> Optimum:
            return optimum_for_loss(each, target) if size is None else run_for_loss(each, size, target)

    best = find(chosen)
    figures = optimum_intervals(chosen, draws(chosen), find)
    return {
        "schema": SCHEMA,
        "law": facts,
        "asked": {"compute_flops": best.compute_flops if compute else None, "loss": None if compute else best.loss},
        **{name: figure._asdict() for name, figure in figures.items()},
        "outside": outside_words(chosen, best.n_params, best.n_tokens),
    }


def audit_document(
    models: Sequence[str], *, laws: Sequence[str], tokens: str | None, params: str | None, catalog_file: Path | None
) -> dict[str, Any]:
    """Each model under each law; the whole catalogue, as far as tokens are known, where none is named.

    Raises RequestError for a model whose training tokens nobody gives.
    """
    chosen = [chosen_law(name)[0] for name in laws or AUDIT_LAWS]
    given = quantity("--tokens", tokens, MOST_TOKENS) if tokens else None
    if params is not None:
        if given is None or models:
            raise RequestError("--params: goes with --tokens and without a MODEL")
        n_params = quantity("--params", params)
        return _audits([(audit("the model", n_params, given, chosen), _facts(n_params, n_params, "given"))])
    if given is not None and len(models) != 1:
        raise RequestError("--tokens: goes with one MODEL, or with --params")
    names = list(models) or list(trained_tokens())
    return _audits([_audited(name, given, chosen, catalog_file) for name in names])


def _audited(
    name: str, given: float | None, laws: Sequence[Law], catalog_file: Path | None
) -> tuple[Audit, dict[str, Any]]:
    model = resolve_model(name, catalog_file)
    known = trained_tokens().get(model.name)
    ours = known is not None and catalog.models(catalog_file).get(model.name) == catalog.models().get(model.name)
    if given is None and not ours:
        raise RequestError(f"model {model.name}: its training tokens are not in the catalogue; give them with --tokens")
    if given is not None:
        n_tokens, source, verified = given, "given", True
    else:
        assert known is not None
        n_tokens, source, verified = known
    params = count_params(model)
    facts = {**_facts(params.total, params.active, source), "tokens_verified": verified}
    return audit(model.name, params.active, n_tokens, laws), facts


def _facts(total: float, active: float, source: str) -> dict[str, Any]:
    return {"n_total_params": total, "is_mixture": active < total, "tokens_source": source, "tokens_verified": True}


def _audits(audited: Sequence[tuple[Audit, dict[str, Any]]]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "models": [
            {
                "model": each.model,
                "verdict": each.verdict,
                "n_params": each.n_params,
                "n_tokens": each.n_tokens,
                "tokens_per_param": each.tokens_per_param,
                "compute_flops": each.compute_flops,
                **facts,
                "laws": [_law_audit(law) for law in each.laws],
            }
            for each, facts in audited
        ],
    }


def _law_audit(each: LawAudit) -> dict[str, Any]:
    return {
        **each._asdict(),
        "best": {**each.best._asdict(), "tokens_per_param": each.best.tokens_per_param},
        "same_loss": {**each.same_loss._asdict(), "tokens_per_param": each.same_loss.tokens_per_param},
    }


def chosen_law(name: str) -> tuple[Law, dict[str, Any]]:
    """A published law by name, or the fit in a file that ``laws fit --json`` wrote, and what is known of it."""
    path = Path(name)
    if path.suffix == ".json":
        law = _fitted_law(path)
        return law, {"name": law.name, "source": law.source, "verified": True, "n_means": "as in the runs"}
    law, row = published_law(name), published(name)
    facts = {"name": name, "source": row.source, "verified": row.verified, "n_means": row.n_means.value}
    return law, {**facts, "covariance_source": row.covariance_source, "note": row.note}


def _fitted_law(path: Path) -> Law:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RequestError(f"--law {path}: cannot be read ({error})") from None
    try:
        parameters, ranges, covariance = document["parameters"], document["range"], document["covariance"]
        extrapolates, n_runs = document["verdict"]["extrapolates"], document["n_runs"]
        law = Law(
            name=path.name,
            **{key: float(parameters[key]) for key in ("A", "B", "E", "alpha", "beta")},
            min_params=ranges["n_params"][0],
            max_params=ranges["n_params"][1],
            min_tokens=ranges["n_tokens"][0],
            max_tokens=ranges["n_tokens"][1],
            source=f"fitted to {n_runs} runs",
            covariance=tuple(tuple(row) for row in covariance) if covariance else None,
        )
    except (KeyError, TypeError, ValueError, IndexError):
        raise RequestError(f"--law {path}: not what `laws fit --json` printed") from None
    if not extrapolates:
        raise RequestError(
            f"--law {path}: its runs show no minimum, so it says nothing beyond them; its verdict says what to add"
        )
    return law


def _kaplan_document(name: str, compute_flops: float) -> dict[str, Any]:
    """Kaplan's own optimal size, in all parameters, as the other laws count them."""
    row = published(name)
    assert isinstance(row.law, KaplanLaw)
    non_embedding = kaplan_optimal_params(row.law, compute_flops)
    total = total_params(non_embedding)
    figures = {
        "compute_flops": compute_flops,
        "n_params": total,
        "n_tokens": compute_flops / (6 * non_embedding),
        "loss": None,
        "tokens_per_param": compute_flops / (6 * non_embedding) / total,
    }
    outside = None
    if row.max_params is not None and non_embedding > row.max_params:
        outside = f"outside what {name} was fitted on: {non_embedding:.3g} parameters without embeddings"
    return {
        "schema": SCHEMA,
        "law": {"name": name, "source": row.source, "verified": row.verified, "n_means": row.n_means.value},
        "asked": {"compute_flops": compute_flops, "loss": None},
        **{key: {"value": value, "p5": None, "p95": None} for key, value in figures.items()},
        "n_params_non_embedding": non_embedding,
        "outside": outside,
        "reason": "its published optimum has no loss beside it; embeddings are added for GPT's shape (assumed)",
    }
