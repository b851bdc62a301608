"""What the code means, as numbers that stand in the names of what it makes.

A run, a signal and a part of an importance are found again by a hash of what decides them: files, settings,
and the code. The code's part is one number a thing. Raise it in the change that makes the same inputs give
another result on purpose (a corrected loss, another order of batches), and only then: all that was made
before is made anew, and nothing that the old code made is taken for it. A change that leaves every number as
it was, or differs in its last bit alone, raises nothing.

`FORMAT` in `tutelage.data.rows` and `tutelage.data.tokens` are the same for rows and their tokens.
"""

from __future__ import annotations

TRAINING = 1
"""In the name of each fine-tuning, distillation, update and search. Raised when the same job, rows, start and
signals would give other weights: a loss term, a combiner, a schedule, the order of batches, the noise of a
step, the optimiser, how a student begins, when a training stops."""

SIGNALS = 1
"""In the fingerprint of each teacher, and so in the key of each signal and the name of each run. Raised when
a teacher would answer the same question with other numbers: how its texts become tokens, what of its output
is a position's row, how rows are aligned, packed or drawn."""

LATENCY = 1
"""In the key of each cost that is kept of a student's shape. Raised when the same file would be asked in
another way: what a call holds, which form of weights it takes."""

IMPORTANCE = 1
"""In the name of each part of an importance that is kept while it is made. Raised when the same weights and
rows would have another importance: what is squared, summed, or left out."""
