"""The machine that this process sits on, measured: rates per number format, bandwidth, power counters, price."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from twobills.errors import RequestError
from twobills.flows.calibrate_machine import experience_of
from twobills.jobs.device import Device, pick_device
from twobills.jobs.probe import fastest_dtype, measure_efficiency
from twobills.jobs.training.processes import Processes
from twobills.ledger.store import Ledger
from twobills.ledger.timed_runs import Machine
from twobills.meter.environment import environment
from twobills.meter.power import PowerReader, best_reader, power_counters
from twobills.money.rates import Rates, at_user_price, rented
from twobills.specs import catalog
from twobills.specs.dtype import DType
from twobills.specs.efficiency import OpKind
from twobills.specs.experience import Experience
from twobills.specs.hardware import ChipSpec, MachineSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMachine:
    """The device with its catalogue row and its rates of money; nothing measured yet."""

    device: Device
    chip: ChipSpec
    rates: Rates
    processes: Processes | None = None
    """Those that compute on the device together, where there are several."""

    def power_reader(self, age_s: float = 0.0) -> PowerReader:
        """A fresh reader of the best joule source there is; a declared one from ``age_s`` seconds ago on."""
        return best_reader(
            gpu_uuids=self.device.gpu_uuids,
            watts_per_chip=self.chip.watts,
            n_chips=self.device.n_chips,
            n_hosts=self.processes.n_hosts if self.processes else 1,
            age_s=age_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredMachine:
    """The device and what it achieves."""

    found: FoundMachine
    spec: MachineSpec
    dtype: DType
    """The format in which its large products are fastest."""


def find_machine(
    usd_per_chip_hour: float | None = None, processes: Processes | None = None, n_cores: int | None = None
) -> FoundMachine:
    """This machine's device, catalogue row and price, the user's own price taking precedence.

    For several processes the device is all of theirs together. On a CPU one uses ``n_cores``, or all.
    """
    device = processes.together if processes else pick_device(n_cores)
    chip = catalog.chip(chip_name(device))
    if usd_per_chip_hour is None:
        rates = rented(catalog.chip_price(chip.name))
    else:
        rates = at_user_price(usd_per_chip_hour, as_of=date.today().isoformat())
    return FoundMachine(device=device, chip=chip, rates=rates, processes=processes)


def measure_machine(found: FoundMachine, ledger: Ledger | None = None) -> MeasuredMachine:
    """Times single operations for a few seconds; what the ledger's runs taught of this machine comes with it.

    Of several GPUs one is timed and each is taken to be like it; what they say to one another is not forecast.
    """
    if found.processes:
        found.processes.use_cores(alone=True)
    efficiency = measure_efficiency(found.device)
    if found.device.on_gpu and found.device.n_chips > 1:
        efficiency = efficiency.times(found.device.n_chips)
    machine = Machine(found.device.name, found.chip.name, found.device.n_chips)
    spec = MachineSpec(
        chip=found.chip,
        n_chips=found.device.n_chips,
        memory_bytes=found.device.memory_bytes,
        efficiency=efficiency,
        experience=experience_of(ledger, machine) if ledger else Experience(),
        by_hand=not found.device.on_gpu and not found.processes,
    )
    return MeasuredMachine(found=found, spec=spec, dtype=fastest_dtype(efficiency))


def chip_name(device: Device) -> str:
    """The catalogue's name for this device. Raises RequestError for a GPU that it does not know."""
    if not device.on_gpu:
        return catalog.THIS_MACHINE_CPU
    for name, chip in catalog.chips().items():
        if device.name in chip.reported_as:
            return name
    raise RequestError(f"GPU {device.name!r}: not in the catalogue; set CUDA_VISIBLE_DEVICES= to use the CPU instead")


def machine_to_json(machine: MeasuredMachine) -> dict[str, Any]:
    """What was measured as plain JSON, base units in the key names."""
    efficiency, chip, power = machine.spec.efficiency, machine.found.chip, machine.found.power_reader()
    return {
        "name": machine.found.device.name,
        "chip": chip.name,
        "n_chips": machine.found.device.n_chips,
        "memory_bytes": machine.found.device.memory_bytes,
        "matmul_flops_per_s": {
            dtype.value: max(rate for _, rate in curves[OpKind.MATMUL])
            for dtype, curves in efficiency.flops_per_s.items()
        },
        "memory_bytes_per_s": efficiency.bytes_per_s[OpKind.ELEMENTWISE][-1][1],
        "call_overhead_s": efficiency.call_overhead_s,
        "curves": {
            "flops_per_s": {
                dtype.value: {kind.value: curve for kind, curve in curves.items()}
                for dtype, curves in efficiency.flops_per_s.items()
            },
            "bytes_per_s": {kind.value: curve for kind, curve in efficiency.bytes_per_s.items()},
        },
        "dtype": machine.dtype.value,
        "power_counters": power_counters(),
        "power_source": power.name,
        "power_stamp": power.stamp.value,
        "watts_per_chip": chip.watts,
        "watts_source": chip.cited_source,
        "rates": machine.found.rates.to_json(),
        "environment": environment(),
    }
