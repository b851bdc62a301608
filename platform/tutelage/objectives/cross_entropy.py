"""Hard-label cross-entropy.

Shapes: P positions, V classes or vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from tutelage.config import objectives as config
from tutelage.config.schedule import value_at
from tutelage.objectives.base import Evidence
from tutelage.objectives.competing import own_classes


class CrossEntropyTerm:
    """-log q_p[y_p], with label smoothing; 0 where the position is unlabelled."""

    name = "cross-entropy"

    def __init__(self, section: config.CrossEntropy, groups: Sequence[int] = ()) -> None:
        """`groups`: of each class; those of different groups do not compete. All do where there are none."""
        if groups and section.label_smoothing:
            raise ValueError("label smoothing gives classes of other groups a share, and they are closed")
        self._groups = groups
        self.weight = value_at(section.weight, 0.0)
        self.label_smoothing = section.label_smoothing

    def per_position(self, evidence: Evidence) -> Tensor:
        """Loss of each position, fp32 [P]."""
        return F.cross_entropy(
            own_classes(evidence.student_PV.float(), evidence.labels_P, self._groups),
            evidence.labels_P,
            ignore_index=-1,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
