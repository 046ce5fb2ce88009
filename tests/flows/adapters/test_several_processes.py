"""The meter where several processes really train together: the first writes, and stands for all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from twobills.jobs.device import usable_cores
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.usage import Job, Phase

LOOP = """
import os, torch, torch.distributed as dist, torch.nn.functional as F
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from twobills.flows.adapters.torch_loop import metered

dist.init_process_group("gloo")
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Embedding(32, 16), torch.nn.Linear(16, 32))
network = {wrapped}
optimizer = torch.optim.AdamW(network.parameters())
with metered(network, name="several") as run:
    for _ in range(4):
        tokens = torch.zeros((2, 8), dtype=torch.int64)
        F.cross_entropy(network(tokens).flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        run.step()
dist.barrier()
os._exit(0)  # gloo's threads sometimes abort when Python takes them apart
"""


@pytest.mark.parametrize(
    "wrapped",
    ["DistributedDataParallel(network)", "fully_shard(network, mesh=dist.device_mesh.init_device_mesh('cpu', (2,)))"],
    ids=["ddp", "fsdp"],
)
def test_tokens_flops_and_chips_are_those_of_all(tmp_path: Path, wrapped: str) -> None:
    script = tmp_path / "loop.py"
    script.write_text(LOOP.format(wrapped=wrapped))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(launcher, env=environment, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr[-2000:]
    ledger = Ledger(Path(os.environ["TWOBILLS_LEDGER"]))
    (run_id,) = ledger.run_ids()
    assert ledger.outcome(run_id) is Outcome.DONE
    started = ledger.started(run_id).body
    assert (started["n_processes"], started["n_chips"]) == (2, usable_cores())
    used = ledger.measured_bills(run_id)[Job.TRAINING].usage.phases[Phase.PRETRAIN]
    n_tokens = 2 * 4 * 2 * 8
    assert used.tokens == n_tokens
    assert used.flops == 3 * 2 * 16 * 32 * n_tokens
