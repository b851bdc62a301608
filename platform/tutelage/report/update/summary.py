"""The verdict of an update in words, its key figures, and what the gate asked."""

from __future__ import annotations

from statistics import mean

from tutelage.report.figures import Check
from tutelage.report.numbers import capital, fixed, percent, points
from tutelage.report.search.words import clock, number
from tutelage.report.summary import Tile
from tutelage.report.update.change import fallen
from tutelage.report.update.figures import SliceFigure, UpdateReport
from tutelage.report.update.noise import change_error, mean_error, weight


def slice_error(one: SliceFigure) -> float | None:
    """Standard error of the change of a slice."""
    if one.before is None or one.after is None:
        return None
    return change_error(one.before, one.after, one.rows)


def gain_error(report: UpdateReport) -> float | None:
    """Standard error of the gain: the mean change of the new slices."""
    return mean_error([slice_error(one) for one in report.fresh()])


def worst(report: UpdateReport) -> SliceFigure | None:
    """The earlier slice that fell most, or rose least."""
    moved = [(one.change, n) for n, one in enumerate(report.earlier()) if one.change is not None]
    return report.earlier()[min(moved)[1]] if moved else None


def outcome(report: UpdateReport) -> str:
    """What was gained, what was lost at most, what the gate allows, and what the candidate is called."""
    called = f" and is called {report.alias}" if report.alias else ""
    word = "passed the gate" if report.passed else "was stopped by the gate"
    end = f"{report.version}, made from {report.parent}, {word}{called}."
    return f"{_gain(report)}; {_fall(report)}. {end}"


def _gain(report: UpdateReport) -> str:
    fresh = report.fresh()
    names = joined([one.name for one in report.slices if one.new])
    if report.gained is None or not fresh:
        return f"The new data{f' {names}' if names else ''} has no labelled test rows to measure a gain on"
    before = mean(one.before for one in fresh if one.before is not None)
    after = mean(one.after for one in fresh if one.after is not None)
    worth = weight(report.gained, gain_error(report))
    size = points(report.gained) + " points" + (f", {worth}" if worth != "clear" and worth else "")
    if worth == "no change":
        return f"Accuracy on the new data {names} stayed at {percent(after)}\u00a0%"
    verb = "rose" if report.gained > 0 else "fell"
    return (
        f"Accuracy on the new data {names} {verb} from {percent(before)} to {percent(after)}\u00a0% ({size})"
    )


def _fall(report: UpdateReport) -> str:
    low = worst(report)
    if low is None or low.change is None:
        return "no earlier slice has held-out rows to measure forgetting on"
    allowed = f"the gate allows a fall of {fixed(100 * report.max_forgetting)} points"
    note = "".join(f", {word}" for word in _said(weight(low.change, slice_error(low))))
    if low.change >= 0:
        least = "" if not low.change else f", {low.name} rose least ({points(low.change)} points{note})"
        return f"no earlier slice fell{least}; {allowed}"
    fall = fixed(-100 * low.change)
    return f"the largest fall on an earlier slice is {fall} points, on {low.name}{note}; {allowed}"


def joined(names: list[str], most: int = 4) -> str:
    """`a`, `a and b`, `a, b and 3 more`."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def tiles(report: UpdateReport) -> list[Tile]:
    """Gain, largest fall, lambda and time; those without a figure are left out."""
    found = []
    if report.gained is not None:
        worth = weight(report.gained, gain_error(report))
        notes = [f"standard error {percent(gain_error(report))}"] if gain_error(report) is not None else []
        found.append(Tile("Gained on the new data", points(report.gained), "points", (*notes, *_said(worth))))
    low = worst(report)
    if low is not None and low.change is not None:
        worth = weight(low.change, slice_error(low))
        label = "Largest fall on an earlier slice" if low.change < 0 else "No earlier slice fell; least rise"
        notes = [f"on {low.name}", f"allowed {fixed(100 * report.max_forgetting)}"]
        found.append(Tile(label, points(low.change), "points", (*notes, *_said(worth))))
    kept = report.kept
    if kept.regulariser is not None:
        found.append(Tile(f"Lambda of {kept.regulariser}", number(kept.strength), "", _chosen(report)))
    value, unit = clock(report.seconds)
    cores = (f"on {report.machine.cores} CPU cores",) if report.machine.cores else ()
    found.append(Tile("Total time", value, unit, cores))
    return found


def _chosen(report: UpdateReport) -> tuple[str, ...]:
    if report.choice is None:
        return ("as given",)
    tried = len(report.choice.attempts)
    return (f"found by {tried} attempt{'s' if tried != 1 else ''}",)


def _said(worth: str) -> list[str]:
    return [worth] if worth and worth != "clear" else []


def checks(report: UpdateReport) -> list[Check]:
    """What the gate asked, and whether it holds."""
    found = []
    earlier = report.earlier()
    if earlier:
        lost = [one for one in earlier if fallen(report, one)]
        text = (
            joined([f"{one.name} fell by {fixed(-100 * (one.change or 0.0))} points" for one in lost])
            if lost
            else f"all {len(earlier)} slices within it"
            if len(earlier) > 1
            else f"{earlier[0].name} within it"
        )
        name = f"no slice falls by more than {fixed(100 * report.max_forgetting)} points"
        found.append(Check(name=capital(name), ok=not lost, text=text))
    if report.gained is not None:
        ok = report.gained >= report.min_gain - 1e-12
        name = f"The new data gains at least {points(report.min_gain)} points"
        found.append(Check(name=name, ok=ok, text=f"{points(report.gained)} points"))
    return found
