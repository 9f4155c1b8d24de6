"""The shelf: every experiment, a line each, with its typical cost."""

from rich.table import Table

from harness.compose import CONF, options
from harness.origin import read_yaml
from harness.screen import console


def show_shelf() -> int:
    """Print the experiments and how to run them."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("experiment", "what it does", "takes"):
        table.add_column(column)
    for name in options("experiment"):
        entry = read_yaml(CONF / "experiment" / f"{name}.yaml")
        table.add_row(name, entry.get("about", ""), entry.get("takes", ""))
    screen = console()
    screen.print(table)
    screen.print("\npython run.py experiment=NAME [key=value ...]     --help: the groups and keys", highlight=False)
    return 0
