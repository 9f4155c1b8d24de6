"""BatchNorm over the global batch on any hardware: torch's own on GPUs, the same arithmetic over gloo on the CPU."""

from typing import Any

import torch
from pytorch_lightning.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from torch import Tensor, distributed, nn


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all ranks, whose gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ARG004
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


def _sum_over_ranks(tensor: Tensor) -> Tensor:
    return _SumOverRanks.apply(tensor)


class _CpuSyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm whose training statistics are those of all ranks together (torch's needs a GPU)."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's own signature
        if input.dim() < 2:
            raise ValueError(f"expected at least two axes, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Normalise [b, c, ...] per channel."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        axes = [0, *range(2, input.dim())]
        count = input.new_tensor([input.numel() / input.shape[1]])
        # Two passes, so that the variance keeps the precision of an unsplit batch.
        total = _sum_over_ranks(torch.cat([input.sum(axes), count]))
        mean = total[:-1] / total[-1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        centred = input - mean.view(shape)
        variance = _sum_over_ranks(centred.square().sum(axes)) / total[-1]
        self._track(mean.detach(), variance.detach(), total[-1].detach())
        output = centred * torch.rsqrt(variance + self.eps).view(shape)
        return output * self.weight.view(shape) + self.bias.view(shape) if self.affine else output

    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        unbiased = variance * count / (count - 1)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


class GlobalBatchNorm(LayerSync):
    """Makes every BatchNorm of a model see the global batch, so that a run on two processes is the run on one."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert the BatchNorm layers in place (they keep their parameters and buffers)."""
        if next(model.parameters()).is_cuda:
            return TorchSyncBatchNorm().apply(model)
        for module in model.modules():
            # Subclasses of a library may do more (timm's also activate) and are left alone.
            if type(module) in {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}:
                # The class alone is changed: hooks, parameters and names in the checkpoint stay as they are.
                module.__class__ = _CpuSyncBatchNorm
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave the layers as they are: outside training they are ordinary BatchNorm."""
        return model
