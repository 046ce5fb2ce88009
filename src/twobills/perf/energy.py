"""Joules of a forecast: the chip's declared watts for as long as it is reserved, stamped as declared."""

from __future__ import annotations

from twobills.specs.hardware import MachineSpec
from twobills.usage import Energy, Stamp


def declared_energy(machine: MachineSpec, chip_s: float) -> Energy:
    """Declared watts x chip-seconds; none where no draw is declared."""
    watts = machine.chip.watts
    return Energy() if watts is None else Energy.of(watts * chip_s, Stamp.DECLARED)
