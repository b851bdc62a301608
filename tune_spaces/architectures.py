"""The shape of a student that is built anew: family, depth, width, heads, width of the feed-forward block.

For one device, with `search.limits` and `search.goals: [accuracy, latency_ms]`; every shape's latency is
measured, not estimated. A family that cannot have a shape is refused when the trial is drawn.
"""

from __future__ import annotations

from tune_spaces.space import Space
from tutelage.config import JobConfig
from tutelage.config.search import Choice, IntRange
from tutelage.models.describe import ModelCard

FAMILIES = ("bert", "distilbert", "albert", "electra", "mobilebert")
HEAD = 32
"""Width of one attention head; every width below holds a whole number of them."""


def space(job: JobConfig, student: ModelCard) -> Space:
    """Up to the depth and width of the student's model."""
    top = student.hidden or 384
    widths = [width for width in (64, 96, 128, 192, 256, 320, 384, 512, 768) if width <= top]
    if top not in widths:
        widths.append(top)
    depth = max(2, student.layers)
    own = job.student.architecture
    start = (
        own.model_dump(mode="json")
        if own
        else {"family": "bert", "depth": max(1, depth // 2), "width": top, "heads": max(1, top // HEAD)}
    )
    return Space(
        {
            "student.architecture.family": Choice(type="choice", values=list(FAMILIES)),
            "student.architecture.depth": IntRange(type="int", low=1, high=depth),
            "student.architecture.width": Choice(type="choice", values=list(widths)),
            "student.architecture.heads": Choice(type="choice", values=[2, 4, 8, 12]),
            "student.architecture.feed_forward": Choice(type="choice", values=[None, 2 * top, top, top // 2]),
        },
        {"student.layers": None, "student.method": {"type": "full"}, "student.architecture": start},
    )
