"""Trained weights of other projects: all networks of a StyleGAN2 from one file, by name or not at all.

Two layouts are read: state dicts under `G_ema`, `G` and `D` with the names of stylegan2-ada-pytorch, and checkpoints of
Hammer, whose `models` are `generator_smooth`, `generator` and `discriminator`.

Sources: https://github.com/NVlabs/stylegan2-ada-pytorch (training/networks.py), https://github.com/bytedance/Hammer
(models/stylegan2_generator.py, stylegan2_discriminator.py; conversion of names only).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from common.errors import UserError
from networks.weights.fitting import fit
from networks.weights.forms import Weights, read_weights

_NVIDIA = {"average": "G_ema", "generator": "G", "discriminator": "D"}
_HAMMER = {"average": "generator_smooth", "generator": "generator", "discriminator": "discriminator"}
# A constant that both projects keep next to the weights.
_FILTERS = ("resample_filter", "filter")
_EXPORT = (
    'export it once, where stylegan2-ada-pytorch is on the path: python -c "import pickle, torch; d ='
    " pickle.load(open('FILE.pkl', 'rb')); torch.save({k: d[k].state_dict() for k in ('G_ema', 'G', 'D')}, 'FILE.pt')\""
)


def read_stylegan2(path: str, key: str) -> dict[str, Weights] | None:
    """Return the weights of "average", "generator" and "discriminator" by stylegan2-ada-pytorch's names.

    Args:
        path: the file.
        key: the key of the config that names it.

    Returns:
        None if the file has neither layout.

    Raises:
        UserError: if there is no such file, it cannot be read, is NVIDIA's pickle, or lacks one of the networks.
    """
    if Path(path).suffix == ".pkl" and Path(path).is_file():
        raise UserError(f"{key}: {path} is a pickle, which would run code: {_EXPORT}")
    weights = read_weights(path, key)
    for names, prefix in ((_NVIDIA, ""), (_HAMMER, "models.")):
        parts = {part: _under(weights.tensors, f"{prefix}{name}.") for part, name in names.items()}
        if not any(parts.values()):
            continue
        for part, tensors in parts.items():
            if not tensors:
                expected = ", ".join(prefix + each for each in names.values())
                raise UserError(f"{key}: {path} has no {prefix}{names[part]}; expected {expected}")
        convert = _from_hammer if names is _HAMMER else dict
        form = "Hammer's checkpoint" if names is _HAMMER else "NVIDIA's state dicts"
        return {part: Weights(path, form, convert(tensors), {}) for part, tensors in parts.items()}
    return None


def load_stylegan2(path: str, key: str, *, generator: nn.Module, average: nn.Module, discriminator: nn.Module) -> bool:
    """Load all three networks from a file, all of their weights and buffers.

    Args:
        path: the file.
        key: the key of the config that names it.
        generator: a `StyleGAN2`.
        average: its moving average, another one.
        discriminator: a `Discriminator`.

    Returns:
        Whether the file has one of the layouts; if not, nothing is loaded.

    Raises:
        UserError: as `read_stylegan2`, and if the networks are of other sizes.
    """
    found = read_stylegan2(path, key)
    if found is None:
        return False
    networks = {"generator": generator, "average": average, "discriminator": discriminator}
    for part, network in networks.items():
        local = network.state_dict()
        own = {name: local[name] for name in local if name.split(".")[-1] in _FILTERS}
        weights = found[part]._replace(tensors=own | dict(found[part].tensors))
        refusal = f"{key}: {path}: {part} is of another network"
        fit(network, weights, refusal, is_unused=lambda name: name.split(".")[-1] in _FILTERS)
    return True


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    named = {name.replace("/", "."): value for name, value in tensors.items()}
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def _from_hammer(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of Hammer's generator or discriminator under stylegan2-ada-pytorch's names and shapes."""
    blocks = sum(re.fullmatch(r"residual\d+\.weight", name) is not None for name in tensors)
    convert = _discriminator_name if blocks else _generator_name
    named = {convert(name, blocks): value for name, value in tensors.items() if name.split(".")[-1] not in _FILTERS}
    return {
        name: value[0] if name.endswith(".const") else value[0, 0] if name.endswith(".noise_const") else value
        for name, value in named.items()
    }


def _generator_name(name: str, _: int) -> str:
    name = re.sub(r"^w_avg$", "mapping.w_avg", name)
    name = re.sub(r"^mapping\.dense(\d+)", r"mapping.fc\1", name)
    name = name.replace("synthesis.early_layer.", "synthesis.b4.").replace(".style.", ".affine.")
    name = re.sub(r"\.noise$", ".noise_const", name)
    name = re.sub(r"^synthesis\.output(\d+)", lambda found: f"synthesis.b{4 << int(found[1])}.torgb", name)
    return re.sub(r"^synthesis\.layer(\d+)", lambda found: f"synthesis.{_convolution(int(found[1]))}", name)


def _convolution(layer: int) -> str:
    """Return where a generator's layer is: one in the first block, then two in each."""
    return f"b{4 << (layer + 1) // 2}.conv{(layer + 1) % 2}"


def _discriminator_name(name: str, blocks: int) -> str:
    name = re.sub(r"^input0", f"b{4 << blocks}.fromrgb", name)
    name = re.sub(r"^residual(\d+)", lambda found: f"b{4 << blocks - int(found[1])}.skip", name)
    last = {2 * blocks: "b4.conv", 2 * blocks + 1: "b4.fc"}
    name = re.sub(r"^output\.", "b4.out.", name)

    def layer(found: re.Match[str]) -> str:
        number = int(found[1])
        return last.get(number, f"b{4 << blocks - number // 2}.conv{number % 2}")

    return re.sub(r"^layer(\d+)", layer, name)
