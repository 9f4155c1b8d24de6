import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from common.errors import UserError
from lightning_modules.uosr.outputs import unit_rows
from lightning_modules.uosr.scores.few_shot import DEFAULTS, FewShot
from lightning_modules.uosr.scores.fusion import Fusion, Range
from lightning_modules.uosr.scores.mahalanobis import Gaussian
from lightning_modules.uosr.scores.neighbours import top_similarities
from lightning_modules.uosr.scores.references import draw_tries, image_keys, require_disjoint, shared_samples
from lightning_modules.uosr.scores.softmax_scores import msp
from lightning_modules.uosr.unified_metrics import mean_over_tries, unified_metrics
from tests.uosr.toy import toy

SCORES = {"knn", "ssd", "fs_knn", "fs_knn_plus_s", "fs_knn_times_s", "sirc", "fs_knns"}


def _few_shot(shots, **options):
    return FewShot(toy().train, toy().pool, shots, DEFAULTS | options)


def test_tries_are_every_tenth_of_the_sorted_pool_as_in_the_official_code():
    labels = torch.arange(4).repeat(50)[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    tries = draw_tries(labels, 5)
    order = labels.argsort(stable=True)
    assert tries.shape == (10, 20)
    for number, rows in enumerate(tries):
        assert torch.equal(rows, order[number::10])


@pytest.mark.parametrize(
    ("counts", "shots", "expected"), [([7, 12, 9], 3, 2), ([5, 5], 1, 5), ([1], 1, 1), ([13], 5, 2)]
)
def test_tries_are_disjoint_and_hold_every_class_equally(counts, shots, expected):
    labels = torch.repeat_interleave(torch.arange(len(counts)) * 3 - 1, torch.tensor(counts)).flip(0)
    tries = draw_tries(labels, shots)
    assert tries.shape == (expected, shots * len(counts))
    assert len(tries.unique()) == tries.numel()
    for rows in tries:
        assert set(labels[rows].unique(return_counts=True)[1].tolist()) == {shots}


def test_too_few_references_are_named():
    with pytest.raises(ValueError, match="class 7 has 2 references, fewer than 5 shots"):
        draw_tries(torch.tensor([3] * 6 + [7] * 2), 5)
    with pytest.raises(ValueError, match="pool of 0"):
        draw_tries(torch.tensor([], dtype=torch.int64), 1)


def test_samples_in_both_pool_and_test_set_are_found():
    assert shared_samples(torch.tensor([1, 2, 3]), torch.tensor([4, 5])).tolist() == []
    assert shared_samples(torch.tensor([1, 2, 3]), torch.tensor([3, 1, 9])).tolist() == [1, 3]


def test_images_have_one_key_wherever_they_stand_and_leaked_references_are_refused():
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    keys = image_keys(images)
    assert len(keys.unique()) == 6
    assert torch.equal(image_keys(images.flip(0)), keys.flip(0))
    require_disjoint(keys[:3], keys[3:], "unknown")
    with pytest.raises(UserError, match=r"leakage: 2 image\(s\) .* in the test of unknown"):
        require_disjoint(keys[:4], keys[2:], "unknown")


def test_grouped_search_is_the_sorted_matrix(monkeypatch):
    monkeypatch.setattr("lightning_modules.uosr.scores.neighbours.TILE_QUERIES", 7)
    monkeypatch.setattr("lightning_modules.uosr.scores.neighbours.TILE_BANK", 4)
    generator = torch.Generator().manual_seed(3)
    queries, bank = torch.randn(30, 6, generator=generator), torch.randn(45, 6, generator=generator)
    matrix = (unit_rows(queries) @ unit_rows(bank).T).view(30, 3, 15)
    for k in (1, 5, 15, 99):
        expected = matrix.sort(2, descending=True).values[..., : min(k, 15)].transpose(0, 1)
        assert torch.allclose(top_similarities(queries, bank, k, groups=3).float(), expected, atol=1e-6)


def _slow_distance(features, refs, train, k, k_refs):
    def kth(bank, rank):
        return (unit_rows(features) @ unit_rows(bank).T).sort(1, descending=True).values[:, rank - 1]

    return 1 - kth(train, k) + kth(refs, k_refs)


@pytest.mark.parametrize(("shots", "k_refs"), [(5, 5), (1, 1), (3, 3)])
def test_distance_is_the_definition_for_each_try(shots, k_refs):
    few_shot, known = _few_shot(shots), toy().known
    measured = few_shot.measure(known)
    assert len(few_shot.tries) == 20 // shots
    for rows, d in zip(few_shot.tries, measured.d, strict=True):
        expected = _slow_distance(known.features, toy().pool.features[rows], toy().train.features, 5, k_refs)
        assert torch.allclose(d.float(), expected, atol=1e-5)


def test_references_do_not_match_themselves_unless_asked():
    without, official = _few_shot(5), _few_shot(5, self_match=True)
    features = toy().pool.features
    for row, rows in enumerate(without.tries):
        similar = unit_rows(features[rows]) @ unit_rows(features[rows]).T
        train = 1 - (unit_rows(features[rows]) @ unit_rows(toy().train.features).T).sort(1).values[:, -5]
        official_term = similar.sort(1, descending=True).values[:, 4]
        assert torch.allclose(official.d_refs[row].float(), train + official_term, atol=1e-5)
        others = similar.fill_diagonal_(-9).sort(1, descending=True).values[:, 4]
        assert torch.allclose(without.d_refs[row].float(), train + others, atol=1e-5)
        to_train = (unit_rows(toy().train.features) @ unit_rows(features[rows]).T).sort(1, descending=True).values[:, 4]
        assert torch.allclose(without.d_train[row].float(), to_train, atol=1e-5)


def test_one_class_and_one_shot_runs():
    one = toy().pool.take(torch.arange(1))
    few_shot = FewShot(toy().train, one, 1)
    known, ood = few_shot.scores(toy().known, toy().ood)
    assert few_shot.tries.tolist() == [[0]]
    for name in SCORES:
        assert torch.isfinite(known[name]).all(), name
        assert torch.isfinite(ood[name]).all(), name


@pytest.mark.parametrize("shots", [1, 5])
def test_a_sample_alone_scores_as_in_the_batch(shots):
    few_shot = _few_shot(shots)
    known, ood = few_shot.scores(toy().known, toy().ood)
    assert set(known) == SCORES
    alone, other = few_shot.scores(toy().known.take(torch.tensor([11])), toy().ood.take(torch.tensor([5])))
    for name in SCORES:
        assert torch.allclose(alone[name][:, 0], known[name][:, 11], rtol=1e-4, atol=1e-5), name
        assert torch.allclose(other[name][:, 0], ood[name][:, 5], rtol=1e-4, atol=1e-5), name


def test_transductive_scores_do_depend_on_the_test_set():
    few_shot = _few_shot(5, transductive=True)
    known, ood = few_shot.scores(toy().known, toy().ood)
    for side in (known, ood):
        assert ((side["fs_knn"] >= 0) & (side["fs_knn"] <= 1)).all()
    alone, _ = few_shot.scores(toy().known.take(torch.tensor([11])), toy().ood.take(torch.tensor([5])))
    assert not torch.allclose(alone["fs_knns"][:, 0], known["fs_knns"][:, 11], atol=1e-3)


def test_fusions_by_hand():
    d_train, d_refs = torch.tensor([[0.0, 0.2, 0.4]]), torch.tensor([[0.8, 1.0]])
    d, msp = torch.tensor([[0.5, 2.0]]), torch.tensor([[0.25, 0.5]])
    fusion = Fusion(d_train, d_refs, Range.of(d_train, d_refs, d), Range.of(torch.tensor([[0.0, 0.5]])), 50, 0.5)
    scores = {name: score[0].numpy() for name, score in fusion.scores(d, msp).items()}
    # Everything by hand: d is halved, u0 doubled; references (0.4, 0.5), training (0, 0.1, 0.2).
    d, u = np.array([0.25, 1.0]), np.array([0.5, 1.0])
    gate = 0.45 - 0.5 * 0.05
    assert scores["fs_knn"] == pytest.approx(d)
    assert scores["fs_knn_plus_s"] == pytest.approx(d + u)
    assert scores["fs_knn_times_s"] == pytest.approx(d * u)
    assert scores["fs_knns"] == pytest.approx(u + d / (1 + np.exp(-50 * (d - gate))))
    std = np.std([0, 0.1, 0.2])
    assert scores["sirc"] == pytest.approx(np.log(u * (1 + np.exp((d - 0.1 - 3 * std) / std)) + 1e-6))


def test_sirc_takes_an_uncertainty_below_the_fitted_range():
    ones = torch.ones(1, 2, dtype=torch.float64)
    fusion = Fusion(
        ones * torch.tensor([0.0, 1.0]), ones, Range(0 * ones[:, :1], ones[:, :1]), Range(ones[:, :1] / 2, ones[:, :1])
    )
    assert torch.isfinite(fusion.scores(ones, 0 * ones)["sirc"]).all()


@pytest.mark.parametrize("count", [8, 60])
def test_mahalanobis_is_the_pseudo_inverse_of_the_ledoit_wolf_covariance(count):
    generator = torch.Generator().manual_seed(4)
    samples = torch.randn(count, 12, generator=generator, dtype=torch.float64) * torch.linspace(0.1, 2, 12)
    queries = torch.randn(9, 12, generator=generator, dtype=torch.float64)
    fitted = LedoitWolf().fit(samples.numpy())
    expected = [
        (row - fitted.location_) @ np.linalg.pinv(fitted.covariance_) @ (row - fitted.location_)
        for row in queries.numpy()
    ]
    assert Gaussian(samples)(queries).numpy() == pytest.approx(expected, rel=1e-8)


def test_ssd_is_the_difference_of_the_two_distances():
    few_shot = _few_shot(5)
    units, refs = unit_rows(toy().known.features.double()), unit_rows(toy().pool.features.double())
    train = Gaussian(unit_rows(toy().train.features.double()))(units)
    for rows, ssd in zip(few_shot.tries, few_shot.measure(toy().known).ssd, strict=True):
        assert torch.allclose(ssd, train - Gaussian(refs[rows])(units))


def test_the_toy_shows_the_claim_of_the_paper():
    known, ood = _few_shot(5).scores(toy().known, toy().ood)
    correct = toy().known.correct()
    metrics = {name: mean_over_tries(known[name], correct, ood[name]) for name in known}
    softmax = unified_metrics(msp(toy().known.logits), correct, msp(toy().ood.logits))
    # References find the unknown and miss the wrong; the gated sum with the softmax gets both.
    for name in ("fs_knn", "ssd"):
        assert metrics[name]["inc_ood"] > softmax["inc_ood"] + 10, name
        assert metrics[name]["inc_inw"] < softmax["inc_inw"] - 15, name
    assert metrics["fs_knns"]["inc_inw"] > metrics["fs_knn"]["inc_inw"] + 10
    assert metrics["fs_knns"]["uosr"] > max(metrics["fs_knn"]["uosr"], softmax["uosr"])
