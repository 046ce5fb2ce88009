"""The second job from beginning to end: a frozen folder, an engine, a server, a meter, until somebody stops it.

The digest of the weights is checked when the folder is loaded and again from memory when serving ends. The meter
starts before the weights are loaded, so loading and waiting are on the inference bill, as ``idle``.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from twobills.counts.params import count_params
from twobills.errors import DigestError
from twobills.flows.accounts import readings
from twobills.flows.machine import FoundMachine
from twobills.jobs.inference.engine import Engine
from twobills.jobs.inference.weights import LoadedModel, load_folder
from twobills.jobs.server.app import create_app
from twobills.jobs.server.loop import EngineLoop
from twobills.jobs.server.serve import run_server
from twobills.ledger.store import Ledger
from twobills.meter.meter import Meter
from twobills.money.bill import Bill, price
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.serving import KV_BLOCK_TOKENS, ServingSpec
from twobills.usage import Job, Phase, Usage

MAX_BATCH_SIZE = 32
SMALL_MODEL_PARAMS = 50e6
"""Below this a second core gains less on the products than it costs the threads that talk to the clients."""
MAX_CONTEXT_LEN = 4096


class Served(NamedTuple):
    """What a server did until it was stopped."""

    digest_before: str
    digest_after: str
    bill: Bill
    stopped_by: signal.Signals | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "digest_before_serving": self.digest_before,
            "digest_after_serving": self.digest_after,
            "stopped_by": self.stopped_by.name if self.stopped_by else None,
            "bill": self.bill.to_json(),
        }


def serving_spec(model: ModelSpec, dtype: DType, *, max_context_len: int | None = None) -> ServingSpec:
    """Limits for this machine's engine: room for a full batch of full contexts."""
    context_len = max_context_len or min(model.max_seq_len, MAX_CONTEXT_LEN)
    return ServingSpec(
        max_batch_size=MAX_BATCH_SIZE,
        max_context_len=context_len,
        n_kv_blocks=MAX_BATCH_SIZE * math.ceil(context_len / KV_BLOCK_TOKENS),
        dtype=dtype,
        n_threads=1 if count_params(model).total < SMALL_MODEL_PARAMS else None,
    )


def start_meter(found: FoundMachine) -> Meter:
    """The meter of an inference job: time without a request is idle."""
    return Meter(Job.INFERENCE, n_chips=found.device.n_chips, power=found.power_reader(), resting=Phase.IDLE)


def load_engine(folder: Path, found: FoundMachine, meter: Meter | None, dtype: DType | None = None) -> Engine:
    """An engine for the model in a folder, in its stored format unless another is asked for."""
    loaded = load_folder(folder)
    spec = serving_spec(loaded.spec, dtype or loaded.dtype)
    return Engine(loaded, spec, meter, device=found.device.torch_device)


def serve(
    folder: Path,
    *,
    host: str,
    port: int,
    found: FoundMachine,
    ledger: Ledger,
    run_id: str,
    on_ready: Callable[[str, LoadedModel], None],
    model_name: str | None = None,
    dtype: DType | None = None,
) -> Served:
    """Serves until stopped by a signal. Raises DigestError if the weights changed meanwhile."""
    meter = start_meter(found)
    with readings(ledger, run_id, meter, found.rates):
        engine = load_engine(folder, found, meter, dtype)
        loaded = engine.loaded
        ledger.result(run_id, {"digest_before_serving": loaded.digest, "folder": str(folder)})

        def cost(usage: Usage) -> float:
            return price(usage, found.rates).total_usd

        app = create_app(EngineLoop(engine, meter), model_name or folder.resolve().name, cost)
        stopped_by = run_server(app, host, port, on_ready=lambda url: on_ready(url, loaded))
        digest_after = loaded.digest_now()
    ledger.result(run_id, {"digest_after_serving": digest_after})
    if digest_after != loaded.digest:
        raise DigestError(
            f"{folder}: the weights changed while they were served: {loaded.digest} became {digest_after}"
        )
    return Served(loaded.digest, digest_after, price(meter.usage(), found.rates), stopped_by)
