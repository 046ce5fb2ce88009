"""How much work one engine step is, in the numbers that time and FLOPs depend on.

``attended`` sums over tokens the keys that each must look at, itself included: the least any engine has to
do. What an engine executes can be more (padding, the masked half of a prompt's square), and its meter says
so.
"""

from __future__ import annotations

from typing import NamedTuple


class StepLoad(NamedTuple):
    """The work of one step, prompts (prefill) and answers (decode) apart."""

    n_prefill_tokens: int
    n_decode_tokens: int
    n_prefill_attended: int
    """Keys that the prompt tokens look at, summed over the tokens."""
    n_decode_attended: int
    """Keys that the decoded tokens look at: the contexts' lengths, summed over the requests."""
    n_logits: int
    """Positions whose logits are wanted: every decoded token and every prompt's last."""

    @property
    def n_tokens(self) -> int:
        """Tokens in the step."""
        return self.n_prefill_tokens + self.n_decode_tokens

    @property
    def n_attended(self) -> int:
        """Keys looked at, summed over all tokens."""
        return self.n_prefill_attended + self.n_decode_attended

    @property
    def n_prefill_logits(self) -> int:
        """Prompts that end in this step."""
        return self.n_logits - self.n_decode_tokens


def prefill_attended(start: int, n_tokens: int) -> int:
    """Keys that ``n_tokens`` from position ``start`` on look at, each at all before it and itself."""
    return n_tokens * start + n_tokens * (n_tokens + 1) // 2
