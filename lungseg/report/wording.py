"""The report in words: what a non-specialist has to know first, and why each patient came out as it did."""

from __future__ import annotations

from lungseg.errors import printable
from lungseg.statistics import CONFIDENCE

from .content import FAILED_BELOW, SIZE_CLASSES_ML, Patient, Report, ScanReport
from .findings import Findings, Spot

_NAMED = 4  # failed patients that the top of the page names
# Shares at which a half-right outline is called what it is.
_PARTLY, _MUCH_MORE, _SPECKS = 0.5, 1.5, 0.05


def millilitres(volume_ml: float) -> str:
    """A volume with as many places as mean something: ``0.42 ml``, ``3.1 ml``, ``68 ml``."""
    if volume_ml and volume_ml < 0.005:
        return "under 0.01 ml"
    return (
        f"{volume_ml:.2f} ml" if volume_ml < 1 else f"{volume_ml:.1f} ml" if volume_ml < 10 else f"{volume_ml:.0f} ml"
    )


def percent(share: float) -> str:
    """A share; never 0 % or 100 % for what is not quite that."""
    rounded = f"{share:.0%}".replace("%", " %")
    if rounded == "0 %" and share > 0:
        return "under 1 %"
    return "over 99 %" if rounded == "100 %" and share < 1 else rounded


def count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def summary(report: Report) -> tuple[str, str, str]:
    """Three sentences: how many patients, how well on average, who failed and why that matters."""
    n, failed = len(report.patients), report.failed
    unscored = f" {count(len(report.not_scored), 'patient')} could not be scored." if report.not_scored else ""
    first = (
        f"The network outlined lung tumours in the CT of {count(n, 'patient')} that it had never seen in training, "
        f"and each outline was compared with the true one.{unscored}"
    )
    scale = "on a scale from 0 (nothing in common) to 1 (the same outline)"
    if report.dice_mean is None:
        second = "There is no average, because not all patients could be scored, and leaving them out would flatter it."
    elif report.dice_interval is None:
        second = f"The agreement (Dice) is {report.dice_mean:.2f} {scale}; one patient can not show how others differ."
    else:
        low, high = report.dice_interval
        second = (
            f"On average the agreement (Dice) is {report.dice_mean:.2f} {scale}; with other patients of this kind the "
            f"average could as well have come out between {low:.2f} and {high:.2f} ({CONFIDENCE:.0%} interval)."
        ).replace("95% ", "95 % ")
    if not failed:
        return first, second, (
            f"It failed in none of them (a tumour missed, or an agreement under {FAILED_BELOW}), which with "
            f"{count(n, 'patient')} does not mean that it never will: a person has to look at every scan."
        )  # fmt: skip
    names = ", ".join(printable(patient.case) for patient in failed[:_NAMED])
    more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    missed = sum(patient.missed for patient in failed)
    of_these = "" if not missed else ", where the tumour was missed altogether" if missed == len(failed) else (
        f"; in {missed} of these the tumour was missed altogether"
    )  # fmt: skip
    return first, second, (
        f"It failed in {len(failed)} of {n} ({names}{more}){of_these}: whoever trusted the outline alone would have "
        f"overlooked or misjudged a tumour there, so a person has to look at every scan."
    )  # fmt: skip


def reason(patient: Patient, *, whole_scans: bool = True) -> str:
    """Why a patient came out as it did, from the measures, the main cause first.

    Args:
        patient: with its findings; without them the measures alone are told.
        whole_scans: False where slices have gaps: sizes are told as shares then, not in ml.
    """
    facts = patient.findings
    if facts is None:
        return "missed: nothing of the true tumour was outlined" if patient.missed else ""
    true, found, false = facts.true_voxels, facts.found_voxels, facts.largest_false
    parts = []
    if not facts.n_truth:
        if not facts.n_found:
            return "no tumour in the label, and none was outlined"
        parts.append(f"false alarm: the label holds no tumour, {_size(found, facts, whole_scans)} was outlined")
    elif patient.missed:
        parts += _missed(patient, facts, true, whole_scans)
    else:
        parts += _partly(patient, facts, true, found, whole_scans)
    if facts.n_truth and false is not None and (patient.failed or facts.false_voxels > 0.1 * true):
        parts.append(_false_positives(facts, false, true, whole_scans))
    return "; ".join(parts)


def _missed(patient: Patient, facts: Findings, true: int, whole_scans: bool) -> list[str]:
    size = _size(true, facts, whole_scans)
    largest = facts.truth[0]
    where = f" ({_where(largest)})"
    if whole_scans and patient.truth_ml and patient.truth_skipped_ml >= 0.999 * patient.truth_ml:
        return [f"missed: all {size} of tumour lie in slices at the feet end that are skipped{where}"]
    small = ", a small tumour" if whole_scans and true * facts.voxel_ml < SIZE_CLASSES_ML[0] else ""
    parts = [f"missed: nothing of {size} of tumour was outlined{small}{where}"]
    if patient.truth_skipped_ml > 0 and whole_scans:
        parts.append(f"{millilitres(patient.truth_skipped_ml)} of it in skipped slices")
    if not facts.n_found:
        parts.append("the network outlined nothing at all")
    return parts


def _partly(patient: Patient, facts: Findings, true: int, found: int, whole_scans: bool) -> list[str]:
    recall, touching = facts.overlap_voxels / true, found - facts.false_voxels
    parts = []
    if recall < _PARTLY:
        parts.append(f"partly found: {percent(recall)} of {_size(true, facts, whole_scans)} was outlined")
    elif touching > _MUCH_MORE * true:
        parts.append(f"outlined too large: {touching / true:.1f} times the true size, around the tumour")
    else:
        parts.append(f"found: {percent(recall)} of {_size(true, facts, whole_scans)} outlined")
    if facts.n_truth > 1:
        unseen = [spot.voxels for spot in facts.truth if spot.overlap == 0.0]
        # Specks at a tumour's rim are of no interest.
        if sum(unseen) > _SPECKS * true:
            parts.append(f"{len(unseen)} of {facts.n_truth} separate tumours not found")
    if whole_scans and patient.truth_skipped_ml > 0:
        parts.append(f"{millilitres(patient.truth_skipped_ml)} of it in skipped slices")
    return parts


def _false_positives(facts: Findings, false: Spot, true: int, whole_scans: bool) -> str:
    more = "more than the tumour itself: " if facts.false_voxels > true else ""
    if facts.n_false == 1:
        return f"a false positive, {more}{_size(false.voxels, facts, whole_scans)}, {_where(false)}"
    total, largest = (_size(voxels, facts, whole_scans) for voxels in (facts.false_voxels, false.voxels))
    return f"{facts.n_false} false positives, {more}{total} in all, the largest {largest}, {_where(false)}"


def _size(voxels: int, facts: Findings, whole_scans: bool) -> str:
    return millilitres(voxels * facts.voxel_ml) if whole_scans else count(voxels, "pixel")


def _where(spot: Spot) -> str:
    place = f"{spot.place}, " if spot.place else ""
    return f"{place}slice {spot.slice}"


def scan_summary(report: ScanReport) -> tuple[str, ...]:
    """Sentences for the top of the page of one scan."""
    n = len(report.tumours)
    if not n:
        return (
            f"The network outlined no tumour in {printable(report.case)}.",
            "That does not mean that there is none: networks of this kind miss tumours, small ones above all.",
            "A person has to look at the scan.",
        )
    volume = millilitres(sum(tumour.volume_ml for tumour in report.tumours))
    largest = report.tumours[0]
    return (
        f"The network took {count(n, 'region')} in {printable(report.case)} for tumour, {volume} in all.",
        f"The largest has {millilitres(largest.volume_ml)} and measures {largest.diameter_mm:.0f} mm across"
        + (f"; it lies on the {largest.place}." if largest.place else f"; it is best seen in slice {largest.slice}."),
        "Nobody has checked these outlines: vessels, scars and lymph nodes can look like tumour to it, and it can miss "
        "a real one, so a person has to look at the scan.",
    )
