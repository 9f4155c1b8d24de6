"""Sharded parameters (FSDP) for any paper, on GPUs, and on processes of the CPU to try it without."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pytorch_lightning.plugins.precision import FSDPPrecision, Precision
from pytorch_lightning.strategies import FSDPStrategy
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, distributed, nn
from torch.distributed import fsdp
from torch.distributed.fsdp import FullyShardedDataParallel as _Wrapped
from torch.distributed.fsdp import OptimStateKeyType
from torch.optim import Optimizer


class Sharded(FSDPStrategy):
    """Lightning's FSDP for training, with whole checkpoints, which are those of any other hardware.

    Nothing is cast beyond autocast, so a run is that of `ddp_bf16`; by default, buffers would be, and BatchNorm's
    running statistics do not stand it. A test is made by whole modules, whose weights papers may read.
    """

    # The optimizers' state is put back when Lightning does it, by `load_optimizer_state_dict`.
    lightning_restore_optimizer = True

    def __init__(self) -> None:
        super().__init__(mixed_precision=fsdp.MixedPrecision(), state_dict_type="full")

    def _setup_model(self, model: nn.Module) -> nn.Module:
        assert self.lightning_module is not None
        if self.lightning_module.trainer.state.fn != TrainerFn.FITTING:
            return model.to(self.root_device)
        # FSDP cannot shard what has no axis, such as CLIP's temperature: every process keeps it.
        scalars = [parameter for parameter in model.parameters() if parameter.dim() == 0]
        for parameter in scalars:
            parameter.data = parameter.data.to(self.root_device)
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_average_gradient)
        return _Wrapped(
            model,
            mixed_precision=self.mixed_precision_config,
            device_id=self.root_device,
            ignored_states=scalars,
            **self.kwargs,
        )

    @property
    def precision_plugin(self) -> FSDPPrecision:
        """What casts, and clips gradients."""
        plugin = self._precision_plugin
        return plugin if isinstance(plugin, FSDPPrecision) else FSDPPrecision("32-true")

    @precision_plugin.setter
    def precision_plugin(self, plugin: Precision | None) -> None:
        self._precision_plugin = plugin and _Precision(plugin.precision, self)

    def _whole(self, **options: bool) -> AbstractContextManager[Any]:
        """Let weights and optimizer states be read and written as they are without shards."""
        if not isinstance(self.model, _Wrapped):
            return nullcontext()
        # What lies on the CPU is not copied there, and would be that which FSDP frees.
        options |= {"offload_to_cpu": self.root_device.type != "cpu"}
        kinds = fsdp.FullStateDictConfig(**options), fsdp.FullOptimStateDictConfig(**options)
        return _Wrapped.state_dict_type(self.model, fsdp.StateDictType.FULL_STATE_DICT, *kinds)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the whole weights, on the first process."""
        assert self.model is not None
        with self._whole(rank0_only=True):
            return self.model.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the whole state of an optimizer, on the first process, as the optimizer itself would have it."""
        assert self.model is not None
        with self._whole(rank0_only=True):
            state = _Wrapped.optim_state_dict(self.model, getattr(optimizer, "optimizer", optimizer))
            if self.global_rank:
                return state
            return _Wrapped.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_ID, self.model)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint as plain data; hooks of the module see all of it before it goes anywhere."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Put the weights into the module, each process its shards."""
        assert self.model is not None
        with self._whole():
            self.model.load_state_dict(checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Put the state into the optimizers, each process that of its shards."""
        assert self.model is not None
        with self._whole():
            for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
                named = _Wrapped.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_NAME, self.model)
                optimizer.load_state_dict(_Wrapped.optim_state_dict_to_load(self.model, optimizer, named))


class _Precision(FSDPPrecision):
    """Autocast on any device, and gradients clipped by their norm over all shards."""

    def __init__(self, precision: Any, strategy: Sharded) -> None:
        super().__init__(precision)
        self._strategy = strategy

    def forward_context(self) -> AbstractContextManager[None]:
        if self.precision == "bf16-mixed":
            return torch.autocast(self._strategy.root_device.type, torch.bfloat16)
        return super().forward_context()

    def clip_grad_by_norm(self, optimizer: Optimizer, clip_val: float, *_: Any) -> None:
        model: Any = self._strategy.model
        model.clip_grad_norm_(clip_val)


def _average_gradient(parameter: Tensor) -> None:
    assert parameter.grad is not None
    distributed.all_reduce(parameter.grad)
    parameter.grad /= distributed.get_world_size()
