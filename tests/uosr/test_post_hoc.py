import math

import numpy as np
import pytest
import torch
from scipy.stats import weibull_min

from lightning_modules.uosr.outputs import save_outputs
from lightning_modules.uosr.scores import softmax_scores
from lightning_modules.uosr.scores.feature_scores import Knn, Residual, principal_dimensions
from lightning_modules.uosr.scores.odin import odin_score
from lightning_modules.uosr.scores.openmax import OpenMax
from lightning_modules.uosr.scores.post_hoc import PostHoc
from lightning_modules.uosr.scores.sirc import Sirc
from lightning_modules.uosr.unified_metrics import unified_metrics
from tests.uosr.build import stored_outputs
from tests.uosr.toy import toy

LOGIT_SCORES = (softmax_scores.msp, softmax_scores.entropy, softmax_scores.doctor)
# Scores of how unknown a feature looks: nothing makes them know wrong from right.
PURE_OOD_SCORES = {"residual"}


def test_confident_scores_keep_their_order():
    logits = torch.tensor([[20.0, 0, 0], [40, 0, 0], [700, 0, 0]])
    for score in LOGIT_SCORES:
        low, high, highest = score(logits).tolist()
        assert low > high > highest > 0, score.__name__
    assert softmax_scores.msp(logits)[1].item() == pytest.approx(2 * math.exp(-40), rel=1e-12)
    assert softmax_scores.doctor(logits)[1].item() == pytest.approx(4 * math.exp(-40), rel=1e-12)
    assert softmax_scores.entropy(logits)[1].item() == pytest.approx(2 * math.exp(-40) * 41, rel=1e-12)
    assert softmax_scores.log_rest(torch.tensor([[2000.0, 0, 0]])).item() == pytest.approx(math.log(2) - 2000)


def test_logit_scores_by_hand():
    p = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    logits = p.log() + 7
    assert softmax_scores.msp(logits).item() == pytest.approx(0.5)
    assert softmax_scores.doctor(logits).item() == pytest.approx(0.62 / 0.38)
    assert softmax_scores.entropy(logits).item() == pytest.approx(-sum(q * math.log(q) for q in (0.5, 0.3, 0.2)))
    assert softmax_scores.energy(logits).item() == pytest.approx(-7)
    assert softmax_scores.max_logit(logits).item() == pytest.approx(-7 - math.log(0.5))


def test_knn_is_the_cosine_distance_to_the_nearest_rows():
    generator = torch.Generator().manual_seed(0)
    train, queries = torch.randn(300, 5, generator=generator), 3 * torch.randn(40, 5, generator=generator)
    cosine = torch.nn.functional.cosine_similarity(queries[:, None], train[None], dim=2)
    for k in (1, 5):
        expected = 1 - cosine.sort(1, descending=True).values[:, k - 1]
        assert torch.allclose(Knn(train, k)(queries).float(), expected, atol=1e-6)
    assert Knn(train[:2], 5)(queries).shape == (40,)


def test_principal_dimensions():
    assert [principal_dimensions(width) for width in (2048, 1501, 1500, 513, 512, 9)] == [1000, 1000, 512, 512, 256, 4]


def test_residual_is_the_distance_from_the_principal_subspace_through_the_origin_of_the_head():
    generator = torch.Generator().manual_seed(1)
    weight = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    bias = torch.tensor([-2.0, 1.0])
    # The origin is where the logits vanish: (2, -1, 0, 0). Features vary in the last two axes only.
    features = torch.zeros(50, 4)
    features[:, 2:] = torch.randn(50, 2, generator=generator)
    features += torch.tensor([2.0, -1, 0, 0])
    residual = Residual(features, weight, bias)
    assert torch.allclose(residual(features), torch.zeros(50, dtype=torch.float64), atol=1e-6)
    away = residual(torch.tensor([[2.0 + 3, -1 + 4, 9, 9]]))
    assert away.item() == pytest.approx(5)


def test_residual_of_few_samples_does_not_hang_on_rounding():
    generator = torch.Generator().manual_seed(0)
    train, tested = torch.randn(20, 64, generator=generator), torch.randn(5, 64, generator=generator)
    weight, bias = torch.randn(3, 64, generator=generator), torch.randn(3, generator=generator)
    shaken = train * (1 + 1e-7 * torch.randn(train.shape, generator=generator))
    first, second = (Residual(some, weight, bias)(tested) for some in (train, shaken))
    assert torch.allclose(first, second, rtol=1e-5)


def test_vim_scales_the_residual_to_the_logits():
    post_hoc, train = PostHoc(toy().train, toy().weight, toy().bias), toy().train
    scores = post_hoc.scores(train)
    ratio = train.logits.double().amax(1).mean() / scores["residual"].mean()
    assert torch.allclose(scores["vim"], ratio * scores["residual"] + scores["energy"])


def test_sirc_is_the_published_product():
    second = torch.tensor([1.0, 2, 3, 10])
    sirc = Sirc.fit(second)
    mean, std = 4.0, math.sqrt(12.5)
    assert sirc.a == pytest.approx(mean - 3 * std)
    assert sirc.b == pytest.approx(1 / std)
    gap = torch.tensor([0.1, 0.5, 0.01, 0.3], dtype=torch.float64)
    published = (gap * (1 + torch.exp(-sirc.b * (second.double() - sirc.a)))).log()
    assert torch.allclose(sirc(gap.log(), second), published, atol=1e-12)
    assert torch.isfinite(sirc(gap.log(), torch.full((4,), -1e6))).all()


def test_odin_by_hand_on_a_linear_network():
    weight = torch.tensor([[1.0, -2.0], [0.5, 1.0], [0.0, 0.3]])
    images = torch.tensor([[0.3, -0.4], [-0.2, 0.9]])
    got = odin_score(lambda x: x @ weight.T, images, temperature=2.0, epsilon=0.1)
    for row, score in zip(images, got, strict=True):
        logits = weight @ row / 2
        top = int(logits.argmax())
        gradient = (torch.softmax(logits, 0) @ weight - weight[top]) / 2
        moved = torch.softmax(weight @ (row - 0.1 * gradient.sign()) / 2, 0)
        assert score.item() == pytest.approx(1 - moved.max().item(), abs=1e-6)
    assert got.dtype == torch.float64


def test_odin_works_in_inference_mode_and_leaves_no_gradient():
    network = torch.nn.Linear(3, 4)
    with torch.inference_mode():
        images = torch.randn(5, 3)
        assert odin_score(network, images).shape == (5,)
    assert network.weight.grad is None


def test_openmax_tail_is_the_weibull_of_libmr():
    train = toy().train
    openmax = OpenMax(train.logits, train.labels)
    own = train.logits[train.correct() & (train.labels == 2)].double()
    distance = (own - own.mean(0)).norm(dim=1)
    tail = distance.sort().values[-20:].numpy()
    shape, _, scale = weibull_min.fit(tail - tail.min() + 10_000, 10_000 / tail.std(), floc=0, scale=10_000)
    at = np.linspace(tail.min(), tail.max(), 5)
    expected = weibull_min.cdf(at - tail.min() + 10_000, shape, 0, scale)
    got = 1 - np.exp(-np.exp((at - openmax.location[2].item()) / openmax.spread[2].item()))
    assert got == pytest.approx(expected, abs=2e-3)


def test_openmax_revises_logits_as_published():
    train, samples = toy().train, toy().known.logits[:20].double()
    openmax = OpenMax(train.logits, train.labels, alpha=3)
    for row, got in zip(samples, openmax(samples), strict=True):
        revised, unknown = row.clone(), 0.0
        for rank, number in enumerate(row.argsort(descending=True)[:3].tolist()):
            distance = (row - openmax.means[number]).norm()
            in_tail = 1 - torch.exp(-torch.exp((distance - openmax.location[number]) / openmax.spread[number]))
            weight = in_tail * (3 - rank) / 3
            unknown += row[number] * weight
            revised[number] = row[number] * (1 - weight)
        p = 1 - torch.softmax(torch.cat([revised, unknown.view(1)]), 0)[:-1].max()
        assert torch.sigmoid(got).item() == pytest.approx(p.item(), rel=1e-9)
    alone = torch.cat([openmax(row.unsqueeze(0)) for row in samples])
    assert torch.allclose(alone, openmax(samples), atol=1e-12)


def test_openmax_with_classes_without_samples_or_spread():
    logits = torch.tensor([[5.0, 0, 0]] * 4 + [[0.0, 5, 0]])
    openmax = OpenMax(logits, torch.tensor([0, 0, 0, 0, 1]))
    scores = openmax(torch.tensor([[5.0, 0, 0], [50, 0, 0], [0, 0, 5], [1e4, -1e4, 0]]))
    assert torch.isfinite(scores).all()
    assert scores[0] < scores[1]


def test_every_score_points_the_right_way_on_a_trained_classifier():
    post_hoc, known, ood = PostHoc(toy().train, toy().weight, toy().bias), toy().known, toy().ood
    of_known, of_ood = post_hoc.scores(known), post_hoc.scores(ood)
    expected = (
        "msp max_logit energy entropy doctor odin knn residual vim sirc_msp_z sirc_msp_res sirc_h_z sirc_h_res openmax"
    )
    assert set(of_known) == set(expected.split())
    accuracies = set()
    for name, score in of_known.items():
        assert score.dtype == torch.float64, name
        metrics = unified_metrics(score, known.correct(), of_ood[name])
        accuracies.add(metrics["acc"])
        assert metrics["inc_ood"] > 50, name
        if name not in PURE_OOD_SCORES:
            assert metrics["inc_inw"] > 52, name
    assert len(accuracies) == 1


def test_statistics_come_from_training_outputs_alone():
    post_hoc, known = PostHoc(toy().train, toy().weight, toy().bias), toy().known
    whole = post_hoc.scores(known)
    post_hoc.scores(toy().ood)
    part = post_hoc.scores(known.take(torch.arange(7)))
    for name, score in part.items():
        assert torch.allclose(score, whole[name][:7], atol=1e-6), name


def test_odin_only_where_the_network_gave_it():
    bare = toy().known._replace(extra={})
    assert "odin" not in PostHoc(toy().train, toy().weight, toy().bias).scores(bare)


def test_outputs_survive_a_file(tmp_path):
    path = tmp_path / "deep" / "known.npz"
    save_outputs(path, toy().known)
    back = stored_outputs(path)
    assert torch.equal(back.logits, toy().known.logits)
    assert torch.equal(back.extra["odin"], toy().known.extra["odin"])
    # Accuracy recomputed from the file is that of the network: no label has lost its row.
    assert torch.equal(back.correct(), toy().known.correct())
