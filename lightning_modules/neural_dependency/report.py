"""The evaluation of a test: metrics, tables and pictures, and the dependencies and their graph as files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import save_npz
from torch import Tensor, nn

from common.findings import Findings, Table
from lightning_modules.neural_dependency import pictures
from lightning_modules.neural_dependency.between import read_between
from lightning_modules.neural_dependency.collecting import Gathered
from lightning_modules.neural_dependency.large import logit_errors, solve_head
from lightning_modules.neural_dependency.moments import Moments
from lightning_modules.neural_dependency.options import Options
from lightning_modules.neural_dependency.reading import (
    FORMS,
    Dependencies,
    Logits,
    control_moments,
    curve,
    moments_of,
    path_table,
    solve,
    sparse_and_dense,
    unreplaced,
)
from lightning_modules.neural_dependency.robustness import ood_figures
from lightning_modules.neural_dependency.structure.determinants import (
    determinant_ratio,
    effective_rank,
    least_errors,
    rank,
)
from lightning_modules.neural_dependency.structure.emergence import correlations
from lightning_modules.neural_dependency.structure.errors import fvu
from lightning_modules.neural_dependency.structure.graph import dependency_graph, meaning, node_link, strongest
from lightning_modules.neural_dependency.structure.wordnet import path_similarity
from lightning_modules.neural_dependency.unseen.protocol import Split, read_unseen

Metrics = Iterator[tuple[str, float]]

_BETWEEN = (
    "nonzero",
    "fvu_lasso",
    "fvu_refit",
    "positive_before_refit",
    "positive_after_lasso",
    "positive_after_refit",
)


class Tested(NamedTuple):
    """What a test collected, and the parts of the network that its evaluation needs.

    Attributes:
        gathered: logits and moments of the splits.
        is_complete: whether the test ran over all batches.
        head: the linear head of the classifier, or None for logits without a network.
        theta: coefficients of the regularizer [K, K], or None without one.
        device: where matrix products are computed.
    """

    gathered: Gathered
    is_complete: bool
    head: nn.Linear | None
    theta: Tensor | None
    device: str


class Report:
    """Evaluates the logits of a test.

    Args:
        options: the options of the paper.
        data: the DataModule; one with `shared_attributes` or `class_names` gives the categories a meaning.
        tested: what the test collected.
        folder: the folder of the run, where the dependencies and their graph are written.
    """

    def __init__(self, options: Options, data: Any, tested: Tested, folder: Path) -> None:
        self.options, self.analysis, self.data, self.folder = options, options["analysis"], data, folder
        self.tested, self.columns, self.moments = tested, tested.gathered.columns, tested.gathered.moments
        self.findings = Findings()
        self.classes = self._categories()

    def evaluate(self) -> Findings:
        """Return metrics, tables and pictures; the dependencies and their graph are written on the way."""
        self.findings.metrics = {f"test/{name}": float(value) for name, value in self._all()}
        return self.findings

    def _all(self) -> Metrics:
        test = self.columns["test"]
        yield "acc", _accuracy(test["logits"], test["labels"])
        yield "categories", self.classes
        if self.options["solver"] == "head":
            yield from self._head()
        else:
            fit, held_out = self._split("moments"), self._split("test")
            yield from self._dependencies(fit, held_out)
            yield from self._emergence(fit, held_out)
            yield from self._between(fit, held_out)
        yield from self._unseen()
        yield from self._robustness()

    def _categories(self) -> int:
        """Return how many categories are read: all, but a few only where the test was cut short to a few batches."""
        count = self.options["num_classes"]
        if self.tested.is_complete:
            return count
        return max(2, min(count, len(self.columns["moments"]["labels"]) // 10))

    def _split(self, name: str, column: str = "logits") -> Logits:
        columns = self.columns[name]
        values, rows = columns[column][:, : self.classes], columns["labels"] < self.classes
        is_whole = column == "logits" and self.classes == self.options["num_classes"]
        moments = self.moments[name] if is_whole else moments_of(values)
        return Logits(values[rows], columns["labels"][rows], moments)

    # One network.

    def _dependencies(self, fit: Logits, test: Logits) -> Metrics:
        second = fit.moments.second
        yield "rank", rank(second)
        yield "effective_rank/uncentred", effective_rank(second)
        centred = fit.moments.covariance(center=True)
        yield "effective_rank/centred", effective_rank(centred)
        if rank(centred) == self.classes:
            yield "determinant_identity", _identity(centred)
        yield from ((f"untouched/{key}", value) for key, value in unreplaced(test).items())
        for form, center in FORMS.items():
            found = solve(fit.moments, test, self.analysis, center)
            for row in found.rows:
                yield from ((f"{form}/alpha_{row['alpha']:g}/{key}", v) for key, v in row.items() if key != "alpha")
            self.findings.tables[f"path_{form}"] = Table(*path_table(found.rows))
            self._keep(form, found)
            if not center:
                yield from self._graph(found, second.diagonal())
            else:
                nonzero = np.array([row["nonzero"] for row in found.rows])
                errors = {kind: np.array([row[f"fvu_{kind}"] for row in found.rows]) for kind in ("lasso", "refit")}
                self.findings.pictures["error_by_sparsity"] = pictures.path_picture(nonzero, errors)

    def _keep(self, form: str, found: Dependencies) -> None:
        """Keep the dependencies of one alpha, sparse, for the regularizer and for whoever wants to read them."""
        file = dependencies_file(self.folder, form)
        file.parent.mkdir(parents=True, exist_ok=True)
        weights = found.at(self.analysis["alpha"]).copy()
        # Of a test that was cut short, the categories that were not read depend on nothing.
        weights.resize((self.options["num_classes"],) * 2)
        save_npz(file, weights)

    def _graph(self, found: Dependencies, power: np.ndarray) -> Metrics:
        weights = found.at(self.analysis["alpha"])
        names = self.data.class_names()[: self.classes] if hasattr(self.data, "class_names") else None
        graph = dependency_graph(weights, power, names)
        (self.folder / "dependencies" / "graph.json").write_text(json.dumps(node_link(graph)))
        groups = None
        similarity = self._similarity()
        if similarity is not None and weights.nnz:
            read = meaning(strongest(weights, power), similarity[: self.classes, : self.classes])
            yield from ((f"meaning/{key}", value) for key, value in read._asdict().items())
        if hasattr(self.data, "shared_attributes") and self.data.shared_attributes() is not None and names:
            first = [name.split()[0] for name in names]
            groups = [sorted(set(first)).index(name) for name in first]
        self.findings.pictures["graph"] = pictures.graph_picture(graph, groups=groups)

    def _similarity(self) -> np.ndarray | None:
        if hasattr(self.data, "shared_attributes"):
            return self.data.shared_attributes()
        if self.options["wordnet"]:
            return path_similarity(self.data.class_names(), self.options["wordnet"])
        return None

    def _emergence(self, fit: Logits, test: Logits) -> Metrics:
        """Yield the curve over nested subsets, and at all categories the controls beside the network."""
        measured: dict[str, tuple[Moments, Moments]] = {"trained": (fit.moments, test.moments)}
        for name in self.analysis["controls"]:
            if name != "untrained":
                measured[name] = control_moments(name, fit, test, self.analysis["seed"])
            elif "untrained" in self.columns["moments"]:
                untrained = [self._split(split, "untrained").moments for split in ("moments", "test")]
                measured[name] = untrained[0], untrained[1]
        curves: dict[str, dict[int, float]] = {}
        for name, (first, second) in measured.items():
            both = curve(first, second, self.analysis)
            curves |= {f"{name}, {self.analysis['num_nonzero']} others": both["sparse"]}
            curves |= {f"{name}, all others": both["dense"]} if name == "trained" else {}
            place = "emergence" if name == "trained" else f"control/{name}/emergence"
            for kind, by_size in both.items():
                yield from ((f"{place}/m{size}/{kind}", value) for size, value in by_size.items())
            whole = sparse_and_dense(first, second, self.analysis["num_nonzero"])
            place = "" if name == "trained" else f"control/{name}/"
            yield from ((f"{place}{kind}", value) for kind, value in whole.items())
        covariances = {name: of.covariance(center=True) for name, (of, _) in measured.items()}
        self.findings.pictures |= {
            "emergence": pictures.emergence_picture(curves),
            "correlations": pictures.correlation_picture({k: correlations(v) for k, v in covariances.items()}),
            "spectrum": pictures.spectrum_picture(covariances),
        }

    # Other networks, other categories, other images.

    def _between(self, fit: Logits, test: Logits) -> Metrics:
        if "source" not in self.columns["test"] or self._has_new_categories():
            return
        others = self._split("moments", "source"), self._split("test", "source")
        ways = {
            "from_source": ((fit, others[0]), (test, others[1])),
            "to_source": ((others[0], fit), (others[1], test)),
        }
        rows = []
        for way, (first, second) in ways.items():
            for kind, figures in read_between(first, second, self.analysis).items():
                rows.append([way, kind, *(round(figures.get(key, float("nan")), 4) for key in _BETWEEN)])
                yield from ((f"between/{way}/{kind}/{key}", value) for key, value in figures.items())
        self.findings.tables["between"] = Table(["direction", "own category", *_BETWEEN], rows)

    def _has_new_categories(self) -> bool:
        """Return whether the test has categories that the network was not trained on, to be fitted."""
        return bool(getattr(self.data, "new_names", []))

    def _unseen(self) -> Metrics:
        if not self._has_new_categories():
            return
        fit, test = self._both("moments", "new_fit"), self._both("test", "new_test")
        first_new = self.options["num_classes"]
        counts = fit.labels[fit.labels >= first_new].unique(return_counts=True)[1]
        # A test that was cut short may have fewer images than shots.
        options = self.options["unseen"].copy()
        options["shots"] = [shots for shots in options["shots"] if shots <= int(counts.min())]
        found = read_unseen(fit, test, self.data.num_new, options, self.analysis["seed"])
        for name, scores in found.items():
            for key, value in scores._asdict().items():
                yield f"unseen/{name}/{key}", value if key == "nonzero" else 100 * value
        rows = [[name, *(round(value, 4) for value in scores)] for name, scores in found.items()]
        self.findings.tables["unseen"] = Table(["fit", "joint", "base", "new", "nonzero"], rows)

    def _both(self, base: str, new: str) -> Split:
        joined = {
            key: torch.cat([self.columns[base][key], self.columns[new][key]])
            for key in ("logits", "features", "labels", "source")
            if key in self.columns[base]
        }
        return Split(joined["logits"], joined["features"], joined["labels"], joined.get("source"))

    def _robustness(self) -> Metrics:
        test = self.columns["test"]
        if "noisy" in test:
            yield "noisy_acc", _accuracy(test["noisy"], test["labels"])
        for name in getattr(self.data, "ood_names", []):
            figures = ood_figures(test["logits"], self.columns[name]["logits"])
            yield from ((f"{name}/{key}", value) for key, value in figures.items())
        if self.tested.theta is not None and self.classes == self.options["num_classes"]:
            theta = self.tested.theta.double().cpu().numpy()
            used = np.flatnonzero(theta.any(axis=1))
            held_out = self._split("test").moments
            # The batch's own mean is free in the regularizer, so it is here.
            yield "theta_fvu", np.nanmedian(fvu(theta[used], used, held_out, held_out.mean))

    # Many thousand categories.

    def _head(self) -> Metrics:
        head = self.tested.head
        assert head is not None
        alphas, tolerance = self.analysis["alphas"], self.analysis["tolerance"]
        path = solve_head(head, self.moments["moments"], alphas, tolerance, self.tested.device)
        rows = []
        for number, alpha in enumerate(path.alphas):
            row = {"alpha": float(alpha), "nonzero": float(np.median(np.diff(path.weights[number].indptr)))}
            row |= logit_errors(path.weights[number], self.columns["test"]["logits"])
            row["kkt"] = float(path.violation[number].max())
            rows.append(row)
            yield from ((f"head/alpha_{alpha:g}/{key}", value) for key, value in row.items() if key != "alpha")
        yield "features", head.in_features
        cells = [[round(value, 4) for value in row.values()] for row in rows]
        self.findings.tables["path_head"] = Table(list(rows[0]), cells)
        self._keep("head", Dependencies(path, [], None, rows))


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of rightly classified samples, in percent."""
    return float(100 * (logits.argmax(1) == labels).double().mean())


def _identity(gram: np.ndarray, targets: int = 8) -> float:
    """Return how far det(C) / det(Q) and 1 / (C^-1)_ii are apart, at most, as a share (§2.3)."""
    ratios = np.array([determinant_ratio(gram, target) for target in range(min(targets, len(gram)))])
    return float(np.abs(ratios / least_errors(gram)[: len(ratios)] - 1).max())


def dependencies_file(run_folder: Path, form: str) -> Path:
    """Return where a run keeps its dependencies: sparse [K, K], row i the coefficients of category i."""
    return run_folder / "dependencies" / f"{form}.npz"
