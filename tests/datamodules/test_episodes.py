"""Episodes: what they hold, and that they depend on a seed and their place alone."""

from itertools import combinations

import numpy as np
import pytest
import torch

from common.errors import UserError
from datamodules.actors import Actors, ActorStills
from datamodules.episodes import EpisodeSampler, EpisodeSource, enough_first
from datamodules.worlds import actors


def few(**changes):
    return Actors(**({"image_size": 16, "train_clips": 7, "eval_clips": 6, "train_episodes": 12} | changes))


def test_an_episode_has_other_clips_for_queries():
    labels = np.arange(60) % 10
    drawn = EpisodeSampler(labels, 5, 2, 3).first(200, 0)
    assert drawn.support.shape == (200, 5, 2)
    assert drawn.query.shape == (200, 5, 3)
    for classes, support, query in zip(*drawn, strict=True):
        assert len(set(classes)) == 5
        assert (labels[support] == classes[:, None]).all()
        assert (labels[query] == classes[:, None]).all()
        assert len({*support.flat, *query.flat}) == 25
    assert len(np.unique(drawn.classes)) == 10


def test_test_episodes_depend_on_seed_and_place_alone():
    # Not on a global random state (clip_fsar §2.1).
    labels = np.arange(60) % 10
    sampler = EpisodeSampler(labels, 5, 1, 1)
    few_, many = sampler.first(5, 3), sampler.first(20, 3)
    assert all(np.array_equal(one, other[:5]) for one, other in zip(few_, many, strict=True))
    np.random.seed(1)  # noqa: NPY002 - nothing global may matter
    torch.manual_seed(1)
    assert all(np.array_equal(one, other) for one, other in zip(many, sampler.first(20, 3), strict=True))
    assert not np.array_equal(many.support, sampler.first(20, 4).support)


def batches(data):
    return list(data.train_dataloader())


@pytest.mark.parametrize("workers", [0, 2])
def test_training_episodes_are_the_same_in_any_worker(workers):
    # Not on a global random state (clip_fsar §2.1).
    one, other = batches(few(batch_size=2)), batches(few(batch_size=2, num_workers=workers))
    assert len(one) == 6
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["class"], b["class"])
    assert not torch.equal(one[0]["image"], batches(few(batch_size=2, seed=1))[0]["image"])


def test_support_and_queries_are_of_their_own_sources():
    class Marked(torch.utils.data.Dataset):
        def __init__(self, mark):
            self.mark = mark

        def __getitem__(self, place):
            return {"image": torch.tensor([self.mark, place])}

    labels = np.arange(40) % 8
    source = EpisodeSource(Marked(0), Marked(1), EpisodeSampler(labels, 5, 1, 2), 4)
    drawn = source[0]
    assert drawn["image"][:, 0].tolist() == [0] * 5 + [1] * 10
    assert labels[drawn["image"][:5, 1]].tolist() == drawn["class"].tolist()
    assert labels[drawn["image"][5:, 1]].tolist() == drawn["class"].repeat_interleave(2).tolist()


def test_epochs_have_episodes_of_their_own():
    data = few()
    first = batches(data)
    loader = data.train_dataloader()
    loader.batch_sampler.set_epoch(1)
    second = list(loader)
    seen = {tuple(batch["image"][0, 0].flatten()[:50].tolist()) for batch in first + second}
    assert len(seen) > 15


def test_two_ranks_have_the_halves_of_one():
    # No two ranks train on the same episodes (clip_fsar §2.1).
    from datamodules.loading import BatchPlan, Mixture

    data = few(batch_size=2)
    source, whole = data.source("fit"), batches(data)
    parts = []
    for rank in range(2):
        plan = BatchPlan({"": len(source)}, {"": 2}, seed=0, shuffle=True, drop_last=True, rank=rank, world=2)
        parts.append([Mixture({"": source}, 0).__getitems__(draws) for draws in plan])
    for both, one, other in zip(whole, *parts, strict=True):
        assert torch.equal(both["image"], torch.cat([one["image"], other["image"]]))
        assert not torch.equal(one["image"], other["image"])


def test_a_batch_is_as_a_fake_one():
    batch, fake = batches(few(batch_size=2))[0], few().fake_batch(2)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {k: (v.shape, v.dtype) for k, v in fake.items()}


def test_no_class_is_in_two_splits_and_every_word_is_known():
    # clip_fsar §2.1 and §3.1.
    classes = {split: set(actors.classes_of(split)) for split in ("fit", "val", "test")}
    assert [len(of) for of in classes.values()] == [24, 8, 16]
    assert not any(one & other for one, other in combinations(classes.values(), 2))
    words = [{word for name in few().class_names(split) for word in name.split()} for split in classes]
    assert words[1] | words[2] <= words[0]
    assert set(ActorStills().class_names("test")) == set(few().class_names("fit"))


def test_labels_are_of_what_is_drawn():
    clips = few().source("test")
    labels = {int(clips[k]["label"]) for k in range(len(clips))}
    assert labels == set(range(16))
    # The mean colour change over clips of a class goes the way of its motion: the disc of "moving right" does.
    number = next(k for k, name in enumerate(actors.NAMES) if name == "red disc moving right")
    drawn = actors.render(np.full(64, number), 0, 32, alone_share=1.0).astype(float) / 255
    redness = drawn[:, :, 0] - drawn[:, :, 1]
    across = (redness.clip(0.3) - 0.3).sum(axis=2) @ np.arange(32) / (redness.clip(0.3) - 0.3).sum(axis=(2, 3))
    assert (np.diff(across, axis=1) > 0.5).mean() > 0.95


def test_clips_depend_on_their_place_alone():
    classes = np.arange(70) % 48
    assert np.array_equal(actors.render(classes, 5, 16)[:3], actors.render(classes[:3], 5, 16))
    assert not np.array_equal(actors.render(classes[:3], 5, 16), actors.render(classes[:3], 6, 16))


def test_what_cannot_be_drawn_is_told():
    with pytest.raises(UserError, match="5-way episodes need 5 classes of at least 1 \\+ 5 clips; 3 of 4 classes"):
        EpisodeSampler(np.repeat([0, 1, 2, 3], [6, 6, 6, 5]), 5, 1, 5)
    with pytest.raises(UserError, match=r"data\.ways is 1, should be a number, at least 2"):
        few(ways=1)
    with pytest.raises(ValueError, match=r"data\.image_size is 8, should be a number, at least 16"):
        few(image_size=8)


def test_few_clips_are_enough_for_episodes_and_then_all_classes_come_in_turn():
    labels = np.array([2, 0, 0, 0, 1, 1, 2, 1])
    assert labels[enough_first(labels, 2, clips=2)].tolist() == [0, 1, 0, 1, 2, 2, 0, 1]
    many = np.repeat(np.arange(24), 20)
    order = enough_first(many, 5)
    assert sorted(order) == list(range(480))
    EpisodeSampler(many[order][:30], 5, 5, 1)
    assert many[order][30:54].tolist() == list(range(5, 24)) + list(range(5, 10))
