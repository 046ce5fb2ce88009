"""Which software ran a row of a table: by the frameworks that it names, its paper's date, its plan and its chip."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from twobills.specs import catalog
from twobills.specs.parallel import Stack

_FRAMEWORKS = (
    ("(megascale)", Stack.OVERLAPPED),
    ("nemo ", Stack.OVERLAPPED),
    ("_nemo", Stack.OVERLAPPED),
    ("transformer engine", Stack.OVERLAPPED),
    ("megatron", Stack.FUSED),
    ("maxtext", Stack.COMPILED),
    ("compile", Stack.COMPILED),
    ("async tp", Stack.COMPILED),
    ("asynctp", Stack.COMPILED),
    ("torchtitan", Stack.EAGER),
    ("llm-foundry", Stack.EAGER),
)
"""The first that a row names decides: the software, not who published the row."""
AMPERE_YEAR, FLASH_YEAR = 2020, 2021
"""Software is of its chip's time: flash attention came in 2022, and chips before Ampere ran what was there before."""
FLASH_MONTH = "2205"
"""Software is of its paper's time: flash attention (arXiv:2205.14135) and selective recomputation (2205.05198) are of
May 2022; until then attention's square went through memory, and large models were recomputed layer by layer."""


def stack_of(row: Mapping[str, str], degrees: Collection[str]) -> Stack:
    """The software of its paper's time, or that a row names; if none, what its kind of plan is usually run by.

    ``degrees``: the kinds of parallelism that the row states.
    """
    if before_flash(row):
        return Stack.EARLY
    words = " ".join(row.get(key, "") for key in ("source", "model", "note", "parallelism", "source_url")).lower()
    for framework, stack in _FRAMEWORKS:
        if framework in words:
            return stack
    if "fsdp" in degrees and not {"tp", "pp"} & set(degrees):
        return Stack.COMPILED
    year = catalog.chip(row["chip"]).year or 0
    if year > FLASH_YEAR:
        return Stack.OVERLAPPED
    return Stack.EARLY if says_recomputed(row) or year < AMPERE_YEAR else Stack.FUSED


def says_recomputed(row: Mapping[str, str]) -> bool:
    """Whether a row says in words that layers were recomputed."""
    return bool(re.search(r"activation checkpointing|full recompu", row.get("note", "").lower()))


def before_flash(row: Mapping[str, str]) -> bool:
    """Whether a row's paper is older than flash attention."""
    paper = re.search(r"arxiv\.org/\w+/(\d{4})\.\d", row.get("source_url", "").lower())
    return paper is not None and paper.group(1) <= FLASH_MONTH
