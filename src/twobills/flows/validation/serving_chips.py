"""What the chip column of a published serving row means: one kind of chip, as that row ran it.

A row's words beside the name are read, not dropped: ``(330W cap)`` caps the power, ``(1 GCD)`` is one die of two,
memory in the name must be the chip's, and Apple's, which is sold in several sizes, becomes it. "variant not stated"
is taken as the part that was sold first (A100: SXM with 40 GB, H100: with 80 GB), and said so. Systems of several
kinds are refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from twobills.errors import CatalogError
from twobills.specs import catalog
from twobills.specs.hardware import ChipSpec
from twobills.units import GIBI

_NOTE = re.compile(r"\s*\(([^)]*)\)")
_CAP = re.compile(r"(\d+) ?W cap")
_MEMORY = re.compile(r"\s+(\d+) ?GB$")
_SEVERAL = re.compile(r"\+\s*\w|\bmix\b")
_SAME_MEMORY = 0.05
"""Tables round, and state what is printed or what is usable."""
_ANY_MEMORY = {"Apple"}
"""Makers of chips that are sold with several sizes of memory; the catalogue's is the largest."""


FIRST_SOLD = {"A100": "A100 SXM 40GB"}
"""What a name is taken to mean where the variant is not stated: the part that was sold first."""


class ServedOn(NamedTuple):
    """A row's chip, and what was taken for granted about it ("" if nothing)."""

    chip: ChipSpec
    assumed: str


def serving_chip(text: str) -> ServedOn:
    """The chip that a row names. Raises CatalogError for several kinds, an unknown one, or memory it does not have."""
    notes = [note.strip() for note in _NOTE.findall(text)]
    name = _NOTE.sub("", text).strip()
    if _SEVERAL.search(name):
        raise CatalogError(f"chip {text!r}: is more than one kind of chip; give each kind a row of its own")
    if "variant not stated" in notes:
        name = FIRST_SOLD.get(name, name)
    chip = _of_its_memory(f"{name} 1 GCD" if "1 GCD" in notes else name)
    caps = [float(cap[1]) for note in notes if (cap := _CAP.fullmatch(note))]
    assumed = f"variant not stated: taken as {chip.name}" if "variant not stated" in notes else ""
    return ServedOn(replace(chip, watts=caps[0]) if caps else chip, assumed)


def _of_its_memory(name: str) -> ChipSpec:
    """The chip of a name that may end in its memory."""
    stated = _MEMORY.search(name)
    if stated is None:
        return catalog.chip(name)
    try:
        chip = catalog.chip(name)
    except CatalogError:
        chip = catalog.chip(name[: stated.start()])
    memory_bytes = float(stated[1]) * GIBI
    sizes = [size for size in (chip.memory_bytes, chip.usable_memory_bytes) if size]
    if any(abs(memory_bytes / size - 1) <= _SAME_MEMORY for size in sizes):
        return chip
    if chip.vendor in _ANY_MEMORY and memory_bytes < max(sizes):
        return replace(chip, memory_bytes=memory_bytes)
    has = f"{max(sizes) / GIBI:g} GB" if sizes else "none that is known"
    raise CatalogError(f"chip {name!r}: {chip.name} has {has}; name the part that has {stated[1]} GB")
