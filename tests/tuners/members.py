"""The embedded baselines at tiny size, and a model around them as a paper has it: backbone, tuner, head."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.tuners.u_backbones import output_of
from tuners.adaptformer import AdaptFormer
from tuners.bitfit import BitFit
from tuners.full import Full, Linear
from tuners.peft_tuner import PeftTuner
from tuners.prefix import Prefix
from tuners.sidetune import SideTune
from tuners.ssf import SSF
from tuners.tuner import Tuner
from tuners.vpt import VPT


def peft_tuner(name: str, target: list[str] | str | None = None, **kwargs: Any) -> PeftTuner:
    return PeftTuner(config_class=name, kwargs=kwargs, target_modules=target, lr=1e-2)  # type: ignore[arg-type]


def lora(target_modules: list[str] | str | None = None, **kwargs: Any) -> PeftTuner:
    return peft_tuner("LoraConfig", target_modules, **({"r": 2, "lora_alpha": 2} | kwargs))


MEMBERS: dict[str, Callable[[], Tuner]] = {
    "full": lambda: Full(lr=1e-3),
    "linear": lambda: Linear(lr=1e-2),
    "bitfit": lambda: BitFit(lr=1e-2),
    "vpt_shallow": lambda: VPT(length=3, deep=False, dropout=0.0, lr=1e-2),
    "vpt_deep": lambda: VPT(length=3, deep=True, dropout=0.0, lr=1e-2),
    "prefix": lambda: Prefix(length=3, lr=1e-2),
    "lora": lora,
    "ssf": lambda: SSF(std=0.02, lr=1e-2),
    "adaptformer": lambda: AdaptFormer(rank=16, scale=0.1, dropout=0.1, lr=1e-2),
    "sidetune": lambda: SideTune(lr=1e-2),
}
# Those that leave the backbone's own weights alone.
SEPARATE = [name for name in MEMBERS if name not in ("full", "bitfit")]
# Those that start without a change.
IDENTITY = ["full", "linear", "bitfit", "lora", "adaptformer"]


class Model(nn.Module):
    def __init__(self, backbone: nn.Module, tuner: Tuner, width: int) -> None:
        super().__init__()
        self.backbone, self.tuner, self.head = backbone, tuner, nn.Linear(width, 3)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.head(output_of(self.backbone, *args, **kwargs).flatten(1))

    def fit(self, steps: int, *args: Any, **kwargs: Any) -> None:
        self.train()
        weights = [*self.tuner.trainable_parameters(), *self.head.parameters()]
        optimizer = torch.optim.SGD(weights, lr=0.1)
        for step in range(steps):
            optimizer.zero_grad()
            goal = torch.linspace(-2, 2 + step, 3, dtype=self.head.weight.dtype).expand(len(args[0]), -1)
            nn.functional.mse_loss(self(*args, **kwargs), goal).backward()
            optimizer.step()
        self.eval()


def move(tuner: Tuner) -> None:
    """Give every trained tensor random values off its start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in tuner.trainable_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def hooks_on(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())
