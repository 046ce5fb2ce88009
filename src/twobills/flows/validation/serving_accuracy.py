"""The part of ``docs/accuracy.md`` about serving: errors in the fit and with each source left out in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twobills.flows.calibrate_serving import left_out_serving
from twobills.flows.validation.document import Validated
from twobills.flows.validation.markdown import SCORE_COLUMNS, grouped, percent, row, score_cells, titled
from twobills.flows.validation.peer import Peer, peer_lines
from twobills.flows.validation.score import Scored, score, score_by
from twobills.specs.serving_calibration import ServingCalibration, flatten


def serving_lines(
    files: Sequence[Validated], calibration: ServingCalibration, peers: Sequence[Peer] = ()
) -> Iterator[str]:
    """The sections, Markdown. Rows are left out by fitting anew, which takes minutes."""
    rows = [served for file in files for served in file.served]
    unseen = left_out_serving(rows, calibration)
    fitted = [scored for file in files for scored in file.scored]
    yield from titled("Inference", ("Rows", *SCORE_COLUMNS))
    for file in files:
        n_eligible = len(file.scored) + sum(skipped.eligible for skipped in file.skipped)
        yield row(f"{file.path.name}: {len(file.scored)} of {n_eligible} eligible", *score_cells(score(file.scored)))
        for unit in sorted({scored.detail["unit"] for scored in file.scored}):
            of_unit = [scored for scored in file.scored if scored.detail["unit"] == unit]
            yield row(f"{file.path.name}: {unit}", *score_cells(score(of_unit)))
    yield row("all, each source left out in turn", *score_cells(score(unseen)))
    for name, found in (("fitted", fitted), ("left out", unseen)):
        medians = [each.median_abs_rel_error for each in score_by(found, "source").values()]
        yield from ("", f"Mean of the sources' medians, {name}: {sum(medians) / len(medians):.1%}.")
    yield from grouped("Inference by source", fitted, unseen, lambda scored: scored.source)
    yield from grouped("Inference by what was timed", fitted, unseen, _timed)
    yield from grouped("Inference by chip", fitted, unseen, lambda scored: scored.chip)
    yield from grouped("Inference by model", fitted, unseen, lambda scored: scored.name)
    for peer in peers:
        yield from peer_lines(fitted, unseen, peer)
    yield from titled("The ten worst serving rows", ("Error", "Row", "What"))
    for scored in sorted(fitted, key=lambda scored: -abs(scored.error))[:10]:
        detail = scored.detail
        where = f"{scored.name}, {scored.n_chips} x {scored.chip}, {detail['weights']}, {detail['engine']}"
        lengths = f"{detail['prompt_tokens']:g}/{detail['answer_tokens']:g}"
        yield row(percent(scored.error), where, f"{detail['unit']}, {detail['manner']}, {lengths}")
    yield from titled("The serving calibration", ("Number", "Value"))
    for name, value in flatten(calibration).items():
        yield row(name, f"{value:.4g}")


def _timed(scored: Scored) -> str:
    return f"{scored.detail['engine']}, {scored.detail['manner']}, {scored.detail['unit']}"
