"""Another tool's forecasts of the same measured rows, beside ours.

A file of them (``COLUMNS``) names a table and the number of a row in it, so that both forecasts of a row are of one
measurement. Errors are compared only on rows that both forecast; how many either does stands beside. Our own are shown
in the fit and, where given, with the row's source left out of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from twobills.errors import DataError
from twobills.flows.validation.markdown import errors, row, titled
from twobills.flows.validation.rows import read_table
from twobills.flows.validation.score import Scored, score

COLUMNS = ("peer", "version", "file", "row", "metric", "forecast", "database", "note")
METRICS = {"tpot_s": "TPOT", "ttft_s": "TTFT"}
NOTES = {
    "AIConfigurator": (
        "AIConfigurator looks times up in tables of kernels that were measured on these very chips; twobills has data",
        "sheets and at most 30 fitted numbers. Neither saw these rows for the first time: most are published inside",
        "AIConfigurator's own repository (`silicon_sample.csv`, kept to test it), and our calibration was fitted on",
        "them; *left out* is ours fitted without the row's source, which still holds other sources of the same chips.",
        "Both get the same weight and cache formats and mean lengths (0.9 of those printed where the benchmark draws",
        "them from 0.8 to 1.0). It answers for one release of each engine, most newer than the one that was measured,",
        "by its single estimate, whose step reads as many tokens as one prompt has; formats of its own choice or 8192",
        "tokens a step made its errors of TPOT larger. It has no forecast where its memory does not hold the load.",
    )
}
"""What a reader must know to read the comparison fairly, by peer."""


class Peer(NamedTuple):
    """Another tool's forecasts, by file and row (``more.csv:12``) and by metric."""

    name: str
    version: str
    forecasts: Mapping[tuple[str, str], float]
    n_asked: int
    databases: Sequence[str]
    """Versions of engines that it answered for."""
    n_doubted: int
    """Forecasts at which it warns of its own accuracy."""


class Pair(NamedTuple):
    """One measurement, forecast by both."""

    theirs: Scored
    ours: Scored
    unseen: Scored | None


def read_peer(path: Path) -> Peer:
    """The forecasts in a file. Raises DataError if it is none, or of more than one release."""
    rows = read_table(path)
    if missing := [name for name in COLUMNS if name not in rows[0]]:
        raise DataError(f"{path}: column {missing[0]!r} is missing; a peer's forecasts have {', '.join(COLUMNS)}")
    releases = sorted({(each["peer"], each["version"]) for each in rows})
    if len(releases) > 1:
        found = ", ".join(" ".join(release) for release in releases)
        raise DataError(f"{path}: forecasts of more than one release ({found}); give one file for each")
    forecasts: dict[tuple[str, str], float] = {}
    for line, each in enumerate(rows, start=2):
        if not each["row"].isdigit():
            raise DataError(f"{path}, line {line}: row={each['row']!r}: must be the number of a row, the first being 1")
        key = f"{each['file']}:{int(each['row'])}", each["metric"]
        if key in forecasts:
            raise DataError(f"{path}, line {line}: {key[0]}, {key[1]}: occurs twice")
        if each["forecast"]:
            forecasts[key] = _seconds(each["forecast"], f"{path}, line {line}")
    databases = sorted({each["database"] for each in rows if each["database"]})
    n_doubted = sum(bool(each["forecast"] and each["note"]) for each in rows)
    return Peer(*releases[0], forecasts, len(rows), databases, n_doubted)


def peer_lines(ours: Sequence[Scored], unseen: Sequence[Scored], peer: Peer) -> Iterator[str]:
    """The section, Markdown. Raises DataError if no row has both forecasts."""
    pairs = paired(ours, unseen, peer)
    if not pairs:
        raise DataError(f"{peer.name} {peer.version}: none of its {len(peer.forecasts)} forecasts is of a row given")
    left_out = all(pair.unseen for pair in pairs)
    names = [peer.name, "twobills", *(["left out"] if left_out else [])]
    yield from ("", f"## Beside {peer.name}", "", *NOTES.get(peer.name, ()), "")
    n_ours = sum(each.detail["unit"] in METRICS for each in ours)
    yield f"Of {peer.n_asked} rows asked {peer.name} {peer.version} forecasts {len(peer.forecasts)}. twobills forecasts"
    yield f"{n_ours} latencies of the tables given; both {len(pairs)}. {peer.name} itself doubts {peer.n_doubted}: more"
    yield f"requests than its memory holds. Engines it answers for: {', '.join(peer.databases) or 'not stated'}."
    figures = [f"{name}: {what}" for name in names for what in ("median", "90 %", "bias")]
    columns = ("", "Rows", *figures, "twobills nearer", "Lowest median")
    for metric, title in METRICS.items():
        of_metric = [pair for pair in pairs if pair.ours.detail["unit"] == metric]
        if not of_metric:
            continue
        yield from titled(f"{title} beside {peer.name}", columns)
        for name, group in _groups(of_metric):
            yield _compared(name, group, names)


def paired(ours: Sequence[Scored], unseen: Sequence[Scored], peer: Peer) -> list[Pair]:
    """The latencies that both forecast, in the order of ours."""
    left_out = {_key(each): each for each in unseen}
    pairs = []
    for each in ours:
        theirs = peer.forecasts.get(_key(each))
        if theirs is not None and each.detail["unit"] in METRICS:
            pairs.append(Pair(each._replace(forecast=theirs, p5=theirs, p95=theirs), each, left_out.get(_key(each))))
    return pairs


def _groups(pairs: Sequence[Pair]) -> Iterator[tuple[str, list[Pair]]]:
    yield "all", list(pairs)
    keys: tuple[Callable[[Scored], str], ...] = (
        lambda each: each.chip,
        lambda each: str(each.detail["software"]),
        lambda each: each.name,
        lambda each: each.source,
    )
    for key in keys:
        for name in sorted({key(pair.ours) for pair in pairs}):
            yield name, [pair for pair in pairs if key(pair.ours) == name]


def _compared(name: str, pairs: Sequence[Pair], names: Sequence[str]) -> str:
    """One group: the errors of each, and who wins."""
    columns = [[pair.theirs for pair in pairs], [pair.ours for pair in pairs]]
    if len(names) > len(columns):
        columns.append([pair.unseen for pair in pairs if pair.unseen])
    scores = [score(column) for column in columns]
    nearer = sum(abs(pair.ours.error) < abs(pair.theirs.error) for pair in pairs) / len(pairs)
    medians = [each.median_abs_rel_error for each in scores]
    winner = names[0] if medians[0] < min(medians[1:]) else names[1]
    if min(medians[1:]) <= medians[0] < max(medians[1:]):
        winner = f"twobills, but {names[0]} if {names[-1]}"
    cells = [cell for each in scores for cell in errors(each)]
    return row(name.replace("|", "/"), str(len(pairs)), *cells, f"{nearer:.0%}", winner)


def _key(scored: Scored) -> tuple[str, str]:
    return scored.detail["place"], scored.detail["unit"]


def _seconds(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise DataError(f"{where}: forecast={text!r}: must be seconds above 0, or empty where there is none")
    return value
