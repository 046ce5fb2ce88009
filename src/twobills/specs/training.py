"""How a model is trained: how many tokens, in which batches, by which optimiser."""

from __future__ import annotations

from dataclasses import dataclass

from twobills.errors import SpecError
from twobills.specs.dtype import DType

OPTIMIZERS = ("muon", "adamw")
PARALLELS = ("auto", "none", "ddp", "fsdp")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """One pre-training run."""

    n_steps: int
    batch_size: int
    """Sequences per step."""
    seq_len: int
    dtype: DType
    """Format of working weights and activations; master weights and moments are always fp32."""
    heldout_tokens: int
    """Tokens of held-out text that are evaluated once, after the last step."""
    optimizer: str = "muon"
    """``muon``: Muon for the layers' matrices and AdamW for the rest; ``adamw``: AdamW for all."""
    lr: float = 6e-3
    """Peak learning rate of AdamW."""
    muon_lr: float = 0.01
    """Peak learning rate of Muon."""
    weight_decay: float = 0.1
    warmup_frac: float = 0.03
    cooldown_frac: float = 0.5
    """The last part of the run, over which the learning rate falls linearly."""
    accumulate: int = 1
    """Parts that a step's batch is cut into, run one after another, so that a larger batch fits in memory."""
    compile: bool | str = "auto"
    """Whether the step is compiled, or run by kernels of our own; ``auto``: where the run is long enough for it."""
    parallel: str = "auto"
    """How several processes share the network: ``fsdp`` shards it, ``ddp`` copies it; ``auto``: copies where they fit.
    ``none`` allows one process only."""
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("n_steps", "batch_size", "seq_len", "accumulate"):
            if getattr(self, field) < 1:
                raise SpecError(f"{field}={getattr(self, field)}: must be at least 1")
        if self.accumulate > self.batch_size:
            raise SpecError(f"accumulate={self.accumulate}: must be at most batch_size={self.batch_size}")
        if self.optimizer not in OPTIMIZERS:
            raise SpecError(f"optimizer={self.optimizer}: must be one of {', '.join(OPTIMIZERS)}")
        if self.parallel not in PARALLELS:
            raise SpecError(f"parallel={self.parallel}: must be one of {', '.join(PARALLELS)}")
        if self.compile not in (True, False, "auto"):
            raise SpecError(f"compile={self.compile}: must be true, false or auto")
        for field in ("lr", "muon_lr"):
            if not 0 < getattr(self, field) < 1:
                raise SpecError(f"{field}={getattr(self, field)}: must be between 0 and 1")
        for field in ("warmup_frac", "cooldown_frac", "weight_decay"):
            if not 0 <= getattr(self, field) <= 1:
                raise SpecError(f"{field}={getattr(self, field)}: must be between 0 and 1")

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimiser step sees."""
        return self.batch_size * self.seq_len

    @property
    def n_tokens(self) -> int:
        """Tokens that the whole run sees, repeats included (D)."""
        return self.n_steps * self.tokens_per_step
