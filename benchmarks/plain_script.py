"""What one would write instead: Hydra, a module, its data and a Trainer, for the same fit and test without the harness.

`python plain_script.py --config-dir FOLDER --config-name NAME folder=FOLDER`, started by `startup.py`.
"""

from typing import Any

import hydra
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def main(config: DictConfig) -> None:
    """Train, then test the best weights."""
    pl.seed_everything(config.seed)
    module = hydra.utils.instantiate(config.model, _convert_="all")
    data = hydra.utils.instantiate(config.data, _convert_="all")
    best = ModelCheckpoint(f"{config.folder}/checkpoints", monitor=config.monitor, mode=config.mode, filename="best")
    settings: Any = OmegaConf.to_container(config.trainer)
    trainer = pl.Trainer(
        **settings,
        accelerator="cpu",
        devices=1,
        callbacks=[best, LearningRateMonitor("step")],
        logger=CSVLogger(config.folder, flush_logs_every_n_steps=1),
        default_root_dir=config.folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, ckpt_path=best.best_model_path, verbose=False)


if __name__ == "__main__":
    main()
