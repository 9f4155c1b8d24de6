"""What the server of forked processes imports before the first of them; importing this module does it."""

import atexit
import gc
import importlib
import pkgutil
import sys

LIBRARIES = ("torch", "pytorch_lightning", "hydra", "timm", "peft", "open_clip", "diffusers", "torchmetrics", "sklearn")
LIBRARIES += ("scipy.stats", "matplotlib.figure", "torchvision", "rich", "plotly")
OURS = ("common", "harness", "lightning_modules", "datamodules", "networks", "tuners", "metrics")

# Collecting finds nothing here, and would write to every page that forked processes share.
gc.disable()
for _name in LIBRARIES:
    importlib.import_module(_name)
for _package in OURS:
    for _module in pkgutil.walk_packages(importlib.import_module(_package).__path__, f"{_package}."):
        importlib.import_module(_module.name)
# Importing W&B makes a temporary folder, which the first process to end removes: each imports it for itself.
for _name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
    del sys.modules[_name]
gc.freeze()
# Libraries complain of objects that are never collected.
atexit.register(gc.unfreeze)
