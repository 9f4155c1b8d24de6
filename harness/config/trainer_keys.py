"""What the numbers and words of the trainer and hardware groups may be, where Lightning's signature says less."""

from typing import Annotated, Literal, TypedDict

from common.ranges import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFraction, PositiveInt, Range

# From -1 on, which is no limit.
Limit = Annotated[int, Range(low=-1)]
Precision = Literal[
    64, 32, 16, "64", "32", "16", "bf16", "64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"
]  # fmt: skip


class TrainerKeys(TypedDict, total=False):
    """Arguments of Lightning's Trainer that have a range or a list of words; null is what Lightning takes then."""

    max_epochs: Limit | None
    min_epochs: NonNegativeInt | None
    max_steps: Limit
    min_steps: NonNegativeInt | None
    accumulate_grad_batches: PositiveInt
    gradient_clip_val: NonNegativeFloat | None
    gradient_clip_algorithm: Literal["norm", "value"] | None
    # A whole number counts batches, any other is a share.
    limit_train_batches: PositiveInt | PositiveFraction | None
    limit_val_batches: NonNegativeInt | Fraction | None
    limit_test_batches: PositiveInt | PositiveFraction | None
    limit_predict_batches: NonNegativeInt | Fraction | None
    overfit_batches: NonNegativeInt | Fraction
    val_check_interval: PositiveInt | PositiveFraction | str | None
    check_val_every_n_epoch: PositiveInt | None
    log_every_n_steps: NonNegativeInt
    reload_dataloaders_every_n_epochs: NonNegativeInt
    deterministic: bool | Literal["warn"] | None
    devices: PositiveInt
    num_nodes: PositiveInt
    precision: Precision | None
    threads: PositiveInt
