"""pyproject.toml declares exactly what is used: every imported package, and no other without a reason."""

import ast
import importlib.metadata
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.cli.forks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN_TIME = ["common", "datamodules", "harness", "lightning_modules", "metrics", "networks", "tuners", "run.py"]
# Benchmarks name what they compare with and print how to install it, so their imports are not required.
DEVELOPMENT = ["tests", "docs"]
FIRST_PARTY = {name.removesuffix(".py") for name in [*RUN_TIME, *DEVELOPMENT, "benchmarks"]}
# Scripts in docs/ import one another by name.
FIRST_PARTY |= {path.stem for path in (ROOT / "docs").glob("*.py")}
# Declared packages that no import names.
IMPORTED_BY_NONE = {
    "hydra-joblib-launcher": "hydra/launcher=joblib",
    "hydra-submitit-launcher": "hydra/launcher=submitit_slurm",
    "tensorboard": "written by Lightning's TensorBoardLogger",
    "torch-fidelity": "the Inception network of torchmetrics",
    "hydra-optuna-sweeper": "hydra/sweeper=optuna",
    "optuna": "limits the plugin",
    "sqlalchemy": "limits the plugin",
    "alembic": "limits the plugin",
    "pykeen": "reference of tests of knowledge graphs",
    "torch-geometric": "reference of tests of knowledge graphs",
    "import-linter": "make lint",
    "mypy": "make lint",
    "ruff": "make lint",
    "pre-commit": "CONTRIBUTING.md",
    "mkdocs-material": "make docs",
}
# Extras of papers to come.
AHEAD = {"graph", "ray"}
INSTALLED = importlib.metadata.packages_distributions()


def declared(*extras):
    """Return the names of the dependencies and of those of some extras."""
    lines = [*PROJECT["dependencies"], *(line for name in extras for line in PROJECT["optional-dependencies"][name])]
    return {canonicalize_name(Requirement(line).name) for line in lines} - {"quire"}


def modules(text):
    """Return the top-level modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"import_module", "importlib.import_module"}:
            found |= {word.value for word in node.args if isinstance(word, ast.Constant)}
    return {name.partition(".")[0] for name in found} - FIRST_PARTY - sys.stdlib_module_names


def imported(places):
    """Return the sets of distributions of which each module that is imported in some places may be a part."""
    files = [
        path for place in places for path in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))
    ]
    names = set().union(*(modules(path.read_text()) for path in files))
    return {name: {canonicalize_name(dist) for dist in INSTALLED.get(name, [name])} for name in names}


def undeclared(places, names):
    return {module for module, dists in imported(places).items() if not dists & names}


def test_imports_are_found_wherever_they_stand():
    text = "import numpy as np\nfrom PIL import Image\nfrom . import x\nimport os\ndef f():\n    import yaml.nodes\n"
    assert modules(text) == {"numpy", "PIL", "yaml"}
    assert modules("importlib.import_module('av.video')") == {"av"}


@pytest.mark.parametrize(
    ("places", "extras"),
    [(RUN_TIME, PROJECT["optional-dependencies"].keys() - {"dev"}), (DEVELOPMENT, ["optuna", "video", "dev"])],
)
def test_what_is_imported_is_declared(places, extras):
    assert undeclared(places, declared(*extras)) == set()
    assert undeclared(places, declared(*extras) - {"numpy"}) == {"numpy"}


def test_what_is_declared_is_imported_or_has_a_reason():
    used = set().union(*imported([*RUN_TIME, *DEVELOPMENT]).values())
    names = declared(*(PROJECT["optional-dependencies"].keys() - AHEAD))
    assert names - used - IMPORTED_BY_NONE.keys() == set()
    assert IMPORTED_BY_NONE.keys() <= names
