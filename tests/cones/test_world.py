"""The world of subjects: what captions never say, subjects that differ, pictures that depend on their place alone."""

import numpy as np
import pytest

from common.errors import UserError
from datamodules.subject_scenes import SeveralSubjects, SubjectPictures, SubjectScenes
from datamodules.worlds import subjects


def test_no_caption_names_the_inner_color():
    rng = np.random.default_rng(0)
    scenes = subjects.draw_scenes(400, rng)
    for objects, ground in zip(scenes.objects, scenes.backgrounds, strict=True):
        said = subjects.caption(objects, ground, rng)
        for (kind, outer, _), phrase in zip(objects, said.phrases, strict=True):
            allowed = {subjects.COLORS[outer], subjects.CLASSES[kind], "thing", *subjects.IDENTIFIERS}
            assert set(phrase.split()) <= allowed
        assert said.ending in ("", f"on {subjects.BACKGROUNDS[ground]}")
        assert set(said.of(4).split()) <= set(subjects.VOCABULARY)


def test_captions_are_drawn_at_the_stated_rates():
    rng = np.random.default_rng(1)
    scenes = subjects.draw_scenes(3000, rng)
    said = [subjects.caption(o, g, rng) for o, g in zip(scenes.objects, scenes.backgrounds, strict=True)]
    empty = np.mean([not each.of(4) for each in said])
    full = [each for each in said if each.phrases[0]]
    named = np.mean([each.phrases[0].split()[0] in subjects.IDENTIFIERS for each in full])
    grounds = np.mean([bool(each.ending) for each in full])
    assert (abs(empty - 0.1), abs(named - 0.15), abs(grounds - 0.6)) < (0.03, 0.03, 0.04)
    assert subjects.Caption(["", ""], "").of(2) == ""
    assert subjects.Caption(["circle", "red cross"], "on grey").of(2) == "circle and red cross on grey"
    assert subjects.Caption(["circle", "red cross"], "on grey").of(1) == "circle on grey"


@pytest.mark.parametrize("seed", range(5))
def test_subjects_of_a_seed_share_no_color_and_have_two(seed):
    drawn = [subjects.subject(letter, seed) for letter in subjects.LETTERS]
    assert sorted(outer for _, outer, _ in drawn) == list(range(6))
    assert sorted(inner for _, _, inner in drawn) == list(range(6))
    assert all(outer != inner for _, outer, inner in drawn)
    assert len({kind for kind, _, _ in drawn[:4]}) == 4


def test_a_picture_depends_on_its_place_alone():
    scenes = subjects.draw_scenes(70, np.random.default_rng(0))
    few = subjects.Scenes(scenes.objects[:3], scenes.backgrounds[:3])
    np.testing.assert_array_equal(subjects.render(scenes, 1)[:3], subjects.render(few, 1))
    single = subjects.Scenes(scenes.objects[:3, :1], scenes.backgrounds[:3])
    np.testing.assert_array_equal(subjects.render(scenes, 1)[:3, :1], subjects.render(single, 1))


def test_pictures_of_a_subject_show_it_on_every_background():
    data = SubjectPictures(subject="C", pictures=8, held_out=4)
    fit, held = data.source("fit"), data.source("val")
    assert len(fit) == data.batch_size * data.iterations
    assert len(np.unique(fit.pixels, axis=0)) == 8
    corners = {tuple(pixels[:, 0, 0]) for pixels in fit.pixels[:8]}
    assert len(corners) == 4
    assert not any((held.pixels[0] == each).all() for each in fit.pixels[:8])
    assert data.instance_prompt.startswith("V3 ")
    color = subjects.COLORS[data.attributes[1]]
    assert color not in data.instance_prompt


def test_several_subjects_are_labeled_in_their_order():
    data = SeveralSubjects(subject_names=["B", "A"], batch_size=4, iterations=5)
    source = data.source("fit")
    assert len(source) >= 20
    np.testing.assert_array_equal(
        source.pixels[source.labels == 1][0], SubjectPictures(subject="A").source("fit").pixels[0]
    )
    assert [each.prompt.split()[0] for each in data.subjects] == ["V2", "V1"]
    with pytest.raises(UserError, match="two to four different"):
        SeveralSubjects(subject_names=["A", "A"])


def test_scenes_have_labels_of_their_first_object():
    data = SubjectScenes(slots=2, train_size=8, val_size=2, test_size=2)
    batch = data.source("fit").fetch([0, 1])
    assert batch["image"].shape == (2, 3, 16, 32)
    assert batch["labels"].shape == (2, 4)
    assert len(batch["phrases"][0]) == 2
    assert data.fake_batch(3)["image"].shape == (3, 3, 16, 32)
    assert (
        data.fingerprint() != SubjectScenes(slots=2, train_size=8, val_size=2, test_size=2, world_seed=1).fingerprint()
    )
    with pytest.raises(ValueError, match="at least 16"):
        SubjectScenes(image_size=8)
