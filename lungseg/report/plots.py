"""The plots of a report: Dice by patient, training, free response and reliability."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from lungseg.errors import printable
from lungseg.statistics import bootstrap_interval

from .content import FAILED_BELOW, SIZE_CLASSES_ML, Calibration, Curve, OperatingPoint, Patient, Report
from .svg import Drawing, Plot, Scale
from .wording import count, millilitres, percent

_NAMED = 5  # patients whose names stand beside their points
_LEAST_ML = 0.01  # where a patient without true tumour stands
_CHARACTER = 6.8  # width of a character of a name, about
_LINES = (("a", "solid"), ("b", "dashed"), ("c", "dotted"), ("d", "dashed"), ("ink", "solid"))


def size_class(volume_ml: float) -> str:
    """``under 1 ml``, ``1 to 5 ml``, ``5 to 20 ml`` or ``over 20 ml``; an edge belongs to the larger class."""
    first, last = SIZE_CLASSES_ML[0], SIZE_CLASSES_ML[-1]
    if volume_ml < first:
        return f"under {first:g} ml"
    if volume_ml >= last:
        return f"over {last:g} ml"
    edges = pairwise(SIZE_CLASSES_ML)
    return next(f"{low:g} to {high:g} ml" for low, high in edges if low <= volume_ml < high)


def dice_plot(report: Report) -> Plot:
    """Dice of each patient against the true volume (against the rank where there are no volumes), and the intervals."""
    patients = report.worst_first
    volumes = [patient.truth_ml for patient in patients if patient.truth_ml]
    by_volume = report.whole_scans and bool(volumes)
    y = Scale(0.0, 1.0, (0, 0.2, 0.4, 0.6, 0.8, 1.0))
    if by_volume:
        smallest = _LEAST_ML if len(volumes) < len(patients) else max(min(volumes), _LEAST_ML)
        x, x_label = Scale.logarithmic(smallest, max(volumes)), "true tumour volume, ml (each line ten times the last)"
    else:
        n = len(patients)
        x, x_label = Scale.linear(0, n + 1, 6, whole=True), "patients, worst first"
    drawing = Drawing(x, y, x_label, "Dice (1 is perfect)")
    if report.dice_interval is not None:
        drawing.band(*report.dice_interval)
    if report.dice_mean is not None:
        drawing.line([(x.low, report.dice_mean), (x.high, report.dice_mean)], "a", "dashed", 1.6)
    classes = _class_means(patients) if by_volume else []
    for low, high, mean, ends in classes:
        middle = (max(low, x.low) * min(high, x.high)) ** 0.5
        drawing.whisker(middle, *ends)
        drawing.mark(middle, mean, f"mean of this size {mean:.2f}, {ends[0]:.2f} to {ends[1]:.2f}", "ink", "diamond", 4)
    marks: list[tuple[tuple[float, float], Patient]] = []
    for rank, patient in enumerate(patients, start=1):
        where = (patient.truth_ml or _LEAST_ML) if by_volume else float(rank)
        size = f", {millilitres(patient.truth_ml)}" if by_volume and patient.truth_ml is not None else ""
        shape, colour = ("triangle", "b") if patient.failed else ("disc", "a")
        title = f"{printable(patient.case)}: Dice {patient.dice:.2f}{size}"
        drawing.mark(where, patient.dice, title, colour, shape)
        marks.append((drawing.at(where, patient.dice), patient))
    for (across, up), patient in [mark for mark in marks if mark[1].failed][:_NAMED]:
        _name(drawing, across, up, _short(patient.case), [at for at, _ in marks])
    told = ""
    if report.dice_mean is not None:
        told, interval = f" The dashed line is the mean, {report.dice_mean:.2f}", report.dice_interval
        told += "." if interval is None else f", the band its 95 % interval, {interval[0]:.2f} to {interval[1]:.2f}."
    bars = " Diamonds with bars are means of patients of like size with their intervals." if classes else ""
    n_failed = len(report.failed)
    reading = (
        f"Each mark is a patient: {count(len(patients) - n_failed, 'disc')} outlined, "
        f"{count(n_failed, 'triangle')} failed (Dice under {FAILED_BELOW} or missed).{told}{bars}"
    )
    rows = tuple(
        (
            printable(patient.case),
            f"{patient.dice:.3f}",
            *(("" if patient.truth_ml is None else f"{patient.truth_ml:.2f}",) if by_volume else ()),
        )
        for patient in patients
    )
    title = "Dice by patient against tumour volume" if by_volume else "Dice by patient"
    header = ("patient", "Dice", "true ml") if by_volume else ("patient", "Dice")
    return Plot(title, reading, drawing.svg(title, reading), header, rows)


def _class_means(patients: Sequence[Patient]) -> list[tuple[float, float, float, tuple[float, float]]]:
    """Edges, mean and interval of each size class with three patients or more."""
    means = []
    edges = (_LEAST_ML, *SIZE_CLASSES_ML, 1000.0)
    for low, high in pairwise(edges):
        dices = [
            patient.dice for patient in patients
            if patient.truth_ml and size_class(patient.truth_ml) == size_class(low)
        ]  # fmt: skip
        interval = bootstrap_interval(dices) if len(dices) > 2 else None
        if interval is not None:
            means.append((low, high, sum(dices) / len(dices), interval))
    return means


def training_plots(curves: Sequence[Curve]) -> list[Plot]:
    """A plot for each panel of the curves."""
    plots = []
    for panel in dict.fromkeys(curve.panel for curve in curves):
        shown = [curve for curve in curves if curve.panel == panel and curve.points]
        if not shown:
            continue
        values = [value for curve in shown for _, value in curve.points]
        last = max(epoch for curve in shown for epoch, _ in curve.points)
        is_dice = "dice" in panel.lower()
        y = Scale(0.0, 1.0, (0, 0.2, 0.4, 0.6, 0.8, 1.0)) if is_dice else Scale.linear(min(0.0, *values), max(values))
        drawing = Drawing(Scale.linear(0, max(last, 1.0), 6, whole=True), y, "epoch", panel)
        names = list(dict.fromkeys(curve.name for curve in shown))
        several = len(shown) > len(names)
        for curve in shown:
            colour, dash = _LINES[names.index(curve.name) % len(_LINES)]
            drawing.line(curve.points, colour, dash, 1.2 if several else 2.0)
            if len(curve.points) == 1:
                drawing.mark(*curve.points[0], curve.name, colour)
        for name in names:
            drawing.legend(name, *_LINES[names.index(name) % len(_LINES)])
        ends = ", ".join(f"{curve.name} {curve.points[0][1]:.2f} to {curve.points[-1][1]:.2f}" for curve in shown[:6])
        reading = f"From the first epoch to the last, {last:g}: {ends}."
        rows = tuple((curve.name, f"{epoch:g}", f"{value:.4f}") for curve in shown for epoch, value in curve.points)
        title = f"Training: {panel}"
        place = (0.4, 0.74) if is_dice and values[-1] > 0.5 else (0.4, 0.02)
        svg = drawing.svg(title, reading, legend_at=place)
        plots.append(Plot(title, reading, svg, ("line", "epoch", panel), rows))
    return plots


def free_response_plot(points: Sequence[OperatingPoint], threshold: float | None = None) -> Plot:
    """Share of tumours found against false positives a scan, over thresholds; the one that was used is marked."""
    most = max(point.false_positives for point in points)
    x, y = Scale.linear(0, max(most, 1.0), 6), Scale(0.0, 1.0, (0, 0.2, 0.4, 0.6, 0.8, 1.0))
    drawing = Drawing(x, y, "false positives a scan", "share of tumours found")
    names = list(dict.fromkeys(point.size_class for point in points))
    used = None
    for name in names:
        colour, dash = _LINES[names.index(name) % len(_LINES)]
        line = sorted((p for p in points if p.size_class == name), key=lambda p: (p.false_positives, p.sensitivity))
        drawing.line([(p.false_positives, p.sensitivity) for p in line], colour, dash)
        for p in line:
            title = (
                f"threshold {p.threshold:g}: {p.sensitivity:.0%} found, {p.false_positives:.1f} false positives a scan"
            )
            drawing.mark(p.false_positives, p.sensitivity, title, colour, size=2.6)
        if len(names) > 1:
            drawing.legend(name or "all", colour, dash)
        if not name and threshold is not None:
            used = min(line, key=lambda p: abs(p.threshold - threshold))
    reading = "The further up and to the left the line runs, the better."
    if used is not None:
        drawing.mark(used.false_positives, used.sensitivity, f"threshold {used.threshold:g}", "ink", "diamond", 6)
        reading = (
            f"At the threshold {used.threshold:g} (diamond) {used.sensitivity:.0%} of the tumours are found, with "
            f"{used.false_positives:.1f} false positives a scan. {reading}"
        ).replace("% of", " % of")
    title = "Free response: tumours found against false alarms"
    rows = tuple(
        (p.size_class or "all", f"{p.threshold:g}", f"{p.false_positives:.2f}", f"{p.sensitivity:.3f}") for p in points
    )
    svg = drawing.svg(title, reading, legend_at=(0.62, 0.6))
    return Plot(title, reading, svg, ("tumours", "threshold", "false positives a scan", "share found"), rows)


def reliability_plot(calibration: Calibration) -> Plot:
    """How often the network was right, by how sure it said it was."""
    unit = Scale(0.0, 1.0, (0, 0.2, 0.4, 0.6, 0.8, 1.0))
    drawing = Drawing(unit, unit, "probability that the network gave", "share that was tumour")
    drawing.line([(0, 0), (1, 1)], "ink", "dotted", 1.4)
    drawing.line([(one.predicted, one.observed) for one in calibration.bins], "a")
    for one in calibration.bins:
        title = f"said {one.predicted:.2f}, was {one.observed:.2f}, {one.pixels:,} pixels"
        drawing.mark(one.predicted, one.observed, title, "a")
    numbers = [
        f"{name} {value:.4f}"
        for name, value in (
            ("expected calibration error", calibration.expected_error),
            ("Brier score", calibration.brier),
        )
        if value is not None
    ]
    reading = "On the dotted line, the network is right as often as it says; below it, it is surer than it should be."
    sure = [one for one in calibration.bins if one.predicted >= 0.5]
    pixels = sum(one.pixels for one in sure)
    if pixels:
        said, was = (
            sum(getattr(one, name) * one.pixels for one in sure) / pixels for name in ("predicted", "observed")
        )
        reading += f" Of the pixels that it gave 0.5 or more ({said:.2f} on average), {percent(was)} were tumour."
    if numbers:
        told = ", ".join(numbers)
        reading += f" {told[0].upper()}{told[1:]} (0 is best)."
    title = "Reliability: can the probabilities be believed?"
    rows = tuple((f"{one.predicted:.3f}", f"{one.observed:.3f}", f"{one.pixels}") for one in calibration.bins)
    return Plot(title, reading, drawing.svg(title, reading), ("said", "was", "pixels"), rows)


def _name(drawing: Drawing, across: float, up: float, text: str, marks: Sequence[tuple[float, float]]) -> None:
    """Write a name beside a mark where it covers no other name and no other mark; nowhere if there is no such place."""
    width = _CHARACTER * len(text)
    places = [(9.0, 4.0), (-9.0 - width, 4.0), *((-width / 2, -9.0 - 13.0 * row) for row in range(5))]
    for shift in places:
        left, base = across + shift[0], up + shift[1]
        if drawing.is_free((left, base - 10, left + width, base + 2), [mark for mark in marks if mark != (across, up)]):
            drawing.text(left, base, text)
            return


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= 16 else f"{name[:8]}…{name[-7:]}"
