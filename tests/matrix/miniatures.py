"""Small forms of all data and models of the matrix: data as distributed, few and small images."""

import numpy as np
import pytest

from tests.datamodules import miniature, miniature_eg3d, miniature_fgvc, miniature_generative, miniature_imagenet
from tests.datamodules.miniature_video import miniature as video
from tests.neural_dependency.synthetic import logits

PICTURES = ("data.image_size=32", "data.batch_size=8", "data.val_size=4")
VIDEO = ("data.eval_batch_size=8", "data.queries=1", "data.image_size=32", "data.resize=36", "data.batch_size=1")
VIDEO += ("trainer.limit_val_batches=5", "trainer.limit_test_batches=5", "model.towers.name=ViT-S-32-alt")
SMALL_GAN = ("model.discriminator.channel_base=512", "model.discriminator.channel_max=8", "data.batch_size=2")
SMALL_GAN += (
    "model.evaluation.samples=4",
    "model.evaluation.validation_samples=2",
    "model.evaluation.images_per_pose=2",
)
PLAIN = ("model.evaluation.inception=null", "model.inverse_loss.perceptual=none")
EG3D = ("data.image_size=128", "model.triplane.neural_resolution=16", "model.triplane.plane_size=32")
EG3D += tuple(f"model.triplane.{key}" for key in ("channel_base=512", "channel_max=8", "z_dim=16", "w_dim=16"))
EG3D += ("model.triplane.rays.depth_samples=6", "model.triplane.rays.importance_samples=6")
CLIP = ("model.evaluation.episodes=20", "model.evaluation.validation_episodes=10")
# Last, as it also changes what a small form of the data says.
MODELS = {
    "dvdp": (
        "model.evaluation.curve_steps=[]",
        "model.evaluation.steps=6",
        "model.sampler.steps=6",
        "model.sampler.preview_images=2",
    ),
    "geod": SMALL_GAN,
    "geod_eg3d": (*PLAIN, *SMALL_GAN, *EG3D),
    "geod_pigan": (*PLAIN, *SMALL_GAN, *(f"model.pigan.{key}" for key in ("width=16", "layers=2", "z_dim=8"))),
    "clip_fsar": CLIP,
}


def _pictures(root, name):
    if name in {"picture_folder", "ffhq", "celeba"}:
        return miniature_generative.ffhq(root)
    if name == "eg3d_zip":
        return miniature_eg3d.write(root / "small.zip", miniature_eg3d.files())
    return miniature_generative.WRITERS[name](root)


def _video(root, name):
    given = video(root, name.split("_")[0])
    lists = [f"data.{key}.{split}={path}" for key in ("lists", "names") for split, path in given[key].items()]
    return [f"data.root={root}", *VIDEO, *lists, f"model.towers.weights={_towers(root)}"]


def _towers(root):
    import open_clip
    import torch

    clip = open_clip.create_model("ViT-S-32-alt", load_weights=False, force_image_size=32)
    torch.save(clip.half().state_dict(), root / "towers.pt")
    return root / "towers.pt"


def _logits(root):
    values, labels, _ = logits(600)
    np.savez(root / "logits.npz", logits=values.numpy(), labels=labels.numpy())
    return [f"data.path={root / 'logits.npz'}", "data.num_classes=24"]


def _written(root, name):
    """Write a data set and return the overrides that open it."""
    root.mkdir()
    if name in {"cifar100", "cifar100_closed"}:
        miniature.everything(root)
        return [f"data.root={root}", *PICTURES[:2], "data.val_size=100"]
    if name == "fgvc":
        miniature_fgvc.flowers(root)
        return [f"data.root={root}", *PICTURES[:2], "data.dataset=flowers", "data.num_classes=102"]
    if name == "vtab":
        miniature_fgvc.vtab(root)
        return [f"data.root={root}", *PICTURES[:2], "data.task=svhn", "data.num_classes=10"]
    if name == "imagenet":
        miniature_imagenet.imagenet(root, val=24)
        return [f"data.root={root}", *PICTURES[:2], f"data.num_classes={len(miniature_imagenet.WNIDS)}"]
    if name == "cached_logits":
        return _logits(root)
    if name in {"hmdb51", "k100", "ssv2_full", "ssv2_small", "ucf101"}:
        return _video(root, name)
    return [f"data.root={_pictures(root / 'data', name)}", *PICTURES]


# Data that are rendered, or come with a library.
HEADS = {"heads", "heads_asymmetric", "heads_diverse", "heads_large"}
# Rendering thousands of them takes longer than the run.
FEW = ("data.train_size=64", "data.val_size=16", "data.test_size=32")
HERE = {"actors", "actor_stills", "digits", "digits_shifted", "glyphs", "glyphs_target", "scenes", "patterns"}
HERE |= {*HEADS, "shapes", "shapes_closed", "shapes_pretrain"}


@pytest.fixture(scope="session")
def small_form(tmp_path_factory):
    """Return a function from a pair to the overrides of its small form; every data set is written once."""
    root, known = tmp_path_factory.mktemp("miniatures"), {}

    def words(pair):
        if pair.data not in known:
            known[pair.data] = [] if pair.data in HERE else _written(root / pair.data, pair.data)
        few = FEW if pair.data in HEADS else ()
        return ["debug=tiny", *known[pair.data], *few, *MODELS.get(pair.model, ())]

    return words
