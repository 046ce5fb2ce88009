"""The callback on a real ``transformers.Trainer``: a tiny Llama on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from twobills.counts.flops import executed_train_flops, forward_flops
from twobills.errors import RequestError
from twobills.ledger.record import Outcome, RecordKind
from twobills.ledger.store import Ledger
from twobills.specs.hf import from_hf
from twobills.usage import Job, Phase, PhaseUsage

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from twobills.flows.adapters.hf_trainer import MeterCallback  # noqa: E402
from twobills.flows.adapters.torch_loop import metered  # noqa: E402
from twobills.jobs.device import usable_cores  # noqa: E402
from twobills.jobs.nn.profile import count_flops  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
SEQ_LEN, ROWS = 16, 2


class Rows(Dataset[dict[str, Any]]):
    """``n`` sequences of the same length."""

    def __init__(self, n: int, seq_len: int = SEQ_LEN) -> None:
        generator = torch.Generator().manual_seed(0)
        self._tokens = torch.randint(0, 64, (n, seq_len), generator=generator)

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": self._tokens[i], "labels": self._tokens[i]}


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Path(os.environ["TWOBILLS_LEDGER"]))


def llama(**changed: Any) -> Any:
    torch.manual_seed(0)
    config = {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "vocab_size": 64,
        "max_position_embeddings": 64,
        **changed,
    }
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))


def trainer(model: Any, folder: Path, callback: Any, *, n_steps: int = 6, **args: Any) -> Any:
    """A trainer of ``n_steps`` updates, silent, on the CPU."""
    settings = {
        "output_dir": str(folder),
        "max_steps": n_steps,
        "per_device_train_batch_size": ROWS,
        "per_device_eval_batch_size": ROWS,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **args,
    }
    return transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(**settings),
        train_dataset=Rows(64),
        eval_dataset=Rows(6),
        callbacks=[callback],
    )


def phases(ledger: Ledger, run_id: str) -> dict[Phase, PhaseUsage]:
    return dict(ledger.measured_bills(run_id)[Job.TRAINING].usage.phases)


def test_flops_and_tokens_agree_with_counting_and_with_the_profiler(ledger: Ledger, tmp_path: Path) -> None:
    model = llama()
    trainer(model, tmp_path, MeterCallback(phase="finetune"), gradient_accumulation_steps=3).train()
    run_id = ledger.resolve("last")
    used = phases(ledger, run_id)
    n_passes = 6 * 3
    assert set(used) == {Phase.FINETUNE}
    assert used[Phase.FINETUNE].tokens == n_passes * ROWS * SEQ_LEN
    spec = from_hf(model.config.to_dict(), name="tiny")
    counted = n_passes * executed_train_flops(spec, batch_size=ROWS, seq_len=SEQ_LEN)
    batch = torch.zeros((ROWS, SEQ_LEN), dtype=torch.int64)
    with count_flops() as profiler:
        model(input_ids=batch, labels=batch).loss.backward()
    assert used[Phase.FINETUNE].flops == pytest.approx(n_passes * profiler.get_total_flops(), rel=0.01)
    # The CPU's fused attention computes the scores again on its way back, which 3 x forward does not hold.
    assert used[Phase.FINETUNE].flops == pytest.approx(counted, rel=0.05)
    (result,) = ledger.records(run_id, RecordKind.RESULT)
    assert result.body["steps"] == {"finetune": 6}
    assert result.body["flops_from"] == "operators that ran, counted once per shape"
    assert ledger.outcome(run_id) is Outcome.DONE


def test_with_unfused_attention_flops_are_those_of_our_counting(ledger: Ledger, tmp_path: Path) -> None:
    model = llama(attn_implementation="eager")
    trainer(model, tmp_path, MeterCallback()).train()
    used = phases(ledger, ledger.resolve("last"))[Phase.PRETRAIN]
    spec = from_hf(model.config.to_dict(), name="tiny")
    assert used.flops == pytest.approx(6 * executed_train_flops(spec, batch_size=ROWS, seq_len=SEQ_LEN), rel=0.01)


def test_phases_add_up_to_the_process_and_evaluation_has_its_own(ledger: Ledger, tmp_path: Path) -> None:
    model = llama(attn_implementation="eager")
    with metered(name="both", phase="finetune") as run:
        before, start_s = run.usage(), time.perf_counter()
        trained = trainer(model, tmp_path, MeterCallback(run), n_steps=20, eval_strategy="steps", eval_steps=5)
        trained.train()
        trained.evaluate()
        after, wall_s = run.usage(), time.perf_counter() - start_s
    assert run.run_id is not None
    assert before is not None
    assert after is not None
    assert after.total.chip_s - before.total.chip_s == pytest.approx(usable_cores() * wall_s, rel=0.01)
    used = phases(ledger, run.run_id)
    assert sum(phase.chip_s for phase in used.values()) >= after.total.chip_s
    assert set(used) == {Phase.FINETUNE, Phase.EVALUATE}
    spec = from_hf(model.config.to_dict(), name="tiny")
    forward = forward_flops(spec, n_tokens=ROWS * SEQ_LEN, n_attended=ROWS * SEQ_LEN**2, n_logits=ROWS * SEQ_LEN)
    n_passes = (4 + 1) * 3
    assert used[Phase.EVALUATE].tokens == n_passes * ROWS * SEQ_LEN
    assert used[Phase.EVALUATE].flops == pytest.approx(n_passes * forward, rel=0.01)
    assert used[Phase.FINETUNE].flops == pytest.approx(20 * 3 * forward, rel=0.01)
    assert 0 < used[Phase.EVALUATE].chip_s < used[Phase.FINETUNE].chip_s


def test_tokens_are_the_trainers_where_it_counts_them(ledger: Ledger, tmp_path: Path) -> None:
    class Padded(Rows):
        def __getitem__(self, i: int) -> dict[str, Any]:
            mask = torch.ones(SEQ_LEN, dtype=torch.int64)
            mask[-4:] = 0
            return {**super().__getitem__(i), "attention_mask": mask}

    trained = trainer(llama(), tmp_path, MeterCallback(), include_num_input_tokens_seen="non_padding")
    trained.train_dataset = Padded(64)
    trained.train()
    used = phases(ledger, ledger.resolve("last"))[Phase.PRETRAIN]
    assert used.tokens == 6 * ROWS * (SEQ_LEN - 4)


def test_recomputation_is_counted_as_it_runs(ledger: Ledger, tmp_path: Path) -> None:
    model = llama(attn_implementation="eager")
    trainer(model, tmp_path, MeterCallback(), gradient_checkpointing=True).train()
    used = phases(ledger, ledger.resolve("last"))[Phase.PRETRAIN]
    spec = from_hf(model.config.to_dict(), name="tiny")
    shape = {"n_tokens": ROWS * SEQ_LEN, "n_attended": ROWS * SEQ_LEN**2}
    forward, head, down = forward_flops(spec, **shape, n_logits=0), 2 * 32 * 64, 2 * 2 * 48 * 32
    # PyTorch stops recomputing a layer before its last product, whose result no gradient needs.
    per_step = 4 * forward + (3 * head - down) * ROWS * SEQ_LEN
    assert used.flops == pytest.approx(6 * per_step, rel=0.01)


class UnseenAttention(torch.nn.Module):
    """A Llama that says its attention comes from another package."""

    class Config:
        _attn_implementation = "flash_attention_2"

        def __init__(self, document: dict[str, Any]) -> None:
            self._document = document

        def to_dict(self) -> dict[str, Any]:
            return self._document

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.config = inner, self.Config(inner.config.to_dict())

    def forward(self, tokens: torch.Tensor) -> Any:
        return self.inner(input_ids=tokens, labels=tokens).loss


def test_an_attention_that_no_counter_sees_is_counted_from_the_config(ledger: Ledger) -> None:
    model = llama()
    network = UnseenAttention(model)
    with metered(network) as run:
        for rows in (2, 2, 3):
            network(torch.zeros((rows, SEQ_LEN), dtype=torch.int64)).backward()
            run.step()
        with run.phase("evaluate"), torch.no_grad():
            network(torch.zeros((2, SEQ_LEN), dtype=torch.int64))
    assert run.run_id is not None
    spec = from_hf(model.config.to_dict(), name="tiny")
    used = phases(ledger, run.run_id)
    assert used[Phase.PRETRAIN].flops == executed_train_flops(spec, batch_size=7, seq_len=SEQ_LEN)
    assert used[Phase.EVALUATE].flops == executed_train_flops(spec, batch_size=2, seq_len=SEQ_LEN) / 3
    (result,) = ledger.records(run.run_id, RecordKind.RESULT)
    assert result.body["flops_from"] == "the model's config"


CRASHES = """
import sys
from pathlib import Path
from tests.flows.adapters.test_hf_trainer import MeterCallback, llama, trainer, transformers

class Fails(transformers.TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 3:
            raise {error}

trained = trainer(llama(), Path(sys.argv[1]), MeterCallback(name="crash"))
trained.add_callback(Fails())
trained.train()
"""


@pytest.mark.parametrize(
    ("error", "outcome"), [("KeyboardInterrupt", Outcome.INTERRUPTED), ("ValueError('bad')", Outcome.FAILED)]
)
def test_an_account_of_its_own_is_closed_when_the_program_dies(
    error: str, outcome: Outcome, ledger: Ledger, tmp_path: Path
) -> None:
    script = CRASHES.format(error=error)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert error.partition("(")[0] in done.stderr
    run_id = ledger.resolve("last")
    assert ledger.outcome(run_id) is outcome
    assert phases(ledger, run_id)[Phase.PRETRAIN].tokens == 3 * ROWS * SEQ_LEN


def test_options_beside_a_run_are_refused(ledger: Ledger) -> None:
    del ledger
    with metered() as run, pytest.raises(RequestError, match="name: the run that is given has its own"):
        MeterCallback(run, name="again")
