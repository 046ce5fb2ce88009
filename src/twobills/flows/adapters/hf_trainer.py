"""The meter on a ``transformers.Trainer``: one callback, and nothing of the training script changes.

    trainer = Trainer(model=model, args=args, callbacks=[MeterCallback(name="my run", phase="finetune")])

It opens the account when training begins and closes it when training ends, or when the program does. To close it at
once on an error, and to have an evaluation after training on the same bill, give it a run that is open:

    with metered(name="my run", phase="finetune") as run:
        trainer = Trainer(model=model, args=args, callbacks=[MeterCallback(run)])

Time between the first forward pass of an evaluation and its end is the phase evaluate. Tokens are those that the
trainer counts where it is asked to (``include_num_input_tokens_seen``), which it must be with ``torch_compile``; else
those of the inputs. ``transformers`` is needed by whoever imports this module and by nothing else.
"""

from __future__ import annotations

import atexit
import sys
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from twobills.errors import RequestError, TwobillsError
from twobills.flows.adapters.torch_loop import MeteredRun, metered
from twobills.usage import Phase


class MeterCallback(TrainerCallback):
    """Meters a trainer, on ``run`` if one is given, else on an account of its own.

    ``options`` are those of ``metered``: name, phase, usd_per_chip_hour, plan, ledger ...
    """

    def __init__(self, run: MeteredRun | None = None, **options: Any) -> None:
        if run is not None and options:
            raise RequestError(f"{next(iter(options))}: the run that is given has its own; give it to metered")
        self.run, self._given, self._options = run, run is not None, options
        self._account, self._evaluation = ExitStack(), ExitStack()
        self._evaluating, self._n_seen = False, 0
        self._hook: RemovableHandle | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Opens the account, if need be, and listens to the model."""
        del control
        self._n_seen = state.num_input_tokens_seen
        if self.run is None:
            self.run = self._account.enter_context(metered(device=str(args.device), **self._options))
            atexit.register(self._close_unfinished)
        if args.torch_compile or self._hook is not None:  # compiled around a hook, it is not heard
            return
        model: nn.Module = kwargs["model"]
        self._hook = model.register_forward_pre_hook(self._before_pass)
        self.run.watch(model)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A step is done, all its micro-batches; an evaluation may follow."""
        assert self.run is not None
        seen, self._n_seen = state.num_input_tokens_seen - self._n_seen, state.num_input_tokens_seen
        self.run.step(tokens=seen / args.world_size if seen else None)
        if control.should_evaluate:
            self._evaluate()

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """An evaluation may follow."""
        del args, state
        if control.should_evaluate:
            self._evaluate()

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """An evaluation has ended."""
        self._evaluated()

    def on_predict(self, *_: Any, **__: Any) -> None:
        """A prediction has ended."""
        self._evaluated()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Closes the account, if it is the callback's own."""
        self._evaluated()
        if not self._given:
            self._close(None)

    def _before_pass(self, network: nn.Module, *_: Any) -> None:
        if not network.training and not torch.is_grad_enabled():
            self._evaluate()

    def _evaluate(self) -> None:
        if not self._evaluating and self.run is not None:
            self._evaluating = True
            self._evaluation.enter_context(self.run.phase(Phase.EVALUATE))

    def _evaluated(self) -> None:
        self._evaluation.close()
        self._evaluating = False

    def _close_unfinished(self) -> None:
        """The program ends and training has not: by an error that nobody caught, or one that somebody did."""
        error = getattr(sys, "last_value", None)
        self._evaluated()
        self._close(error or TwobillsError("training did not come to its end"))

    def _close(self, error: BaseException | None) -> None:
        """Closes the account of the callback's own."""
        if self._hook is not None:
            self._hook.remove()
        self.run = self._hook = None
        atexit.unregister(self._close_unfinished)
        self._account.__exit__(type(error) if error else None, error, None)
