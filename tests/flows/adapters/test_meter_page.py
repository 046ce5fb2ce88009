"""``docs/meter.md`` runs as it stands."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.usage import Job, Phase

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

PAGE = Path(__file__).parents[3] / "docs" / "meter.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.filterwarnings("ignore")
def test_the_blocks_run_in_order_and_leave_their_bills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)
    assert "so far $" in capsys.readouterr().out
    ledger = Ledger(Path(os.environ["TWOBILLS_LEDGER"]))
    trainer, planned, loop = ledger.run_ids()
    assert [ledger.started(run_id).body["name"] for run_id in (loop, planned, trainer)] == [
        "bigrams",
        "bigrams, planned",
        "tiny llama",
    ]
    assert {ledger.outcome(run_id) for run_id in (loop, planned, trainer)} == {Outcome.DONE}
    of_loop = ledger.measured_bills(loop)[Job.TRAINING].usage.phases
    assert of_loop[Phase.PRETRAIN].tokens == 16 * 8 * 32
    assert of_loop[Phase.PRETRAIN].flops == 3 * 2 * 64 * 256 * 16 * 8 * 32
    assert of_loop[Phase.EVALUATE].flops == 2 * 64 * 256 * 4 * 8 * 32
    assert ledger.planned_bills(planned)[Job.TRAINING].usage.phases[Phase.PRETRAIN].tokens == 16 * 8 * 32
    of_trainer = ledger.measured_bills(trainer)[Job.TRAINING].usage.phases
    assert of_trainer[Phase.FINETUNE].tokens == 8 * 8 * 33
    assert of_trainer[Phase.EVALUATE].tokens == 4 * 33
