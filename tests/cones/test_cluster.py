"""Clusters: sets of indices, files, and weights that are shut and restored bit for bit."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from common.errors import UserError
from lightning_modules.cones.cluster import ConceptCluster, base_hash, clusters_of

SHAPES = {"a.to_k.weight": (6, 5), "b.to_v.weight": (4, 3)}


def layers(seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = {name: nn.Linear(shape[1], shape[0], bias=False) for name, shape in SHAPES.items()}
    for layer in made.values():
        layer.weight.data.normal_(generator=generator)
    return made


def weights(made):
    return {name: layer.weight for name, layer in made.items()}


def cluster(seed, made, share=0.3):
    generator = torch.Generator().manual_seed(seed)
    shut = {name: torch.rand(shape, generator=generator) < share for name, shape in SHAPES.items()}
    return ConceptCluster.of(shut, base_hash(weights(made)), {"prompt": "V1 circle"}), shut


def test_a_union_shuts_what_either_shuts_in_any_order_and_once():
    made = layers()
    (one, shut_one), (two, shut_two) = cluster(1, made), cluster(2, made)
    union = one | two
    expected = {name: shut_one[name] | shut_two[name] for name in SHAPES}
    assert union.hash() == ConceptCluster.of(expected, one.base, {}).hash()
    assert (two | one).hash() == union.hash() == (union | one).hash() == (union | union).hash()
    assert len(union - two) == sum(int((shut_one[n] & ~shut_two[n]).sum()) for n in SHAPES)
    assert ((union - two) | (one - (one - two))).hash() == one.hash()
    assert one.jaccard(one) == 1
    both = sum(int((shut_one[n] & shut_two[n]).sum()) for n in SHAPES)
    assert one.jaccard(two) == pytest.approx(both / len(union))


def test_weights_are_zero_within_the_block_and_restored_to_the_bit_after_it():
    made = layers()
    (one, shut), (two, _) = cluster(1, made), cluster(2, made)
    before = {name: weight.detach().clone() for name, weight in weights(made).items()}
    with one.applied(made):
        for name, weight in weights(made).items():
            assert torch.equal(weight, before[name] * ~shut[name])
        with two.applied(made):
            assert all(int((weight == 0).sum()) > 0 for weight in weights(made).values())
        for name, weight in weights(made).items():
            assert torch.equal(weight, before[name] * ~shut[name])
    assert all(torch.equal(weight, before[name]) for name, weight in weights(made).items())


def test_weights_are_restored_after_an_error():
    made = layers()
    one, _ = cluster(1, made)
    before = {name: weight.detach().clone() for name, weight in weights(made).items()}
    with pytest.raises(KeyError), one.applied(made):
        raise KeyError("in between")
    assert all(torch.equal(weight, before[name]) for name, weight in weights(made).items())


def test_a_file_holds_integer_indices_and_comes_back_the_same(tmp_path):
    made = layers()
    one, _ = cluster(1, made)
    one.save(tmp_path / "cluster.safetensors")
    back = ConceptCluster.load(tmp_path / "cluster.safetensors")
    assert back.hash() == one.hash()
    assert back.about == {"prompt": "V1 circle"}
    assert all(each.dtype == torch.int32 for each in back.indices.values())
    size = (tmp_path / "cluster.safetensors").stat().st_size
    assert size <= 4 * len(one) + 4096 * len(SHAPES)
    assert one.stored_bytes() == 4 * len(one)


def test_tuned_values_are_stored_and_written_into_the_weights(tmp_path):
    made = layers()
    one, shut = cluster(1, made)
    values = {name: torch.arange(len(each), dtype=torch.float32) for name, each in one.indices.items()}
    tuned = ConceptCluster(one.indices, one.base, values)
    assert tuned.stored_bytes() == 8 * len(one)
    tuned.save(tmp_path / "tuned.safetensors")
    back = ConceptCluster.load(tmp_path / "tuned.safetensors")
    before = {name: weight.detach().clone() for name, weight in weights(made).items()}
    back.write_into(made)
    for name, weight in weights(made).items():
        assert torch.equal(weight[shut[name]], values[name])
        assert torch.equal(weight[~shut[name]], before[name][~shut[name]])


def test_a_foreign_base_or_file_is_refused_in_one_line(tmp_path):
    made, others = layers(), layers(seed=5)
    one, _ = cluster(1, made)
    one.save(tmp_path / "cluster.safetensors")
    with pytest.raises(UserError, match="clusters fit one base only"):
        clusters_of([tmp_path], others)
    with pytest.raises(UserError, match="of two bases"):
        one | cluster(1, others)[0]
    with pytest.raises(UserError, match="no cluster of concept neurons can be read"):
        ConceptCluster.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(UserError, match="no cluster of concept neurons can be read"):
        ConceptCluster.load(tmp_path / "text.safetensors")
    save_file({"weight": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="holds no cluster"):
        ConceptCluster.load(tmp_path / "weights.safetensors")


def test_a_run_folder_a_file_and_a_checkpoint_name_the_same_cluster(tmp_path):
    made = layers()
    one, _ = cluster(1, made)
    one.save(tmp_path / "cluster.safetensors")
    (tmp_path / "checkpoints").mkdir()
    places = [tmp_path, tmp_path / "cluster.safetensors", tmp_path / "checkpoints" / "best.ckpt"]
    assert {clusters_of([place], made).hash() for place in places} == {one.hash()}
