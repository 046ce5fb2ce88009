"""The tables and sentences of ``laws``: a fit, an optimum, an audit, the published laws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twobills.report.tables import Document, Table
from twobills.units import show_count, show_frac, significant

NONE = "–"


def fit_sentence(found: Document) -> str:
    """What the fit says, and whether it may be used beyond its runs."""
    best, parameters = found["optimum"], found["parameters"]
    start = (
        f"{found['n_runs']} runs of {found['n_sizes']} sizes: the loss cannot fall below {_with_error(found, 'E', 4)}, "
        f"size lowers the rest with exponent {parameters['alpha']:.3g}, data with {parameters['beta']:.3g}."
    )
    if best["tokens_per_parameter"] is None:
        return f"{start} {best['reason']}"
    end = (
        f"At {best['compute_flops']:.3g} training FLOPs the best model has {_count(best, 'n_params')} parameters and "
        f"{_count(best, 'n_tokens')} tokens, {_plain(best, 'tokens_per_param')} for each parameter"
    )
    times = best["extrapolated_times"]
    beyond = f" ({significant(times)} times the largest budget of the runs)" if times > 1 else ""
    return f"{start} {end}{beyond}. {' '.join(found['verdict']['sentences'])}"


def parameters_table(found: Document) -> Table:
    """The law's constants."""
    rows = [
        (name, significant(value, 5), _or_none(found["standard_errors"][name], lambda x: significant(x, 3)))
        for name, value in found["parameters"].items()
    ]
    objective = f"sum of Huber losses {found['objective']:.10g}"
    return Table(f"L = E + A/N^alpha + B/D^beta, {objective}", ("Constant", "Value", "Standard error"), rows)


def approaches_table(found: Document) -> Table:
    """The best size by each of the three approaches."""
    names = {
        "envelope": "minimum over training curves",
        "isoflop": "parabolas at equal compute",
        "parametric": "the fitted surface",
    }
    rows = [
        (
            names[key],
            _or_none(each["a"], lambda a: f"{a:.3f}"),
            _or_none(each["n_params"], show_count),
            str(each.get("n_points", NONE)),
        )
        for key, each in found["approaches"].items()
    ]
    budget = f"{found['optimum']['compute_flops']:.3g}"
    return Table("Best size, three ways", ("Approach", "Exponent a", f"Parameters at {budget} FLOPs", "Points"), rows)


def against_table(found: Document) -> Table:
    """Published laws on the same runs."""
    rows = [
        (name, f"{each['objective']:.7f}", f"{each['p_value']:.2g}", "rejected" if each["rejected"] else "not rejected")
        for name, each in found["against"].items()
    ]
    return Table("Published laws on these runs", ("Law", "Sum of Huber losses", "p", "Verdict"), rows)


def optimum_sentence(found: Document) -> str:
    """One optimum, its interval and whether it lies outside the law's range."""
    if found["loss"]["value"] is None:
        return _size_sentence(found)
    words = (
        f"By {found['law']['name']}, {found['compute_flops']['value']:.3g} training FLOPs are best spent on "
        f"{_figure(found['n_params'], show_count)} parameters and {_figure(found['n_tokens'], show_count)} tokens "
        f"({_figure(found['tokens_per_param'], significant)} for each parameter), for a loss of "
        f"{_figure(found['loss'], lambda x: f'{x:.4g}')}."
    )
    known = "" if found["law"]["verified"] else " Its constants were recalled, not read again."
    interval = "" if found["n_params"]["p5"] is not None else " No covariance is known for it, so no interval is given."
    outside = f" This is {found['outside']}: an extrapolation." if found["outside"] else ""
    return words + outside + interval + known


def optimum_table(found: Document) -> Table:
    """The figures of one optimum."""
    shown = (
        ("Training FLOPs", "compute_flops", lambda x: f"{x:.3g}"),
        ("Parameters", "n_params", show_count),
        ("Tokens", "n_tokens", show_count),
        ("Tokens per parameter", "tokens_per_param", significant),
        ("Loss", "loss", lambda x: f"{x:.4f}"),
    )
    rows = [(label, *(_or_none(found[key][at], show) for at in ("p5", "value", "p95"))) for label, key, show in shown]
    return Table("The optimum", ("What", "5 %", "Best", "95 %"), rows)


def audit_sentence(audits: Sequence[Document]) -> str:
    """How many of the models were too big, and how many trained beyond the optimum."""
    if len(audits) == 1:
        return _one_audit_sentence(audits[0])
    big = sum("too big" in each["verdict"] for each in audits)
    small = sum("over-trained" in each["verdict"] for each in audits)
    return (
        f"Of {len(audits)} models {big} were too big for their data and {small} trained beyond the optimum, which "
        "costs training and saves inference. Every figure is a law's, most of them beyond the sizes it was fitted on."
    )


def audit_table(audits: Sequence[Document]) -> Table:
    """One row per model, the figures of the first law, the verdict of all."""
    rows = [
        (
            each["model"],
            each["verdict"],
            show_count(each["n_params"]),
            show_count(each["n_tokens"]),
            significant(each["tokens_per_param"]),
            f"{significant(each['laws'][0]['times_best_params'])}x",
            show_frac(each["laws"][0]["wasted_train_frac"]),
            f"{significant(each['laws'][0]['inference_factor'])}x",
            _or_none(each["laws"][0]["pays_from_tokens"], show_count),
        )
        for each in audits
    ]
    first = audits[0]["laws"][0]["law"]
    names = ", ".join(each["law"] for each in audits[0]["laws"])
    columns = (
        *("Model", "Verdict", "Parameters", "Tokens", "D/N", "Size / best", "Train excess"),
        *("Per answer", "Pays from"),
    )
    return Table(f"Figures by {first}, verdicts by {names}", columns, rows, n_text_columns=2)


def laws_table(rows: Sequence[Document]) -> Table:
    """The published laws."""
    cells = [
        (each["name"], each["form"], each["n_means"], "read" if each["verified"] else "recalled", each["source"])
        for each in rows
    ]
    return Table("Published laws", ("Law", "Form", "N is", "Constants", "Source"), cells, n_text_columns=5)


def _size_sentence(found: Document) -> str:
    """A law that names a size and no loss."""
    outside = f" This is {found['outside']}: an extrapolation." if found["outside"] else ""
    return (
        f"By {found['law']['name']}, {found['compute_flops']['value']:.3g} training FLOPs are best spent on "
        f"{show_count(found['n_params']['value'])} parameters, {show_count(found['n_params_non_embedding'])} of them "
        f"without embeddings, which is what it counts; {found['reason']}.{outside}"
    )


def _one_audit_sentence(each: Document) -> str:
    law = each["laws"][0]
    words = (
        f"{each['model']} ({show_count(each['n_params'])} parameters, {show_count(each['n_tokens'])} tokens): "
        f"{each['verdict']}. By {law['law']} the best size for its compute has {show_count(law['best']['n_params'])} "
        f"parameters, and its loss could have been had for {show_frac(law['wasted_train_frac'])} less training"
    )
    if law["pays_from_tokens"] is None:
        cheaper = show_frac(1 - 1 / law["inference_factor"])
        return f"{words}, with {cheaper} less work for each token answered."
    return (
        f"{words}. It answers with {show_frac(1 - law['inference_factor'])} less work than that model, which repays "
        f"its training from {show_count(law['pays_from_tokens'])} tokens read and answered."
    )


def _with_error(found: Document, name: str, digits: int) -> str:
    error = found["standard_errors"][name]
    value = significant(found["parameters"][name], digits)
    return value if error is None else f"{value} ± {significant(error, 2)}"


def _count(best: Document, name: str) -> str:
    return _figure(best["intervals"][name], show_count)


def _plain(best: Document, name: str) -> str:
    return _figure(best["intervals"][name], significant)


def _figure(figure: Document, show: Any) -> str:
    words = str(show(figure["value"]))
    return words if figure["p5"] is None else f"{words} ({show(figure['p5'])} to {show(figure['p95'])})"


def _or_none(value: Any, show: Any) -> str:
    return NONE if value is None else str(show(value))
