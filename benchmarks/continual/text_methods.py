"""What each method of the text benchmark uses, and its constants.

none             plain training on what comes
ewc              a quadratic for each earlier training (arXiv 1612.00796), exact Fisher information
lwf              the model before teaches, on the classes that it knows (arXiv 1606.09282)
er               as many kept texts beside each batch (arXiv 1902.10486)
der++            their logits as well (arXiv 2004.07211)
ewc+lwf+er       all of it as `tutelage update` does by default: online EWC (arXiv 1805.06370), kept logits
er+nearest-mean  er, judged with the mean features of each class as head (arXiv 1611.07725)
joint            all contexts at once, as many steps in total: what could be reached
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.continual.methods import Rule
from tutelage.continual.fisher import Mode
from tutelage.continual.replay import KindName


@dataclass(frozen=True)
class Recipe:
    """What a method uses."""

    hold: Literal["", "ewc", "online-ewc"] = ""
    distil: bool = False
    replay: bool = False
    logits: bool = False
    """Kept texts come with the logits of the version that took them in."""
    nearest_mean: bool = False
    """Judged with the nearest mean of new and kept texts as head; training goes on with the trained head."""
    joint: bool = False


RECIPES: Mapping[str, Recipe] = {
    "none": Recipe(),
    "ewc": Recipe(hold="ewc"),
    "lwf": Recipe(distil=True),
    "er": Recipe(replay=True),
    "der++": Recipe(replay=True, logits=True),
    "ewc+lwf+er": Recipe(hold="online-ewc", distil=True, replay=True, logits=True),
    "er+nearest-mean": Recipe(replay=True, nearest_mean=True),
    "joint": Recipe(joint=True),
}


@dataclass(frozen=True)
class Settings:
    """How a context is learnt, and constants of the methods."""

    model: str
    """Folder of the encoder."""
    batch: int = 32
    epochs: int = 1
    lr: float = 6e-4
    """Of the first training, with a warm-up over a tenth of the steps and a linear fall to 0."""
    later_lr: float = 2e-4
    """Of those after it."""
    lam: float = 1.0
    """Mean curvature that the penalty adds."""
    rule: Rule = "proximal"
    gamma: float = 0.9
    """What online EWC leaves of earlier importance."""
    fisher_examples: int = 400
    fisher_mode: Mode = "exact"
    kilobytes: int = 50
    """Of all kept texts together."""
    buffer: KindName = "reservoir"
    temperature: float = 2.0
    distil: float = 1.0
    logits: float = 0.5
