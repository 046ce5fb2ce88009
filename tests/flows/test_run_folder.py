from __future__ import annotations

from pathlib import Path

from twobills.flows.run_folder import RunFolder
from twobills.specs.job import TrainingJob


def test_the_first_process_chooses_how_steps_are_computed(tmp_path: Path) -> None:
    """A second one that times itself otherwise, before there is a checkpoint, would end with other last bits."""
    with RunFolder(tmp_path / "model").opened() as first:
        assert first.chosen({"attention_blocks": 2, "compiled": 0}) == {"attention_blocks": 2, "compiled": 0}
        first.store("run", _job(tmp_path))
    with RunFolder(tmp_path / "model").opened() as second:
        assert second.chosen({"attention_blocks": 0, "compiled": 0}) == {"attention_blocks": 2, "compiled": 0}
        second.clear()
        assert second.chosen({"attention_blocks": 0, "compiled": 0}) == {"attention_blocks": 0, "compiled": 0}


def _job(folder: Path) -> TrainingJob:
    return TrainingJob(out=folder / "model")
