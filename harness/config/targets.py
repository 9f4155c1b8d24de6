"""Which `_target_`s a config may name, and which keys of such a node are no arguments of its target."""

ALLOWED = (
    "lightning_modules.",
    "datamodules.",
    "tuners.",
    "harness.",
    "pytorch_lightning.callbacks.",
    "pytorch_lightning.loggers.",
)
# Keys of a node that are no arguments of its target; `_paths_` declares which are paths (common/fingerprint.py).
NOT_ARGUMENTS = {"_target_", "_recursive_", "_convert_", "_paths_"}
# What the harness hands to a node beside its config.
GIVEN = {"save_dir", "folder", "dirpath", "run"}
