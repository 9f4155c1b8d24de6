"""The module through a real trainer: golden losses, checkpoints, and what a test leaves behind."""

import json

import networkx as nx
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from scipy.sparse import load_npz

from common.errors import UserError
from lightning_modules.neural_dependency.module import NeuralDependency
from tests.neural_dependency.build import CLASSES, Kept, module_of, options, trainer, world

# Training losses of five steps, recorded from this code on the CPU.
GOLDEN = {
    "none": [2.18693, 2.21678, 1.6397, 1.44105, 1.4883],
    "cut": [2.22026, 2.23574, 1.7757, 1.57468, 1.63172],
    "keep": [2.87136, 2.89862, 2.57429, 2.35919, 2.06658],
}


class Losses(pl.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a run's folder, its tested module, its metrics, and its tables and pictures."""
    folder, kept = tmp_path_factory.mktemp("run"), Kept()
    module, lightning = module_of(), trainer(folder, epochs=8)
    kept.keep(module)
    lightning.fit(module, world())
    lightning.save_checkpoint(folder / "checkpoints" / "best.ckpt")
    metrics = lightning.test(module, world(), verbose=False)[0]
    return folder, module, metrics, kept


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden_losses_of_five_steps(kind, trained, tmp_path):
    losses = Losses()
    named = str(trained[0] / "checkpoints" / "best.ckpt")
    module = module_of(regularizer={"kind": kind, "dependencies": named})
    trainer(tmp_path, max_steps=5, limit_val_batches=0, callbacks=[losses]).fit(module, world())
    assert losses.values == pytest.approx(GOLDEN[kind], abs=2e-4)


def test_the_reading_is_of_the_network_and_not_of_its_controls(trained):
    _, _, metrics, kept = trained
    assert metrics["test/acc"] > 60
    assert metrics["test/sparse"] < 0.8 * metrics["test/control/untrained/sparse"]
    # §3.2: without any joint distribution nothing is explained.
    assert metrics["test/control/shuffled/sparse"] == pytest.approx(1, abs=0.1)
    assert metrics["test/dense"] <= metrics["test/sparse"]
    assert metrics["test/emergence/m8/sparse"] == pytest.approx(metrics["test/sparse"])
    assert metrics["test/emergence/m8/sparse"] < metrics["test/emergence/m4/sparse"]
    assert metrics["test/categories"] == CLASSES
    assert metrics["test/rank"] == CLASSES
    assert metrics["test/determinant_identity"] < 1e-6
    assert set(kept.pictures) == {"emergence", "correlations", "spectrum", "graph", "error_by_sparsity"}


@pytest.mark.parametrize("form", ["uncentred", "centred"])
def test_the_path_of_penalties(form, trained):
    _, _, metrics, kept = trained
    columns, rows = kept.tables[f"path_{form}"]
    assert [row[:2] for row in rows] == [[0.3, "lasso"], [0.3, "refit"], [0.03, "lasso"], [0.03, "refit"]]
    assert {"FVU", "positive %", "false positives", "KKT"} <= set(columns)
    of = {
        key: metrics[f"test/{form}/alpha_{key}"] for key in ("0.3/fvu_lasso", "0.03/fvu_lasso", "0.3/kkt", "0.03/kkt")
    }
    assert of["0.03/fvu_lasso"] < of["0.3/fvu_lasso"]
    # The issue: under one percent of lambda, at every alpha and target.
    assert max(of["0.3/kkt"], of["0.03/kkt"]) < 0.01
    # Shrinkage costs, refit gives it back (§2.4).
    assert metrics[f"test/{form}/alpha_0.3/fvu_refit"] < metrics[f"test/{form}/alpha_0.3/fvu_lasso"]
    assert metrics[f"test/{form}/alpha_0.03/positive_refit"] <= metrics["test/untouched/positive"] + 5


def test_the_dependencies_and_their_graph_are_kept_as_files(trained):
    folder, _, metrics, _ = trained
    weights = load_npz(folder / "dependencies" / "uncentred.npz")
    assert weights.shape == (CLASSES, CLASSES)
    assert not weights.diagonal().any()
    graph = nx.node_link_graph(json.loads((folder / "dependencies" / "graph.json").read_text()), edges="edges")
    assert graph.number_of_edges() == weights.nnz
    assert graph.nodes[0]["name"] == world().class_names()[0]
    assert 0 < metrics["test/meaning/p"] <= 1


@pytest.mark.parametrize("kind", ["none", "keep"])
def test_a_checkpoint_needs_nothing_but_its_path(kind, trained, tmp_path):
    named = str(trained[0] / "checkpoints" / "best.ckpt")
    module = module_of(regularizer={"kind": kind, "dependencies": named})
    lightning = trainer(tmp_path, max_steps=3, limit_val_batches=0)
    lightning.fit(module, world())
    lightning.save_checkpoint(tmp_path / "end.ckpt")
    stored = torch.load(tmp_path / "end.ckpt", weights_only=True)
    assert stored["hyper_parameters"] == options(regularizer={"kind": kind, "dependencies": named})
    loaded = NeuralDependency.load_from_checkpoint(tmp_path / "end.ckpt", weights_only=True)
    assert loaded.state_dict().keys() == module.state_dict().keys()
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_stop_and_go_equals_a_straight_run(trained, tmp_path):
    named = str(trained[0] / "checkpoints" / "best.ckpt")
    changes = {"regularizer": {"kind": "cut", "dependencies": named}}
    straight = module_of(**changes)
    trainer(tmp_path, epochs=4).fit(straight, world())
    # The schedule knows its end from the first step on, so the first half is a straight run stopped, not a shorter one.
    first, lightning = module_of(**changes), trainer(tmp_path, epochs=4, callbacks=[StopAfter(2)])
    lightning.fit(first, world())
    lightning.save_checkpoint(tmp_path / "half.ckpt")
    second = module_of(seed=9, **changes)
    trainer(tmp_path, epochs=4).fit(second, world(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    state = second.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in straight.state_dict().items())


class StopAfter(pl.Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def test_theta_is_fixed_while_the_network_is_trained(trained, tmp_path):
    # §2.8: neither trained nor computed anew.
    named = str(trained[0] / "checkpoints" / "best.ckpt")
    module = module_of(regularizer={"kind": "keep", "dependencies": named})
    lightning = trainer(tmp_path, max_steps=3, limit_val_batches=0)
    lightning.fit(module, world())
    theta = load_npz(trained[0] / "dependencies" / "uncentred.npz").toarray()
    assert np.allclose(module.regularizer.theta.numpy(), theta, atol=1e-6)
    held = {id(p) for group in lightning.optimizers[0].param_groups for p in group["params"]}
    assert held == {id(p) for p in module.network.parameters()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "cut", "dependencies": None}, "name a run or a file"),
        ({"kind": "keep", "dependencies": "nowhere/checkpoints/best.ckpt"}, "no nowhere/dependencies/uncentred.npz"),
    ],
)
def test_a_regularizer_without_dependencies_is_one_line(changes, words, tmp_path):
    module = module_of(regularizer=changes)
    with pytest.raises(UserError, match=words):
        trainer(tmp_path, max_steps=1).fit(module, world())


def test_the_noise_of_a_test_is_the_same_each_time(trained, tmp_path):
    folder = trained[0]
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = NeuralDependency.load_from_checkpoint(
            folder / "checkpoints" / "best.ckpt", weights_only=True, test_noise_std=0.5
        )
        found.append(trainer(tmp_path).test(module, world(), verbose=False)[0])
    assert found[0] == found[1]
    assert found[0]["test/noisy_acc"] < found[0]["test/acc"]
    assert {"test/unused/msp/auroc", "test/unused/energy/aupr"} <= found[0].keys()


def test_a_test_that_was_cut_short_reads_fewer_categories(trained, tmp_path):
    module = module_of()
    lightning = trainer(tmp_path, limit_train_batches=1, limit_test_batches=2)
    lightning.fit(module, world())
    assert lightning.test(module, world(), verbose=False)[0]["test/categories"] == 6


def test_an_unknown_solver_is_one_line():
    with pytest.raises(ValueError, match=r"model\.solver is 'lars', should be gram or head"):
        module_of(solver="lars")
