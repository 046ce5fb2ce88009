"""``docs/accuracy.md``: how far forecasts miss, in the fit and left out, written from the rows themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twobills.counts.flops import MFU_CONVENTION
from twobills.flows.validation.document import Validated
from twobills.flows.validation.flop_totals import TOLERANCE, agreement, flop_totals_table
from twobills.flows.validation.left_out import family_of, left_out, source_of
from twobills.flows.validation.markdown import SCORE_COLUMNS, counted, grouped, head, percent, row, score_cells, titled
from twobills.flows.validation.peer import Peer
from twobills.flows.validation.rows import ThroughputRow
from twobills.flows.validation.score import Scored, score
from twobills.flows.validation.serving_accuracy import serving_lines
from twobills.specs.calibration import Calibration, flatten
from twobills.specs.serving_calibration import ServingCalibration

COMMAND = "twobills validate training FILE... --serving FILE... --peer FILE --report docs/accuracy.md"
Lines = Iterable[str]


def accuracy_page(
    files: Sequence[Validated],
    calibration: Calibration,
    served: Sequence[Validated],
    serving_calibration: ServingCalibration,
    peers: Sequence[Peer] = (),
) -> str:
    """The page, Markdown. Rows are left out by fitting anew: a minute for training, several for serving."""
    throughput = [file for file in files if not file.is_runs]
    rows = [each for file in throughput for each in file.rows]
    fitted = [each for file in throughput for each in file.scored]
    unseen_source = left_out(rows, calibration, source_of)
    unseen_family = left_out(rows, calibration, family_of)
    parts = [
        _head(calibration),
        _summary(throughput, unseen_source, unseen_family),
        grouped("By chip", fitted, unseen_source, lambda each: each.chip),
        grouped("By model", fitted, unseen_source, lambda each: each.name),
        grouped("By source", fitted, unseen_source, lambda each: each.source),
        _families(rows, unseen_family),
        _worst(throughput),
        *[_runs(file) for file in files if file.is_runs],
        _flop_totals(),
        _numbers(calibration),
        *([serving_lines(served, serving_calibration, peers)] if served else []),
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(calibration: Calibration) -> Lines:
    yield "# How far forecasts miss"
    yield ""
    yield f"Written by `{COMMAND}`; do not edit."
    yield ""
    yield "A row is forecast from its inputs only: model, chips, batch, lengths, formats, parallel plan and software as"
    yield "far as they are stated, the rest chosen by the planner. Errors are forecast / measured - 1, of tokens per"
    yield "second and chip, of chip-hours, or of whatever a serving row timed. *Left out*: forecast by a calibration"
    yield f"fitted without that row's source. Training has {calibration.n_parameters} fitted numbers, serving up to 30,"
    yield "keyed by kind of operation, hardware family and software, never by model, chip or source."
    yield ""
    yield "Beside the fitted numbers stand constants that were set by hand, some with these rows in view: how products"
    yield "go with rated power (`perf.achieved`), half of the tuned kernel's gain for compiled software, microseconds"
    yield "per kernel and message, memory that engines reserve. Fits with a source left out begin at the full fit's"
    yield "numbers; a table's sections count as sources of their own."
    yield ""
    yield f"MFU: {MFU_CONVENTION}, over the 16-bit dense peak."


def _summary(files: Sequence[Validated], by_source: Sequence[Scored], by_family: Sequence[Scored]) -> Lines:
    yield from titled("Throughput", ("Rows", *SCORE_COLUMNS))
    for file in files:
        n_eligible = len(file.scored) + sum(each.eligible for each in file.skipped)
        yield row(f"{file.path.name}: {len(file.scored)} of {n_eligible} eligible", *score_cells(score(file.scored)))
    yield row("all, each source left out in turn", *score_cells(score(by_source)))
    yield row("all, each hardware family left out in turn", *score_cells(score(by_family)))
    skipped = [(file.path.name, each.reason) for file in files for each in file.skipped]
    if skipped:
        yield from ("", f"{len(skipped)} rows are not forecast:", "")
        for (name, reason), n in counted(skipped).items():
            yield f"- {name}, {n}: {reason}"


def _families(rows: Sequence[ThroughputRow], unseen: Sequence[Scored]) -> Lines:
    yield from titled("A hardware family that was never fitted", ("Family left out", *SCORE_COLUMNS))
    family = {(each.source, each.cluster.chip.name): family_of(each) for each in rows}
    for name in sorted(set(family.values())):
        yield row(name, *score_cells(score([each for each in unseen if family[each.source, each.chip] == name])))


def _worst(files: Sequence[Validated]) -> Lines:
    yield from titled("The ten worst rows", ("Error", "Row", "Plan"))
    for each in sorted((each for file in files for each in file.scored), key=lambda each: -abs(each.error))[:10]:
        where = f"{each.name}, {each.detail['seq_len']} tokens, {each.n_chips} x {each.chip}, {each.detail['stack']}"
        yield row(percent(each.error), where, each.detail["plan"])


def _runs(file: Validated) -> Lines:
    yield from titled("Whole runs, chip-hours", ("Rows", *SCORE_COLUMNS))
    verified = [each for each in file.scored if each.detail["verified"]]
    yield row(f"{file.path.name}: all", *score_cells(score(file.scored)))
    if verified:
        yield row(f"{file.path.name}: verified", *score_cells(score(verified)))
    spread = "A run's interval is the spread of the verified rows themselves, so that what it holds is in the fit."
    columns = ("Run", "Chips", "Forecast h", "Reported h", "Ratio", "Reported beyond pure training")
    yield from ("", spread, "", *head(columns))
    for each in sorted(file.scored, key=lambda each: -each.measured):
        chips = f"{each.n_chips} x {each.chip}" + (" (number assumed)" if each.detail["n_chips_assumed"] else "")
        name = each.name + ("" if each.detail["verified"] else " (recalled)")
        ratio = f"{each.forecast / each.measured:.2f}"
        beyond = percent(each.detail["implied_overhead_frac"])
        yield row(name, chips, f"{each.forecast:,.0f}", f"{each.measured:,.0f}", ratio, beyond)
    if file.skipped:
        left = "; ".join(f"{skipped.row.get('model')} ({skipped.reason})" for skipped in file.skipped)
        yield from ("", f"Not forecast: {left}.")


def _flop_totals() -> Lines:
    totals = flop_totals_table()
    agree = agreement(totals)
    columns = ("Model", "Convention", "Published", "Ours", "Error", "")
    yield from titled("Published FLOP totals, each in its source's convention", columns)
    for each in totals:
        total, note = each.row, "" if each.row.verified else "recalled"
        note = note if total.agrees else "; ".join(filter(None, (note, total.note or "disagrees")))
        figures = (f"{total.flops:.4g}", f"{each.ours_flops:.4g}", percent(each.error))
        yield row(total.name, total.convention.value, *figures, note)
    within = f"{agree.n_within} of {agree.n} totals that were read in their source agree within {TOLERANCE:.0%}"
    yield from ("", f"{within}, {agree.n_within_stated} of them in a convention that the source itself states.")


def _numbers(calibration: Calibration) -> Lines:
    yield from titled("The calibration", ("Number", "Value"))
    for name, value in flatten(calibration).items():
        yield row(name, f"{value:.4g}")
