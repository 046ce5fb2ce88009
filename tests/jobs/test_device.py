"""What of this machine a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from twobills.errors import RequestError
from twobills.flows.machine import _chip_name
from twobills.jobs.device import Device, usable_cores, usable_memory_bytes


def test_a_containers_share_is_the_limit(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert usable_cores(tmp_path) == 1
    assert usable_memory_bytes(tmp_path) == 1e6


def test_without_a_limit_the_machine_is(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert usable_cores(tmp_path) == usable_cores(tmp_path / "nowhere") == len(os.sched_getaffinity(0))
    assert usable_memory_bytes(tmp_path) == usable_memory_bytes(tmp_path / "nowhere") > 1e8


def gpu(name: str) -> Device:
    return Device(torch.device("cuda", 0), name, 1, 8e10, ("GPU-1",))


def test_a_gpu_is_known_by_its_drivers_name_and_by_nothing_like_it() -> None:
    assert _chip_name(gpu("NVIDIA H100 80GB HBM3")) == "h100-sxm"
    assert _chip_name(gpu("NVIDIA H200")) == "h200-sxm"
    assert _chip_name(gpu("NVIDIA H100 PCIe")) == "h100-pcie"
    with pytest.raises(RequestError, match="GPU 'NVIDIA H100 CNX': not in the catalogue; set CUDA_VISIBLE_DEVICES="):
        _chip_name(gpu("NVIDIA H100 CNX"))
