"""Hard-label cross-entropy.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tutelage.config import objectives as config
from tutelage.objectives.base import Evidence


class CrossEntropyTerm:
    """-log q_b[y_b], with label smoothing; 0 where the example is unlabelled."""

    name = "cross-entropy"

    def __init__(self, section: config.CrossEntropy) -> None:
        self.weight = section.weight
        self.label_smoothing = section.label_smoothing

    def per_example(self, evidence: Evidence) -> Tensor:
        """Loss of each example, fp32 [B]."""
        return F.cross_entropy(
            evidence.student_BC.float(),
            evidence.labels_B,
            ignore_index=-1,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
