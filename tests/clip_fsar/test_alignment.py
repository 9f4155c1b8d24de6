"""Distances of clips: against loops over scalars, in both directions, in single precision."""

import math

import pytest
import torch

from lightning_modules.clip_fsar.alignment import OTAM, TRX, BiMHM, build_alignment, frame_distances, otam


def by_cells(distances, smoothness):
    """OTAM's length of one matrix, cell by cell, as §2.6 has it."""
    rows, columns = distances.shape
    padded = [[0.0, *map(float, row), 0.0] for row in distances]

    def nearest(*values):
        return -smoothness * math.log(sum(math.exp(-value / smoothness) for value in values))

    found = [[0.0] * (columns + 2) for _ in range(rows)]
    for m in range(1, columns + 2):
        found[0][m] = found[0][m - 1] + padded[0][m]
    for row in range(1, rows):
        above, own = found[row - 1], found[row]
        own[1] = padded[row][1] + nearest(above[0], above[1], own[0])
        for m in range(2, columns + 1):
            own[m] = padded[row][m] + nearest(above[m - 1], own[m - 1])
        own[columns + 1] = nearest(above[columns], above[columns + 1], own[columns])
    return found[-1][-1]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (5, 3), (2, 7), (1, 4)])
@pytest.mark.parametrize("smoothness", [0.1, 0.5])
def test_anti_diagonals_are_the_cells_one_by_one(rows, columns, smoothness):
    matrices = drawn(3, 2, rows, columns).abs()
    expected = torch.tensor([[by_cells(one, smoothness) for one in row] for row in matrices])
    assert torch.allclose(otam(matrices, smoothness), expected, atol=1e-5)


def test_a_matrix_of_ones_has_the_known_length():
    # §2.6; another lambda or an ordinary minimum gives another length.
    assert otam(torch.ones(8, 8), 0.5).item() == pytest.approx(4.2036, abs=5e-5)


def test_gradients_are_those_of_the_slope():
    matrices = drawn(2, 4, 5).abs().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: otam(x, 0.5), matrices, eps=1e-6, atol=1e-5)


def test_both_clips_lead_unless_told_otherwise():
    # A distance is the sum of both directions (§2.6).
    prototypes, queries = drawn(2, 5, 8, 16), drawn(2, 3, 8, 16, seed=1)
    off = frame_distances(queries, prototypes)
    both = OTAM(0.5, bidirectional=True)(prototypes, queries)
    assert both.shape == (2, 3, 5)
    assert torch.allclose(both, otam(off, 0.5) + otam(off.mT, 0.5), atol=1e-5)
    assert torch.allclose(OTAM(0.5, bidirectional=False)(prototypes, queries), otam(off, 0.5), atol=1e-6)
    shorter = OTAM(0.5, bidirectional=True)(prototypes[:, :, :6], queries)
    off = frame_distances(queries, prototypes[:, :, :6])
    assert torch.allclose(shorter, otam(off, 0.5) + otam(off.mT, 0.5), atol=1e-5)


def test_cosines_have_a_hundredth_in_their_denominator():
    off = frame_distances(torch.tensor([[[[0.1, 0.0]]]]), torch.tensor([[[[0.2, 0.0]]]]))
    assert off.item() == pytest.approx(1 - 0.02 / 0.03)


def test_order_counts_for_otam_and_not_for_the_nearest_frames():
    # The Transformer has no positional encoding, so order is left to OTAM (§2.4, §2.6).
    prototypes, queries = drawn(1, 5, 8, 16), drawn(1, 3, 8, 16, seed=1)
    for metric, is_ordered in ((OTAM(0.5, bidirectional=True), True), (BiMHM(), False)):
        one, other = metric(prototypes, queries), metric(prototypes, queries.flip(2))
        assert torch.allclose(one, other, atol=1e-5) is not is_ordered


def test_nearest_frames_are_counted_from_both_sides():
    prototypes, queries = drawn(1, 2, 3, 4), drawn(1, 1, 3, 4, seed=1)
    off = frame_distances(queries, prototypes)[0, 0]
    expected = [sum(one.min(dim=side).values.sum() for side in (0, 1)) for one in off]
    assert torch.allclose(BiMHM()(prototypes, queries)[0, 0], torch.stack(expected), atol=1e-6)


def test_tuples_are_compared_with_what_resembles_them():
    torch.manual_seed(0)
    metric = TRX(6, 4, width=12).eval()
    prototypes, queries = drawn(1, 2, 4, 6), drawn(1, 1, 4, 6, seed=1)
    totals = []
    for part in metric.tuples:
        places = part.chosen
        ours, theirs = ((x + metric.places)[:, places].flatten(-2) for x in (queries[0], prototypes[0]))
        for n in range(2):
            scores = part.norm(part.keys(ours[0])) @ part.norm(part.keys(theirs[n])).mT / 12**0.5
            seen = scores.softmax(dim=-1) @ part.values(theirs[n])
            totals.append((part.values(ours[0]) - seen).square().sum() / len(places))
    pairs, triples = totals[:2], totals[2:]
    expected = torch.stack([(pairs[n] + triples[n]) / 2 for n in range(2)])
    assert len(metric.tuples[0].chosen) == 6
    assert len(metric.tuples[1].chosen) == 4
    assert torch.allclose(metric(prototypes, queries)[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("metric", ["otam", "bi_mhm", "trx"])
def test_distances_keep_their_precision_under_autocast(metric):
    # Exponentials of distances over lambda need single precision (§2.6).
    torch.manual_seed(0)
    module = build_alignment({"metric": metric, "smoothness": 0.5, "bidirectional": True}, 16, 8).eval()
    prototypes, queries = drawn(1, 5, 8, 16), drawn(1, 4, 8, 16, seed=1)
    plain = module(prototypes, queries)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module(prototypes, queries)
    assert mixed.dtype == torch.float32
    # The keys of TRX are layers and run in half the digits; what is done with them does not.
    assert (plain - mixed).abs().max() < (1e-4 if metric != "trx" else 0.02 * plain.mean())
