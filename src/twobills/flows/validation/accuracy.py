"""``docs/accuracy.md``: how far training forecasts miss, in the fit and left out, written from the rows themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twobills.counts.flops import MFU_CONVENTION
from twobills.flows.validation.document import Validated
from twobills.flows.validation.flop_totals import TOLERANCE, agreement, flop_totals_table
from twobills.flows.validation.left_out import family_of, left_out, source_of
from twobills.flows.validation.rows import ThroughputRow
from twobills.flows.validation.score import Score, Scored, score
from twobills.specs.calibration import Calibration, flatten

COMMAND = "twobills validate training FILE... --report docs/accuracy.md"
Lines = Iterable[str]


def accuracy_page(files: Sequence[Validated], calibration: Calibration) -> str:
    """The page, Markdown. Rows are left out by fitting anew, which takes a minute."""
    throughput = [file for file in files if not file.is_runs]
    rows = [row for file in throughput for row in file.rows]
    unseen_source = left_out(rows, calibration, source_of)
    unseen_family = left_out(rows, calibration, family_of)
    parts = [
        _head(calibration),
        _summary(throughput, unseen_source, unseen_family),
        _grouped("By chip", throughput, unseen_source, lambda row: row.chip),
        _grouped("By model", throughput, unseen_source, lambda row: row.name),
        _grouped("By source", throughput, unseen_source, lambda row: row.source),
        _families(rows, unseen_family),
        _worst(throughput),
        *[_runs(file) for file in files if file.is_runs],
        _flop_totals(),
        _numbers(calibration),
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(calibration: Calibration) -> Lines:
    yield "# How far training forecasts miss"
    yield ""
    yield f"Written by `{COMMAND}`; do not edit."
    yield ""
    yield "A row is forecast from its inputs only: model, chips, batch, sequence length, formats, parallel plan and"
    yield "software as far as they are stated, the rest chosen by the planner. Errors are forecast / measured - 1, of"
    yield "tokens per second and chip, or of chip-hours. *Left out*: forecast by a calibration fitted without that"
    yield f"row's source. The calibration has {calibration.n_parameters} numbers, keyed by kind of operation, hardware"
    yield "family and software, never by model, chip or source."
    yield ""
    yield f"MFU: {MFU_CONVENTION}, over the 16-bit dense peak."


def _summary(files: Sequence[Validated], by_source: Sequence[Scored], by_family: Sequence[Scored]) -> Lines:
    yield from _title("Throughput", ("Rows", *_SCORE))
    for file in files:
        n_eligible = len(file.scored) + sum(row.eligible for row in file.skipped)
        yield _row(f"{file.path.name}: {len(file.scored)} of {n_eligible} eligible", *_cells(score(file.scored)))
    yield _row("all, each source left out in turn", *_cells(score(by_source)))
    yield _row("all, each hardware family left out in turn", *_cells(score(by_family)))
    skipped = [(file.path.name, row) for file in files for row in file.skipped]
    if skipped:
        yield from ("", f"{len(skipped)} rows are not forecast:", "")
        for (name, reason), n in _counted((name, row.reason) for name, row in skipped).items():
            yield f"- {name}, {n}: {reason}"


def _grouped(title: str, files: Sequence[Validated], unseen: Sequence[Scored], key: Callable[[Scored], str]) -> Lines:
    yield from _title(title, ("", "Rows", "Median", "90 %", "Bias", "Left out: median", "90 %", "Bias"))
    fitted = [row for file in files for row in file.scored]
    for name in sorted({key(row) for row in fitted}):
        inside = score([row for row in fitted if key(row) == name])
        outside = score([row for row in unseen if key(row) == name])
        yield _row(name.replace("|", "/"), str(inside.n), *_errors(inside), *_errors(outside))


def _families(rows: Sequence[ThroughputRow], unseen: Sequence[Scored]) -> Lines:
    yield from _title("A hardware family that was never fitted", ("Family left out", *_SCORE))
    family = {(row.source, row.cluster.chip.name): family_of(row) for row in rows}
    for name in sorted(set(family.values())):
        yield _row(name, *_cells(score([row for row in unseen if family[row.source, row.chip] == name])))


def _worst(files: Sequence[Validated]) -> Lines:
    yield from _title("The ten worst rows", ("Error", "Row", "Plan"))
    rows = sorted((row for file in files for row in file.scored), key=lambda row: -abs(row.error))
    for row in rows[:10]:
        where = f"{row.name}, {row.detail['seq_len']} tokens, {row.n_chips} x {row.chip}, {row.detail['stack']}"
        yield _row(_percent(row.error), where, row.detail["plan"])


def _runs(file: Validated) -> Lines:
    yield from _title("Whole runs, chip-hours", ("Rows", *_SCORE))
    verified = [row for row in file.scored if row.detail["verified"]]
    yield _row(f"{file.path.name}: all", *_cells(score(file.scored)))
    yield _row(f"{file.path.name}: verified", *_cells(score(verified)))
    yield from (
        "",
        "A run's interval is the spread of the verified rows themselves, so that what it holds is in the fit.",
        "",
    )
    columns = ("Run", "Chips", "Forecast h", "Reported h", "Ratio", "Reported beyond pure training")
    yield from _table(columns)
    for row in sorted(file.scored, key=lambda row: -row.measured):
        chips = f"{row.n_chips} x {row.chip}" + (" (number assumed)" if row.detail["n_chips_assumed"] else "")
        name = row.name + ("" if row.detail["verified"] else " (recalled)")
        ratio = f"{row.forecast / row.measured:.2f}"
        beyond = _percent(row.detail["implied_overhead_frac"])
        yield _row(name, chips, f"{row.forecast:,.0f}", f"{row.measured:,.0f}", ratio, beyond)
    yield ""
    yield "Not forecast: " + "; ".join(f"{row.row.get('model')} ({row.reason})" for row in file.skipped) + "."


def _flop_totals() -> Lines:
    totals = flop_totals_table()
    agree = agreement(totals)
    columns = ("Model", "Convention", "Published", "Ours", "Error", "")
    yield from _title("Published FLOP totals, each in its source's convention", columns)
    for each in totals:
        row, note = each.row, "" if each.row.verified else "recalled"
        note = note if row.agrees else "; ".join(filter(None, (note, row.note or "disagrees")))
        yield _row(
            row.name, row.convention.value, f"{row.flops:.4g}", f"{each.ours_flops:.4g}", _percent(each.error), note
        )
    within = f"{agree.n_within} of {agree.n} totals that were read in their source agree within {TOLERANCE:.0%}"
    yield from ("", f"{within}, {agree.n_within_stated} of them in a convention that the source itself states.")


def _numbers(calibration: Calibration) -> Lines:
    yield from _title("The calibration", ("Number", "Value"))
    for name, value in flatten(calibration).items():
        yield _row(name, f"{value:.4g}")


_SCORE = ("Count", "Median", "90 %", "Bias", "In the 5-95 % interval")


def _cells(of: Score) -> tuple[str, ...]:
    return (str(of.n), *_errors(of), f"{of.coverage_90:.0%}")


def _errors(of: Score) -> tuple[str, str, str]:
    return f"{of.median_abs_rel_error:.1%}", f"{of.p90_abs_rel_error:.1%}", _percent(of.bias)


def _percent(x: float) -> str:
    return f"{x:+.1%}"


def _counted(items: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for item in items:
        found[item] = found.get(item, 0) + 1
    return found


def _title(title: str, columns: Sequence[str]) -> Lines:
    return ("", f"## {title}", "", *_table(columns))


def _table(columns: Sequence[str]) -> Lines:
    return (_row(*columns), "|".join(["", " --- ", *["--:"] * (len(columns) - 1), ""]))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
