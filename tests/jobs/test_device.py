"""What of this machine a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from twobills.errors import RequestError
from twobills.flows.machine import chip_name
from twobills.jobs.device import Device, device_of_process, usable_cores, usable_memory_bytes


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
    assert chip_name(gpu("NVIDIA H100 80GB HBM3")) == "h100-sxm"
    assert chip_name(gpu("NVIDIA H200")) == "h200-sxm"
    assert chip_name(gpu("NVIDIA H100 PCIe")) == "h100-pcie"
    with pytest.raises(RequestError, match="GPU 'NVIDIA H100 CNX': not in the catalogue; set CUDA_VISIBLE_DEVICES="):
        chip_name(gpu("NVIDIA H100 CNX"))


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads = torch.get_num_threads()
    half = device_of_process(1, 2)
    assert half.n_chips == torch.get_num_threads() == max(1, usable_cores() // 2)
    assert half.memory_bytes == usable_memory_bytes() / 2
    assert device_of_process(0, 10_000).n_chips == 1
    torch.set_num_threads(threads)


def test_every_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RequestError, match="3 processes for 2 GPUs: start at most one for each"):
        device_of_process(0, 3)
