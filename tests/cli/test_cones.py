"""The experiments of Cones from the command line: tiny twins of the search, its baselines, and unions."""

import pytest

from lightning_modules.cones.cluster import ConceptCluster
from tests.cli.quire import only_folder, quire, read
from tests.tiers import full

SAMPLER = "model.sampler.steps=2"
ORACLE = "run:experiment=cones_oracle data.train_size=96 data.val_size=32 data.test_size=32"
WORLD = "data.train_size=96 data.val_size=32 data.test_size=32"
BASE = f"run:experiment=cones_pretrain {WORLD} {SAMPLER} model.evaluation.samples=4"
SMALL = ("debug=tiny", SAMPLER, f"model.evaluation.oracle='{ORACLE}'", "model.prior.images=4")
FEW = ("model.evaluation.samples=8", "model.evaluation.loss_repeats=1")
SUBJECT = (*SMALL, *FEW, f"model.base.weights='{BASE}'", "data.held_out=4")


@pytest.fixture(scope="module")
def finished(shared_run):
    """A finished `cones`, and the runs that it needs."""
    return shared_run("experiment=cones", *SUBJECT)


def test_the_tiny_twin_leaves_a_cluster_of_integer_indices(finished):
    folder = finished.folder("cones")
    metrics = read(folder / "result.json")["metrics"]
    cluster = ConceptCluster.load(folder / "cluster.safetensors")
    assert metrics["test/shut"] == len(cluster)
    assert metrics["test/bytes"] == cluster.stored_bytes()
    assert cluster.about["prompt"].startswith("V1 ")
    assert {path.name for path in (folder / "pictures").iterdir()} >= {"samples.png", "neurons.png"}
    base = read(finished.folder("cones_pretrain") / "result.json")["metrics"]
    assert {f"test/class_{slots}" for slots in range(1, 5)} <= base.keys()


@pytest.mark.parametrize("experiment", full("cones_finetune", "cones_dreambooth", "cones_textual_inversion"))
def test_the_tiny_twin_of_a_baseline(experiment, tmp_path):
    done = quire(f"experiment={experiment}", *SUBJECT, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = read(only_folder(tmp_path, experiment) / "result.json")["metrics"]
    assert metrics["test/bytes"] > 0
    assert "test/shut" not in metrics


@pytest.mark.parametrize(("experiment", "count"), [*full(("cones_pair", 2), ("cones_many", 4))])
def test_the_tiny_twin_of_a_union(experiment, count, tmp_path):
    small = " ".join([*FEW, SAMPLER, "model.prior.images=4 data.held_out=4 model.selection.fraction=0.01"])
    names = [f"run:experiment=cones data.subject={letter} {small}" for letter in "ABCD"[:count]]
    clusters = ",".join(f"'{name}'" for name in names)
    words = (*SMALL, "model.evaluation.samples=8", f"model.clusters=[{clusters}]")
    done = quire(f"experiment={experiment}", *words, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path, experiment)
    union = ConceptCluster.load(folder / "cluster.safetensors")
    single = round(0.01 * 36_864)
    assert single < len(union) <= count * single
    assert union.stored_bytes() == 8 * len(union)
    assert read(folder / "result.json")["metrics"]["test/joint"] >= 0
