"""Nothing unpickles a file but the places listed here: code in a file of weights or data would be run."""

import ast

import pytest

from tests.cli.forks import ROOT

# File, class or function, and what is called there; with the reason why it may be.
ALLOWED = {
    ("networks/weights/pickles.py", "_load", "torch.load"): "files from outside: tensors, values, placeholders",
    ("harness/training/checkpoints.py", "read_checkpoint", "torch.load"): "checkpoints that this project wrote",
    ("lightning_modules/base.py", "load_from_checkpoint", "torch.load"): "hyper-parameters, as plain data",
    ("datamodules/formats/cifar.py", "PlainUnpickler", "pickle.Unpickler"): "CIFAR, restricted to plain values",
}
# Whatever runs code of the file that it reads.
UNSAFE = {
    *(f"{m}.{f}" for m in ("pickle", "cloudpickle", "dill", "marshal") for f in ("load", "loads", "Unpickler")),
    *("joblib.load", "pandas.read_pickle", "shelve.open", "torch.jit.load", "torch.hub.load", "torch.package"),
}
# Tests unpickle what they have written themselves.
LEFT_OUT = {"tests", "runs", "data", "weights", "outputs", "wandb"}


class _Finder(ast.NodeVisitor):
    """Collects the places at which a module loads pickles, under the true names of what it imports."""

    def __init__(self):
        self.places, self.names, self.found = [], {}, []

    def visit_Import(self, node):
        for alias in node.names:
            self.names[alias.asname or alias.name.split(".")[0]] = (
                alias.name if alias.asname else alias.name.split(".")[0]
            )

    def visit_ImportFrom(self, node):
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            self.names[alias.asname or alias.name] = name
            self._judge(name)

    def visit_FunctionDef(self, node):
        self.places.append(node.name)
        self.generic_visit(node)
        self.places.pop()

    visit_ClassDef = visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Attribute(self, node):
        self._judge(self._name(node))
        self.generic_visit(node)

    def visit_Call(self, node):
        name, options = self._name(node.func), {word.arg: word.value for word in node.keywords}
        if name == "getattr" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            self._judge(f"{self._name(node.args[0])}.{node.args[1].value}")
        if name == "torch.load" and not _is(options.get("weights_only"), True):
            self._add("torch.load without weights_only=True")
        elif name != "torch.load" and "weights_only" in options and _is(options["weights_only"], False):
            self._add("weights_only=False")
        if "allow_pickle" in options and not _is(options["allow_pickle"], False):
            self._add("allow_pickle=True")
        self.generic_visit(node)

    def _name(self, node):
        if isinstance(node, ast.Attribute):
            return f"{self._name(node.value)}.{node.attr}"
        return self.names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"

    def _judge(self, name):
        name = name.replace("_pickle.", "pickle.").replace("pickle._Unpickler", "pickle.Unpickler")
        if name in UNSAFE or name == "torch.load":
            self._add(name)

    def _add(self, name):
        self.found.append((self.places[-1] if self.places else "", name))


def _is(node, value):
    return isinstance(node, ast.Constant) and node.value is value


def loads_in(source):
    """Return where a module's source loads pickles: pairs of class or function and what is called."""
    finder = _Finder()
    finder.visit(ast.parse(source))
    return finder.found


def test_only_these_places_unpickle():
    found = set()
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if place.parts[0] not in LEFT_OUT and not place.parts[0].startswith("."):
            found |= {(place.as_posix(), *load) for load in loads_in(path.read_text())}
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch\ndef f(): torch.load('x', weights_only=True)", ("f", "torch.load")),
        ("import torch\ntorch.load('x')", ("", "torch.load without weights_only=True")),
        ("import torch as t\nt.load('x', weights_only=flag)", ("", "torch.load without weights_only=True")),
        ("from torch import load as read\nread('x')", ("", "torch.load without weights_only=True")),
        ("def f():\n import torch.jit\n torch.jit.load('x')", ("f", "torch.jit.load")),
        ("import torch\nread = torch.jit.load", ("", "torch.jit.load")),
        ("import torch\ngetattr(torch, 'load')", ("", "torch.load")),
        ("import pickle\nclass A:\n def f(s): pickle.loads(b'')", ("f", "pickle.loads")),
        ("from pickle import load", ("", "pickle.load")),
        ("import pickle as p\nclass A(p.Unpickler): pass", ("A", "pickle.Unpickler")),
        ("import cloudpickle\ncloudpickle.load(f)", ("", "cloudpickle.load")),
        ("import joblib\njoblib.load('x')", ("", "joblib.load")),
        ("import pandas as pd\npd.read_pickle('x')", ("", "pandas.read_pickle")),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", ("", "allow_pickle=True")),
        ("from numpy import load\nload('x', allow_pickle=flag)", ("", "allow_pickle=True")),
        ("Module.load_from_checkpoint('x', weights_only=False)", ("", "weights_only=False")),
    ],
)
def test_planted_loads_are_found(source, expected):
    assert expected in loads_in(source)


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.load('x')\nnp.load('y', allow_pickle=False)",
        "import json, pickle\njson.load(f)\npickle.dumps(1)\nraise pickle.UnpicklingError",
        "trainer.fit(module, ckpt_path=p, weights_only=True)\nmodule.load(x)",
        "from safetensors.torch import load_file\nload_file('x')",
    ],
)
def test_safe_readers_are_not_found(source):
    assert loads_in(source) == []
