"""Tuners against full fine-tuning, LoRA against peft's own, hooks against hand-embedded code, merged against plain.

`python benchmarks/tuners.py [ROUNDS]` takes three minutes on one thread: ViT-S/16 on 112 x 112 images, batch 8, weights
untrained. The contestants step in turn; times are processor time, ratios are medians of those round by round, with
their middle half.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import peft  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from timm.layers import Mlp  # noqa: E402
from timm.models.vision_transformer import Block, VisionTransformer  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from common.targets import build_target  # noqa: E402
from tuners.tuner import Tuner  # noqa: E402

CLASSES = 100
RANK = 10  # of conf/tuner/adapter.yaml and u_block.yaml
MERGING = ("lora", "ssf", "bitfit")
MIB = 2**20


class Setting(NamedTuple):
    """A network and its batch."""

    network: Callable[..., nn.Module]
    size: int
    batch: int

    def images(self) -> Tensor:
        """Return a batch."""
        return torch.randn(self.batch, 3, self.size, self.size)


SMALL = Setting(partial(timm.create_model, "vit_small_patch16_224", img_size=112, num_classes=0), 112, 8)
# The ViT of experiment=u_tuning: what a call costs beside the arithmetic shows most on a tiny network.
GLYPH = Setting(
    partial(VisionTransformer, img_size=16, patch_size=4, embed_dim=96, depth=6, num_heads=4, num_classes=0), 16, 50
)


# What a user would write by hand.


class Embedded(nn.Module):
    """An adapter's two layers, as hand-written code has them in a block."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, RANK)
        self.up = nn.Linear(RANK, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return up(GELU(down x))."""
        return self.up(functional.gelu(self.down(x)))


class AdaptedMlp(Mlp):
    """timm's feed-forward part with an adapter on its output: conf/tuner/adapter.yaml by hand."""

    def __init__(self, in_features: int, **options: Any) -> None:
        super().__init__(in_features, **options)
        self.adapter = Embedded(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Return FFN(x) + adapter(FFN(x))."""
        x = super().forward(x)
        return x + self.adapter(x)


class AdaptedBlock(Block):
    """timm's block with an adapter beside it: conf/tuner/u_block.yaml by hand."""

    def __init__(self, dim: int, **options: Any) -> None:
        super().__init__(dim, **options)
        self.adapter = Embedded(dim)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return Block(x) + adapter(x)."""
        return super().forward(x, *args, **kwargs) + self.adapter(x)


HANDS = {"adapter": {"mlp_layer": AdaptedMlp}, "u_block": {"block_fn": AdaptedBlock}}


# Contestants.


class Training:
    """A classifier on a network, trained as it is: what requires a gradient, and the head."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self.network, self.images = network, images
        self.head = nn.Linear(network(images).shape[1], CLASSES)
        self.labels = torch.arange(len(images)) % CLASSES
        trained = [p for p in network.parameters() if p.requires_grad]
        self.trained = [*trained, *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5)

    def step(self) -> None:
        """Do a forward pass, a backward pass and an optimizer step."""
        functional.cross_entropy(self.head(self.network(self.images)), self.labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def activations(self) -> int:
        """Return the bytes that a forward pass keeps for the backward pass, each storage once, weights not counted."""
        held = {p.untyped_storage().data_ptr() for p in (*self.network.parameters(), *self.trained, self.images)}
        kept: dict[int, Tensor] = {}

        def pack(tensor: Tensor) -> Tensor:
            place = tensor.untyped_storage().data_ptr()
            if place not in held:
                kept[place] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = functional.cross_entropy(self.head(self.network(self.images)), self.labels)
        found = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        loss.backward()
        self.optimizer.zero_grad()
        return found

    def weights(self) -> int:
        """Return the bytes of what is trained."""
        return sum(parameter.nbytes for parameter in self.trained)


class Tuned(Training):
    """The same, with a tuner attached that is trained."""

    def __init__(self, name: str, network: nn.Module, images: Tensor) -> None:
        self.tuner = tuner(name).attach(network, images).train()
        super().__init__(network, images)
        own = [p for p in self.tuner.parameters() if p.requires_grad]
        self.trained += own
        if own:
            self.optimizer.add_param_group({"params": own})


def tuner(name: str) -> Tuner:
    """Return the tuner of conf/tuner/NAME.yaml."""
    node = OmegaConf.to_container(OmegaConf.load(ROOT / f"conf/tuner/{name}.yaml"))
    return build_target(node, "tuner")


def by_peft(network: nn.Module, images: Tensor) -> Training:
    """Return LoRA as peft's users have it: the same modules and rank as conf/tuner/lora.yaml."""
    options = tuner("lora").kwargs
    return Training(peft.get_peft_model(network, peft.LoraConfig(**options, target_modules=["qkv"])), images)


def by_hand(name: str, setting: Setting, network: nn.Module, hooked: Tuned) -> Training:
    """Return a network with the adapter in its code, with the weights of the one that has it in hooks."""
    hand = setting.network(**HANDS[name]).eval()
    hand.load_state_dict(network.state_dict(), strict=False)
    for key, parameter in hand.named_parameters():
        parameter.requires_grad_("adapter" in key)
    cores = [branch.core for site in hooked.tuner.sites.values() for branch in site.branches]
    for own, core in zip((m for m in hand.modules() if isinstance(m, Embedded)), cores, strict=True):
        own.load_state_dict(core.state_dict())
    with torch.no_grad():
        difference = (hand(hooked.images) - hooked.network(hooked.images)).abs().max()
    assert difference < 1e-4, f"{name} by hand is another network: {difference}"
    return Training(hand, hooked.images)


# Measuring.


def in_turn(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return milliseconds of processor time of each call in each round; every other round goes backwards."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-1, rounds):
        for name in list(calls)[:: 1 if number % 2 else -1]:
            began = time.process_time()
            calls[name]()
            # The first round warms up.
            if number >= 0:
                taken[name].append((time.process_time() - began) * 1e3)
    return taken


def ratios(taken: Mapping[str, list[float]], name: str, other: str) -> list[float]:
    """Return how many times longer one takes than another, round by round."""
    return [a / b for a, b in zip(taken[name], taken[other], strict=True)]


def spread(found: list[float]) -> str:
    """Return the median and the middle half."""
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def met(is_met: bool) -> str:
    """Return whether an aim is met, as a cell."""
    return "[green]met[/]" if is_met else "[red]not met[/]"


def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table, its first column on the left."""
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


def members(rounds: int) -> None:
    """Compare every tuner with full fine-tuning, and LoRA with peft's."""
    network, images = SMALL.network().eval(), SMALL.images()
    names = sorted(path.stem for path in (ROOT / "conf/tuner").glob("*.yaml") if path.stem != "none")
    names.sort(key=lambda name: name != "full")
    training: dict[str, Training] = {name: Tuned(name, copy.deepcopy(network), images) for name in names}
    training["peft"] = by_peft(copy.deepcopy(network), images)
    activations = {name: one.activations() for name, one in training.items()}
    taken = in_turn({name: one.step for name, one in training.items()}, rounds)
    # AdamW keeps two numbers for each that is trained.
    total = {name: activations[name] + 3 * one.weights() for name, one in training.items()}
    rows = []
    for name, one in training.items():
        time_ratio, memory_ratio = statistics.median(ratios(taken, name, "full")), total[name] / total["full"]
        count = f"{sum(p.numel() for p in one.trained) - CLASSES * (one.head.in_features + 1):,}"
        parts = [activations[name], one.weights(), 2 * one.weights(), total[name]]
        aim = "" if name == "full" else met(time_ratio < 1 and memory_ratio < 1)
        cells = [f"{statistics.median(taken[name]):.0f}", f"{time_ratio:.2f}", *(f"{part / MIB:.1f}" for part in parts)]
        rows.append([name, count, *cells, f"{memory_ratio:.2f}", aim])
    columns = ["tuner", "trained", "ms", "/ full", "activations", "gradients", "AdamW", "MiB in all", "/ full", "< 1"]
    show("A training step, ViT-S/16 at 112 x 112, batch 8; what it keeps beside the weights, MiB", columns, rows)
    found = ratios(taken, "lora", "peft")
    aim = met(statistics.median(found) < 1.05)
    show("LoRA on qkv, a training step", ["", "ratio", "< 1.05"], [["tuner=lora / get_peft_model", spread(found), aim]])


def hooks(rounds: int) -> None:
    """Compare hooks with the same adapter in the network's own code."""
    rows = []
    for label, setting, count in (("ViT-S/16", SMALL, 2 * rounds), ("glyph ViT, batch 50", GLYPH, 12 * rounds)):
        for name in HANDS:
            network, images = setting.network().eval(), setting.images()
            hooked = Tuned(name, copy.deepcopy(network), images)
            hand = by_hand(name, setting, network, hooked)
            taken = in_turn({"hooks": hooked.step, "hand": hand.step}, count)
            found = ratios(taken, "hooks", "hand")
            medians = [f"{statistics.median(taken[kind]):.1f}" for kind in ("hooks", "hand")]
            rows.append([label, name, *medians, spread(found), met(statistics.median(found) < 1.05)])
    columns = ["network", "tuner", "hooks, ms", "by hand, ms", "ratio", "< 1.05"]
    show("A training step by hooks and by hand-embedded code", columns, rows)


def merged(rounds: int) -> None:
    """Compare merged networks with the plain one."""
    network, images = SMALL.network().eval().requires_grad_(False), SMALL.images()
    calls, rows = {"plain": partial(network, images)}, []
    for name in MERGING:
        tuned = Tuned(name, copy.deepcopy(network), images)
        tuned.step()
        tuned.tuner.eval()
        attached = copy.deepcopy(tuned.network)
        calls |= {f"{name}, attached": partial(attached, images), name: partial(tuned.tuner.merge_(), images)}
    with torch.no_grad():
        taken = in_turn(calls, 4 * rounds)
    for name in MERGING:
        found = ratios(taken, name, "plain")
        attached = spread(ratios(taken, f"{name}, attached", "plain"))
        rows.append([name, attached, spread(found), met(abs(statistics.median(found) - 1) < 0.02)])
    show(
        "A forward pass against the plain ViT-S/16, batch 8", ["tuner", "attached", "after merge_", "1.00 +- .02"], rows
    )


def main(rounds: int = 6) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    members(rounds)
    hooks(rounds)
    merged(rounds)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
