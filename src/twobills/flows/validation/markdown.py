"""Tables of Markdown with the figures of a score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from twobills.flows.validation.score import Score, Scored, score

SCORE_COLUMNS = ("Count", "Median", "90 %", "Bias", "In the 5-95 % interval")


def score_cells(of: Score) -> tuple[str, ...]:
    """A score under ``SCORE_COLUMNS``."""
    return (str(of.n), *errors(of), f"{of.coverage_90:.0%}")


def errors(of: Score) -> tuple[str, str, str]:
    """Median and 90th percentile of the size, and the median with its sign."""
    return f"{of.median_abs_rel_error:.1%}", f"{of.p90_abs_rel_error:.1%}", percent(of.bias)


def percent(x: float) -> str:
    """With its sign."""
    return f"{x:+.1%}"


def grouped(
    title: str, fitted: Sequence[Scored], unseen: Sequence[Scored], key: Callable[[Scored], str]
) -> Iterator[str]:
    """The errors of each group of rows, in the fit and left out."""
    yield from titled(title, ("", "Rows", "Median", "90 %", "Bias", "Left out: median", "90 %", "Bias"))
    for name in sorted({key(scored) for scored in fitted}):
        inside = score([scored for scored in fitted if key(scored) == name])
        outside = score([scored for scored in unseen if key(scored) == name])
        yield row(name.replace("|", "/"), str(inside.n), *errors(inside), *errors(outside))


def counted(items: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """How often each occurs, in order of first occurrence."""
    found: dict[tuple[str, str], int] = {}
    for item in items:
        found[item] = found.get(item, 0) + 1
    return found


def titled(title: str, columns: Sequence[str]) -> tuple[str, ...]:
    """A heading and the head of a table."""
    return ("", f"## {title}", "", *head(columns))


def head(columns: Sequence[str]) -> tuple[str, str]:
    """The head of a table: words to the left, figures to the right."""
    return (row(*columns), "|".join(["", " --- ", *["--:"] * (len(columns) - 1), ""]))


def row(*cells: str) -> str:
    """One row."""
    return f"| {' | '.join(cells)} |"
