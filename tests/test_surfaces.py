"""Surface distances against google-deepmind's own package, against a search of all pairs, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lungseg.surfaces import SurfaceDistances, element_areas_mm2, surface_distances

from .masks import GRIDS_MM, boxes, random_pair

surface_distance = pytest.importorskip("surface_distance")


def measured(truth: np.ndarray, found: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    distances = surface_distances(truth, found, spacing_mm)
    hausdorff = distances.hausdorff_mm()
    assert hausdorff is not None
    return distances.dice(2.0), hausdorff


def by_the_package(truth: np.ndarray, found: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[float, float]:
    distances = surface_distance.compute_surface_distances(truth, found, spacing_mm)
    return (
        surface_distance.compute_surface_dice_at_tolerance(distances, 2.0),
        surface_distance.compute_robust_hausdorff(distances, 95),
    )


@pytest.mark.filterwarnings("ignore")
def test_200_random_pairs_equal_the_package() -> None:
    for number in range(200):
        pair = random_pair(number)
        assert measured(*pair) == pytest.approx(by_the_package(*pair), abs=1e-9), number


EDGES = {
    "one voxel": boxes((5, 5, 5), ((2, 3), (2, 3), (2, 3))),
    "another voxel": boxes((5, 5, 5), ((4, 5), (0, 1), (4, 5))),
    "at the edge": boxes((5, 5, 5), ((0, 2), (0, 5), (3, 5))),
    "everything": np.ones((5, 5, 5), bool),
    "a plane": boxes((5, 5, 5), ((0, 5), (0, 5), (2, 3))),
    "a hollow": np.ones((5, 5, 5), bool) & ~boxes((5, 5, 5), ((2, 3), (2, 3), (2, 3))),
    "two corners": boxes((5, 5, 5), ((1, 2), (1, 2), (1, 2)), ((2, 3), (2, 3), (2, 3))),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("one", EDGES)
@pytest.mark.parametrize("other", EDGES)
def test_edge_cases_equal_the_package(one: str, other: str) -> None:
    pair = (EDGES[one], EDGES[other], (0.7, 1.1, 2.5))
    assert measured(*pair) == pytest.approx(by_the_package(*pair), abs=1e-9)


@pytest.mark.parametrize("spacing_mm", GRIDS_MM)
def test_areas_of_all_256_neighbourhoods_equal_the_package(spacing_mm: tuple[float, float, float]) -> None:
    table = surface_distance.lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    np.testing.assert_allclose(element_areas_mm2(*spacing_mm), table, atol=1e-9)


def test_distances_equal_a_search_of_all_pairs() -> None:
    """Nothing is shared with the package here: corners are found voxel by voxel, distances between all of them."""
    for number in range(20):
        truth, found, spacing_mm = random_pair(number)
        corners = []
        for mask in (truth, found):
            padded = np.pad(mask, 1)
            places = [
                place
                for place in np.ndindex(*(size + 1 for size in mask.shape))
                if 0 < padded[tuple(slice(i, i + 2) for i in place)].sum() < 8
            ]
            corners.append(np.array(places) * spacing_mm)
        apart = np.sqrt(np.square(corners[0][:, None] - corners[1][None]).sum(-1))
        distances = surface_distances(truth, found, spacing_mm)
        np.testing.assert_allclose(np.sort(distances.truth_mm), np.sort(apart.min(1)), atol=1e-9)
        np.testing.assert_allclose(np.sort(distances.predicted_mm), np.sort(apart.min(0)), atol=1e-9)


def test_the_hausdorff_distance_of_100_percent_is_the_largest() -> None:
    for number in range(20):
        distances = surface_distances(*random_pair(number))
        assert distances.hausdorff_mm(100.0) == max(distances.truth_mm.max(), distances.predicted_mm.max())


@pytest.mark.parametrize(
    ("true", "found", "dice", "hausdorff"), [(0, 0, 1.0, 0.0), (1, 0, 0.0, None), (0, 1, 0.0, None)]
)
def test_row_42_empty_masks_have_a_rule(true: int, found: int, dice: float, hausdorff: float | None) -> None:
    masks = [np.full((3, 4, 5), bool(value)) for value in (true, found)]
    distances = surface_distances(masks[0], masks[1], (1.0, 2.0, 3.0))
    assert distances.dice() == dice and distances.hausdorff_mm() == hausdorff


def test_a_shift_of_just_the_tolerance_is_within_it() -> None:
    """5 voxels of 0.4 mm are 2 mm, though 6 x 0.4 - 1 x 0.4 is a little more in floating point."""
    truth = boxes((30, 1, 1), ((12, 13), (0, 1), (0, 1)))
    found = boxes((30, 1, 1), ((17, 18), (0, 1), (0, 1)))
    assert 6 * 0.4 - 1 * 0.4 > 2.0
    distances = surface_distances(truth, found, (0.4, 1.0, 1.0))
    assert distances.dice(2.0) == pytest.approx(1.0) and distances.dice(1.999) < 1.0


def test_where_the_masks_lie_and_how_they_are_stored_does_not_matter() -> None:
    truth, found, spacing_mm = random_pair(3)
    wanted = measured(truth, found, spacing_mm)
    room = ((5, 0), (0, 9), (2, 3))
    padded = [np.asfortranarray(np.pad(mask, room).astype(np.uint8) * 7) for mask in (truth, found)]
    assert measured(padded[0], padded[1], spacing_mm) == pytest.approx(wanted, abs=1e-12)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        surface_distances(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), (1.0, 1.0, 1.0))


def test_the_percentile_weighs_by_area() -> None:
    """One large element far away outweighs nine small ones near by."""
    distances = SurfaceDistances(
        np.array([1.0] * 9 + [7.0]), np.array([1.0] * 9 + [91.0]), np.array([2.0]), np.array([1.0])
    )
    assert distances.hausdorff_mm(50.0) == 7.0 and distances.hausdorff_mm(5.0) == 2.0
