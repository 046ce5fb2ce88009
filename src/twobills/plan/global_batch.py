"""How many sequences an optimiser step takes where nobody says.

The batch up to which more chips still save steps grows with the tokens seen, about as D^0.47 (Zhang et al. 2024, How
does critical batch size scale in pre-training?, arXiv:2410.21676; exponent recalled). The height is set so that a run
of a trillion tokens takes 4M tokens a step, as published runs do: 3.2M (GPT-3), 4M (Llama 2), 16M (Llama 3.1 405B).
Rounded to a power of two of sequences, times whatever odd factor the number of chips has, so that the chips can share
it out. Of a mixture of experts each matrix sees a part of the tokens only, so the batch is larger by the root of total
over active parameters: that gives 36M for DeepSeek-V2 (it took 38M) and 60M for V3 (63M). An assumption.

A batch that is wanted in tokens is met within 5 % by the number of sequences that the chips share most divisors with:
otherwise few parallel plans could deal it out evenly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from twobills.units import TERA

TOKENS_PER_STEP_AT_1T = 4e6
EXPONENT = 0.47
TOLERANCE_FRAC = 0.05
"""How far the number of sequences may lie from a batch that is wanted in tokens."""
LEAST_SEQUENCES = 32
"""Of short runs, such as fine-tuning."""
RULE = "4M tokens x (tokens / 1T)^0.47 x (total / active parameters)^0.5, rounded to what the chips can share"


def default_global_batch(n_tokens: float, seq_len: int, n_chips: int, *, sparsity: float = 1.0) -> int:
    """Sequences per step for a run of so many tokens; at most what the run has.

    ``sparsity``: total over active parameters.
    """
    wanted = TOKENS_PER_STEP_AT_1T * (n_tokens / TERA) ** EXPONENT * math.sqrt(sparsity) / seq_len
    odd = n_chips // (n_chips & -n_chips)
    if odd > wanted:
        odd = 1  # too many to deal out: pipeline stages must take that factor
    sequences = odd * _power_of_two(max(wanted, LEAST_SEQUENCES) / odd)
    return max(1, min(sequences, int(n_tokens // seq_len)))


def sharable_batch(wanted: float, chip_counts: Sequence[int]) -> int:
    """Sequences within 5 % of ``wanted``: those with the largest common divisors with the numbers of chips.

    The nearest whole number where none is so near. The best is a multiple of some divisor of the numbers' least common
    multiple, so the nearest multiple of each is looked at, not each number in between.
    """
    least, most = wanted * (1 - TOLERANCE_FRAC), wanted * (1 + TOLERANCE_FRAC)
    near = {
        divisor * times
        for divisor in _divisors(chip_counts, most)
        for times in (math.floor(wanted / divisor), math.ceil(wanted / divisor))
        if max(least, 1) <= divisor * times <= most
    }

    def merit(batch: int) -> tuple[int, float]:
        return math.prod(math.gcd(batch, n) for n in chip_counts), -abs(batch - wanted)

    return max(sorted(near), key=merit, default=max(1, round(wanted)))


def _divisors(chip_counts: Sequence[int], most: float) -> list[int]:
    """Of the numbers' least common multiple, those that are at most ``most``."""
    powers: Counter[int] = Counter()
    for n in set(chip_counts):
        powers |= Counter(_prime_factors(n))
    found = [1]
    for prime, power in powers.items():
        found = [d * prime**i for d in found for i in range(power + 1) if d * prime**i <= most]
    return found


def _prime_factors(n: int) -> Iterator[int]:
    """By trial division, each as often as it divides."""
    prime = 2
    while prime * prime <= n:
        while n % prime == 0:
            yield prime
            n //= prime
        prime += 1
    if n > 1:
        yield n


def _power_of_two(x: float) -> int:
    """The nearest by ratio."""
    return 1 << max(0, round(math.log2(x)))
