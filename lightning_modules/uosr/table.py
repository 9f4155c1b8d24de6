"""The UOSR table: the paper's names and columns, with the counts that AURC and UOSR depend on."""

import math
import re
from collections.abc import Mapping

from rich.table import Table

NAMES = {
    "msp": "SoftMax (MSP)",
    "msp_permuted": "MSP, errors by lot (control)",
    "max_logit": "MaxLogit",
    "energy": "Energy",
    "entropy": "Entropy",
    "doctor": "DOCTOR",
    "odin": "ODIN",
    "knn": "KNN",
    "residual": "Residual",
    "vim": "ViM",
    "sirc_msp_z": "SIRC (MSP, |z|1)",
    "sirc_msp_res": "SIRC (MSP, Res)",
    "sirc_h_z": "SIRC (H, |z|1)",
    "sirc_h_res": "SIRC (H, Res)",
    "openmax": "OpenMax",
    "confidence": "Confidence branch",
    "fs_knn": "FS-KNN",
    "ssd": "SSD",
    "fs_knn_plus_s": "FS-KNN+S",
    "fs_knn_times_s": "FS-KNN*S",
    "sirc": "SIRC (FS-KNN)",
    "fs_knns": "FS-KNNS",
}
COLUMNS = {
    "acc": "acc",
    "aurc": "AURC",
    "uosr": "UOSR",
    "osr": "OSR",
    "inc_ood": "InC/OoD",
    "inc_inw": "InC/InW",
    "inw_ood": "InW/OoD",
}
COUNTS = "InC + InW + OoD"
HEADER = ["score", *COLUMNS.values(), COUNTS]


def printed_name(key: str) -> str:
    """Return the paper's name of a score key; `fs_knns_5shot` becomes `FS-KNNS, 5-shot`, other words stay."""
    shots = re.fullmatch(r"(.+)_(\d+)shot", key)
    if shots:
        return f"{printed_name(shots[1])}, {shots[2]}-shot"
    return NAMES.get(key, key)


def table_rows(metrics: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Return a row of printed cells for each score: name, seven metrics with two decimals, counts; see `HEADER`."""
    return [[printed_name(key), *(_number(of[name]) for name in COLUMNS), _counts(of)] for key, of in metrics.items()]


def uosr_table(metrics: Mapping[str, Mapping[str, float]], title: str = "") -> Table:
    """Return the table for the screen, a row for each score."""
    caption = "AUROC and acc in percent, AURC x 1000. Compare AURC and UOSR at equal counts only."
    table = Table(title=title or None, caption=caption, title_justify="left", caption_justify="left")
    for name in HEADER:
        table.add_column(name, justify="left" if name == "score" else "right", no_wrap=name != "score")
    for row in table_rows(metrics):
        table.add_row(*row)
    return table


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _counts(of: Mapping[str, float]) -> str:
    return " + ".join(f"{of[name]:.0f}" for name in ("n_inc", "n_inw", "n_ood"))
