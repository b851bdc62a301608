"""The whole content of an update's report as frozen models; `update.json` holds exactly this.

Units: seconds, bytes where the name ends in `_bytes`, accuracies and shares as fractions of one. A measured
number that is not finite is kept as None.
"""

from __future__ import annotations

from pydantic import Field

from tutelage.report.figures import Figures, Machine, Measured, Text


class SliceFigure(Figures):
    """One slice before and after: the share of its held-out test rows that are labelled right."""

    name: Text
    new: bool = False
    """Whether it came with this update's data."""
    rows: int = Field(default=0, ge=0)
    """Labelled test rows that both figures were measured on."""
    before: Measured = None
    after: Measured = None

    @property
    def change(self) -> float | None:
        """After minus before; None where one of them was not measured."""
        return None if self.before is None or self.after is None else self.after - self.before


class Training(Figures):
    """One training in the life of the version: the first one, or an update."""

    run: Text
    slices: list[Text] = Field(default_factory=list)
    """What was new in it."""
    accuracy: dict[Text, Measured] = Field(default_factory=dict)
    """After it, on every slice known then."""
    before: dict[Text, Measured] = Field(default_factory=dict)
    """Before it, on what was new in it."""


class StreamSummary(Figures):
    """What the accuracy matrix comes to; `tutelage.continual.metrics` has the formulas."""

    accuracy: Measured = None
    backward: Measured = None
    forward: Measured = None
    forgetting: Measured = None
    minimum: Measured = None


class Dip(Figures):
    """How deep one earlier slice fell on the way, on validation rows."""

    slice: Text
    start: Measured = None
    """Accuracy before the first step."""
    lowest: Measured = None
    """At the worst evaluation."""
    step: int = 0
    """When that was."""


class Attempt(Figures):
    """One lambda that was tried, and the accuracy on the new validation rows with it."""

    strength: float
    accuracy: Measured = None
    """None where the penalty diverged."""


class Choice(Figures):
    """How `strength: auto` found lambda."""

    rows: int = Field(default=0, ge=0)
    """Labelled validation rows of the new data."""
    plain: Measured = None
    """Accuracy of plain fine-tuning there."""
    tolerance: float = 0.0
    """So much below it is good enough."""
    attempts: list[Attempt] = Field(default_factory=list)


class MemoryFigure(Figures):
    """Earlier texts of one slice that the version carries."""

    slice: Text
    texts: int = Field(default=0, ge=0)
    size_bytes: int = Field(default=0, ge=0)


class TeacherShare(Figures):
    """One teacher of the update and what it did."""

    name: Text
    fingerprint: Text = ""
    calls: int | None = None
    texts: int | None = None
    """Texts that it scored; those whose signals were at hand are in `cached`."""
    cached: int | None = None


class Kept(Figures):
    """What held the old; a part that was switched off is None."""

    regulariser: Text | None = None
    strength: float = 0.0
    """Lambda."""
    step: Text = ""
    measured: Text = ""
    """How importance was measured, in words."""
    distil_weight: Measured = None
    temperature: Measured = None
    replay: Text | None = None
    """Which texts stay."""
    budget_bytes: int | None = None
    share: Measured = None
    """Share of replayed texts among those of the training."""
    logits: Measured = None
    """Factor of the distance from stored logits."""
    memory: list[MemoryFigure] = Field(default_factory=list)
    """Of the new version."""
    teachers: list[TeacherShare] = Field(default_factory=list)


class TrainingCost(Figures):
    """The training of the candidate itself."""

    steps: int | None = None
    seconds: Measured = None
    precision: Text = ""
    workers: int | None = None
    new_texts: int | None = None
    """Training rows of the new data."""


class UpdateReport(Figures):
    """All figures of one update. Parts that it does not have stay empty and off the page."""

    run: Text
    job: Text
    version: Text
    parent: Text
    alias: Text = ""
    created: Text
    command: Text
    seconds: float = Field(ge=0)
    passed: bool
    problems: list[Text] = Field(default_factory=list)
    """What the gate said against it."""
    fix: Text = ""
    """What helps."""
    gained: Measured = None
    """Rise of the mean accuracy on the new slices; None where they have no labels."""
    max_forgetting: float
    min_gain: float
    holdout: int | None = None
    """Most test rows of a slice that a version keeps."""
    slices: list[SliceFigure] = Field(default_factory=list)
    dips: list[Dip] = Field(default_factory=list)
    watched: int = 0
    """Most validation rows that a slice was watched on."""
    history: list[Training] = Field(default_factory=list)
    matrix: list[list[Measured]] = Field(default_factory=list)
    """Accuracy after each training (rows) on what each brought (columns)."""
    summary: StreamSummary = StreamSummary()
    choice: Choice | None = None
    kept: Kept = Kept()
    training: TrainingCost = TrainingCost()
    digests: dict[Text, Text] = Field(default_factory=dict)
    machine: Machine = Machine()
    packages: dict[Text, Text] = Field(default_factory=dict)
    config_yaml: Text = ""
    next_command: Text = ""

    def earlier(self) -> list[SliceFigure]:
        """The slices that the version before had learned, of which both figures are known."""
        return [one for one in self.slices if not one.new and one.change is not None]

    def fresh(self) -> list[SliceFigure]:
        """The new slices of which both figures are known."""
        return [one for one in self.slices if one.new and one.change is not None]

    def rows(self, name: str) -> int:
        """Held-out rows of a slice; 0 where that is not known."""
        return next((one.rows for one in self.slices if one.name == name), 0)
