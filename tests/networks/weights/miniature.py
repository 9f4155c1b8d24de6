"""Miniature files of weights as timm, DeiT, MAE, DINO, Lightning, open_clip, OpenAI and Hugging Face leave them."""

import argparse

import numpy as np
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

CLASSES = 5


def vit(seed, image_size=32, **changes):
    """Return a small Vision Transformer whose every weight is drawn at random."""
    torch.manual_seed(seed)
    sizes = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 0}
    network = VisionTransformer(img_size=image_size, **(sizes | changes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network


def clip(seed, image_size=32, *, resnet=False, quick_gelu=False):
    """Return a small CLIP of open_clip."""
    torch.manual_seed(seed)
    vision = CLIPVisionCfg(layers=2, width=32, head_width=16, patch_size=8, image_size=image_size)
    if resnet:
        vision = CLIPVisionCfg(layers=(1, 1, 1, 1), width=8, image_size=image_size)
    return CLIP(16, vision, CLIPTextCfg(8, 40, width=32, heads=2, layers=2), quick_gelu=quick_gelu)


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def averaged(state):
    return {name: value + 1 for name, value in state.items()}


# How a file is made of a state dict, and the form that is to be recognized.
FORMS = {
    "plain": (lambda s: s, "timm's state dict"),
    "dict": (lambda s: {"state_dict": s, "epoch": 3, "arch": "vit"}, "timm's training checkpoint"),
    "ddp": (lambda s: {"state_dict": prefixed("module.", s)}, "timm's training checkpoint, prefix 'module.'"),
    "compiled": (lambda s: prefixed("_orig_mod.", s), "timm's state dict, prefix '_orig_mod.'"),
    "deit": (lambda s: {"model": s, "args": argparse.Namespace(lr=0.1)}, "the wrapper of DeiT and MAE"),
    "mae": (
        lambda s: {"model": s | {"mask_token": torch.ones(1), "decoder_embed.weight": torch.ones(2)}},
        "the wrapper of DeiT and MAE",
    ),
    "numpy scalar": (lambda s: {"state_dict": s, "best": np.float64(81.2)}, "timm's training checkpoint"),
    "numpy array": (lambda s: {"state_dict": s, "curve": np.arange(3)}, "timm's training checkpoint"),
    "model_state_dict": (lambda s: {"model_state_dict": s}, "timm's training checkpoint"),
    "lightning": (
        lambda s: {
            "state_dict": prefixed("model.", s) | {"loss.scale": torch.ones(1)},
            "pytorch-lightning_version": "2.1.0",
        },
        "a checkpoint of Lightning",
    ),
    "ours": (
        lambda s: {"state_dict": prefixed("network.backbone.", s), "quire": {}, "pytorch-lightning_version": "2.6.4"},
        "a checkpoint of this project, prefix 'network.backbone.'",
    ),
    "half": (lambda s: {name: value.half() for name, value in s.items()}, "timm's state dict"),
    "classifier": (lambda s: s | {"classifier.weight": torch.ones(CLASSES, 16)}, "timm's state dict"),
}


def write_torchscript(path, network, extra=()):
    """Write a network as OpenAI does: a TorchScript archive in half precision, with numbers next to the weights."""
    holder = torch.nn.Module()
    for name, value in network.state_dict().items():
        *parts, last = name.split(".")
        place = holder
        for part in parts:
            if not hasattr(place, part):
                place.add_module(part, torch.nn.Module())
            place = getattr(place, part)
        place.register_buffer(last, value.half())
    for name in extra:
        holder.register_buffer(name, torch.tensor(1))
    torch.jit.script(holder).save(str(path))


def write_shards(folder, state):
    """Write weights over two files with an index, as Hugging Face does."""
    names, index = sorted(state), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: state[name].contiguous() for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    return {"metadata": {}, "weight_map": index}
