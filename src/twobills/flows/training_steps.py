"""A run's steps, and what lies between two of them: there it is watched, saved, held to its budgets and stopped.

Ctrl-C and SIGTERM wait for the end of the step; the run stops there with a checkpoint, as it does before a step that
would exceed a budget.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import TracebackType
from typing import Any, NamedTuple, Self

from twobills.errors import BudgetError
from twobills.flows.listener import Listener, TrainingProgress
from twobills.flows.run_account import RunAccount
from twobills.flows.run_folder import RunFolder
from twobills.flows.saving import Saver
from twobills.flows.stopping import asked_to_stop
from twobills.flows.training_task import TrainingTask
from twobills.flows.watching import MetricsFile, TensorBoard, Trackio, Watcher
from twobills.jobs.training.budget import Budget
from twobills.jobs.training.loop import Batches, Step, Trainer
from twobills.usage import PhaseUsage, Usage


class Decision(NamedTuple):
    """What to do after a step; where several processes train, the first decides for all."""

    save: bool
    interrupted: bool = False
    refused: str = ""
    """Which budget the next step would exceed, and how."""


class Stepping:
    """Takes a task's steps; a context manager, for those who watch."""

    def __init__(
        self,
        task: TrainingTask,
        folder: RunFolder,
        account: RunAccount,
        listener: Listener,
        saver: Saver | None,
        spent: Callable[[], Usage],
    ) -> None:
        self._task, self._folder, self._account, self._listener = task, folder, account, listener
        self._saver, self._spent, self._spec = saver, spent, task.training
        n_chips = task.found.device.n_chips
        self._budget = Budget(task.job.limits, price=account.price, n_chips=n_chips, spent=spent)
        self._watchers: list[Watcher] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for watcher in self._watchers:
            watcher.close()

    def take(self, trainer: Trainer, batches: Batches, *, look: Callable[[], dict[str, float]]) -> None:
        """Takes the steps that are left; ``look`` measures quality.

        Raises BudgetError and KeyboardInterrupt, the run being saved where somebody can go on with it.
        """
        self._watchers = [*self._called(trainer.n_done)]
        with asked_to_stop() if self._saver else nullcontext(lambda: False) as asked:
            self._carry_out(self._decide(trainer.n_done, asked()), trainer)
            for step in trainer.run(batches, self._account.meter, max_s=self._task.max_s):
                self._watch(step, look() if self._wants_look(step.step) else {})
                self._carry_out(self._decide(step.step, asked()), trainer)

    def _decide(self, n_done: int, interrupted: bool) -> Decision:
        if not self._saver:
            return Decision(False)
        last = n_done == self._spec.n_steps
        refused = "" if last or not self._task.job.limits else self._refused(n_done)
        due = n_done > 0 and (last or self._saver.is_due())
        return Decision(due or interrupted or bool(refused), interrupted, refused)

    def _carry_out(self, decision: Decision, trainer: Trainer) -> None:
        if decision.save and self._saver and trainer.n_done != self._saver.newest_step:
            self._saver.save()
        at = f"stopped after step {trainer.n_done} of {self._spec.n_steps} with a checkpoint"
        if decision.interrupted:
            self._listener.stage(f"Asked to stop: {at}; --resume goes on")
            raise KeyboardInterrupt
        if decision.refused:
            raise BudgetError(f"{decision.refused}; {at}; --resume with a larger budget goes on")

    def _refused(self, n_done: int) -> str:
        """Why the budgets do not allow the next step with all that must follow it."""
        self._account.meter.rest()
        ahead = self._budget.forecast(n_done, self._task.foreseen_step)
        writing = self._like(self._saver.cost_s if self._saver else 0.0)
        if n_done + 1 == self._spec.n_steps:
            evaluation = self._task.foreseen_evaluation
            ahead = ahead + evaluation + writing  # freezing writes about what a checkpoint does
        return self._budget.refuses(ahead + writing)

    def _like(self, seconds: float) -> PhaseUsage:
        """So many seconds of what the run has used so far, without its work."""
        so_far, chip_s = self._spent().total, seconds * self._task.found.device.n_chips
        energy = so_far.energy.scaled(chip_s / so_far.chip_s if so_far.chip_s else 0.0)
        return PhaseUsage(chip_s=chip_s, energy=energy)

    def _wants_look(self, n_done: int) -> bool:
        every = self._task.job.evaluate_every
        return bool(every) and n_done % every == 0 and n_done < self._spec.n_steps

    def _watch(self, step: Step, looked: dict[str, float]) -> None:
        usd = self._account.price(self._spent())
        row = self._row(step, usd) | looked
        self._account.written.beside = {"step": step.step, "metrics": row}
        for watcher in self._watchers:
            watcher.watch(row)
        if step.skipped:
            self._listener.stage(f"Step {step.step}: a loss of {step.loss:.3f} is a spike; its update is skipped")
        self._listener.training(self._progress(step, usd))

    def _row(self, step: Step, usd: float) -> dict[str, Any]:
        tokens_per_s = self._spec.tokens_per_step / step.step_s if step.step_s else 0.0
        muon = {"muon_lr": step.lr_scale * self._spec.muon_lr} if self._spec.optimizer == "muon" else {}
        return {
            "step": step.step,
            "loss": step.loss,
            "lr": step.lr_scale * self._spec.lr,
            **muon,
            "grad_norm": step.grad_norm,
            "tokens": step.n_tokens,
            "tokens_per_s": tokens_per_s,
            "mfu": self._task.mfu(tokens_per_s),
            "usd": usd,
            "seconds": step.elapsed_s,
            "skipped": step.skipped,
        }

    def _progress(self, step: Step, usd: float) -> TrainingProgress:
        tokens_per_s = step.n_tokens / step.elapsed_s if step.elapsed_s else 0.0
        return TrainingProgress(
            step=step.step,
            n_steps=self._spec.n_steps,
            loss=step.loss,
            tokens_per_s=tokens_per_s,
            mfu=self._task.mfu(tokens_per_s),
            usd=usd,
            remaining_s=step.elapsed_s * (1 / step.progress - 1),
            progress=step.progress,
        )

    def _called(self, n_done: int) -> list[Watcher]:
        """Those who watch; a package that is missing is said before the first step."""
        watch, watchers = self._task.job.watch, list[Watcher]()
        if "tensorboard" in watch:
            watchers.append(TensorBoard(self._folder.path / "tensorboard"))
        if "trackio" in watch:
            watchers.append(Trackio(self._account.run_id, self._task.job.identity()))
        return [MetricsFile(self._folder.metrics, n_done=n_done), *watchers]
