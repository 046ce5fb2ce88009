"""A job done by several processes that ``torchrun`` started: the first one does it, and the others do as it tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twobills.jobs.training.leading import follow
from twobills.jobs.training.processes import Processes, joined

__all__ = ["Processes", "together"]
_Found = TypeVar("_Found")


def together(lead: Callable[[Processes], _Found]) -> _Found | None:
    """What ``lead`` gives, in process 0; None in the others, when all is done. Raises GroupError if one is missing."""
    with joined() as processes:
        if processes.first:
            return lead(processes)
        follow(processes)
        return None
