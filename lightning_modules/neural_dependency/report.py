"""All that a test says: metrics for every logger, tables, pictures, the dependencies and their graph as files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import save_npz

from lightning_modules.neural_dependency import pictures
from lightning_modules.neural_dependency.between import read_between
from lightning_modules.neural_dependency.bounds import determinant_ratio, effective_rank, least_errors, rank
from lightning_modules.neural_dependency.collecting import Gathered
from lightning_modules.neural_dependency.emergence import correlations
from lightning_modules.neural_dependency.errors import fvu
from lightning_modules.neural_dependency.graph import dependency_graph, meaning, node_link, strongest
from lightning_modules.neural_dependency.large import logit_errors, solve_head
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
from lightning_modules.neural_dependency.unseen_protocol import Split, read_unseen
from lightning_modules.neural_dependency.wordnet import path_similarity

if TYPE_CHECKING:
    from lightning_modules.neural_dependency.module import NeuralDependency

Metrics = Iterator[tuple[str, float]]

_BETWEEN = (
    "nonzero",
    "fvu_lasso",
    "fvu_refit",
    "positive_before_refit",
    "positive_after_lasso",
    "positive_after_refit",
)


class Report:
    """Reads the logits of a test and writes down what they say.

    Args:
        module: the module whose test it is.
        data: its DataModule; one that has `shared_attributes` or `class_names` gives the categories a meaning.
        gathered: what the test collected.
    """

    def __init__(self, module: "NeuralDependency", data: Any, gathered: Gathered) -> None:
        self.module, self.data, self.columns = module, data, gathered.columns
        self.options, self.moments = module.hparams.reading, gathered.moments
        self.classes = self._categories()

    def write(self) -> dict[str, float]:
        """Return the metrics; tables, pictures and files are written on the way."""
        return {f"test/{name}": float(value) for name, value in self._all()}

    def _all(self) -> Metrics:
        test = self.columns["test"]
        yield "acc", 100 * (test["logits"].argmax(1) == test["labels"]).double().mean()
        yield "categories", self.classes
        if self.module.hparams.solver == "head":
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
        count = self.module.hparams.num_classes
        if self.module.trainer.limit_test_batches in {None, 1.0}:
            return count
        return max(2, min(count, len(self.columns["moments"]["labels"]) // 10))

    def _split(self, name: str, column: str = "logits") -> Logits:
        columns = self.columns[name]
        values, rows = columns[column][:, : self.classes], columns["labels"] < self.classes
        is_whole = column == "logits" and self.classes == self.module.hparams.num_classes
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
            found = solve(fit.moments, test, self.options, center)
            for row in found.rows:
                yield from ((f"{form}/alpha_{row['alpha']:g}/{key}", v) for key, v in row.items() if key != "alpha")
            self.module.show_table(f"path_{form}", *path_table(found.rows))
            self._keep(form, found)
            if not center:
                yield from self._graph(found, second.diagonal())
            else:
                nonzero = np.array([row["nonzero"] for row in found.rows])
                errors = {kind: np.array([row[f"fvu_{kind}"] for row in found.rows]) for kind in ("lasso", "refit")}
                self.module.show_picture("error_by_sparsity", pictures.path_picture(nonzero, errors))

    def _keep(self, form: str, found: Dependencies) -> None:
        """Keep the dependencies of one alpha, sparse, for the regulariser and for whoever wants to read them."""
        file = dependencies_file(self.module.run_folder, form)
        file.parent.mkdir(parents=True, exist_ok=True)
        weights = found.at(self.options["alpha"]).copy()
        # Of a test that was cut short, the categories that were not read depend on nothing.
        weights.resize((self.module.hparams.num_classes,) * 2)
        save_npz(file, weights)

    def _graph(self, found: Dependencies, power: np.ndarray) -> Metrics:
        weights = found.at(self.options["alpha"])
        names = self.data.class_names()[: self.classes] if hasattr(self.data, "class_names") else None
        graph = dependency_graph(weights, power, names)
        (self.module.run_folder / "dependencies" / "graph.json").write_text(json.dumps(node_link(graph)))
        groups = None
        similarity = self._similarity()
        if similarity is not None and weights.nnz:
            read = meaning(strongest(weights, power), similarity[: self.classes, : self.classes])
            yield from ((f"meaning/{key}", value) for key, value in read._asdict().items())
        if hasattr(self.data, "shared_attributes") and self.data.shared_attributes() is not None and names:
            first = [name.split()[0] for name in names]
            groups = [sorted(set(first)).index(name) for name in first]
        self.module.show_picture("graph", pictures.graph_picture(graph, groups=groups))

    def _similarity(self) -> np.ndarray | None:
        if hasattr(self.data, "shared_attributes"):
            return self.data.shared_attributes()
        if self.module.hparams.wordnet:
            return path_similarity(self.data.class_names(), self.module.hparams.wordnet)
        return None

    def _emergence(self, fit: Logits, test: Logits) -> Metrics:
        """Yield the curve over nested subsets, and at all categories the controls beside the network."""
        measured = {"trained": (fit.moments, test.moments)}
        for name in self.options["controls"]:
            if name != "untrained":
                measured[name] = control_moments(name, fit, test, self.options["seed"])
            elif "untrained" in self.columns["moments"]:
                measured[name] = tuple(self._split(split, "untrained").moments for split in ("moments", "test"))
        curves = {}
        for name, (first, second) in measured.items():
            both = curve(first, second, self.options)
            curves |= {f"{name}, {self.options['terms']} others": both["sparse"]}
            curves |= {f"{name}, all others": both["dense"]} if name == "trained" else {}
            place = "emergence" if name == "trained" else f"control/{name}/emergence"
            for kind, by_size in both.items():
                yield from ((f"{place}/m{size}/{kind}", value) for size, value in by_size.items())
            whole = sparse_and_dense(first, second, self.options["terms"])
            place = "" if name == "trained" else f"control/{name}/"
            yield from ((f"{place}{kind}", value) for kind, value in whole.items())
        show = self.module.show_picture
        show("emergence", pictures.emergence_picture(curves))
        covariances = {name: of.covariance(center=True) for name, (of, _) in measured.items()}
        show("correlations", pictures.correlation_picture({k: correlations(v) for k, v in covariances.items()}))
        show("spectrum", pictures.spectrum_picture(covariances))

    # Other networks, other categories, other images.

    def _between(self, fit: Logits, test: Logits) -> Metrics:
        if "source" not in self.columns["test"] or self.data_has_new():
            return
        others = self._split("moments", "source"), self._split("test", "source")
        ways = {
            "from_source": ((fit, others[0]), (test, others[1])),
            "to_source": ((others[0], fit), (others[1], test)),
        }
        rows = []
        for way, (first, second) in ways.items():
            for kind, figures in read_between(first, second, self.options).items():
                rows.append([way, kind, *(round(figures.get(key, float("nan")), 4) for key in _BETWEEN)])
                yield from ((f"between/{way}/{kind}/{key}", value) for key, value in figures.items())
        self.module.show_table("between", ["direction", "own category", *_BETWEEN], rows)

    def data_has_new(self) -> bool:
        """Return whether the test has categories that the network was not trained on, to be fitted."""
        return bool(getattr(self.data, "new_names", []))

    def _unseen(self) -> Metrics:
        if not self.data_has_new():
            return
        halves = [self._both("moments", "new_fit"), self._both("test", "new_test")]
        first_new = self.module.hparams.num_classes
        counts = halves[0].labels[halves[0].labels >= first_new].unique(return_counts=True)[1]
        # A test that was cut short may have fewer images than shots.
        options = dict(self.module.hparams.unseen)
        options["shots"] = [shots for shots in options["shots"] if shots <= int(counts.min())]
        found = read_unseen(*halves, self.data.num_new, options, self.options["seed"])
        for name, scores in found.items():
            for key, value in scores._asdict().items():
                yield f"unseen/{name}/{key}", value if key == "nonzero" else 100 * value
        rows = [[name, *(round(value, 4) for value in scores)] for name, scores in found.items()]
        self.module.show_table("unseen", ["fit", "joint", "base", "new", "nonzero"], rows)

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
            yield "noisy_acc", 100 * (test["noisy"].argmax(1) == test["labels"]).double().mean()
        for name in getattr(self.data, "ood_names", []):
            figures = ood_figures(test["logits"], self.columns[name]["logits"])
            yield from ((f"{name}/{key}", value) for key, value in figures.items())
        if self.module.regulariser is not None and self.classes == self.module.hparams.num_classes:
            theta = self.module.regulariser.theta.double().cpu().numpy()
            used = np.flatnonzero(theta.any(axis=1))
            held_out = self._split("test").moments
            # The batch's own mean is free in the regulariser, so it is here.
            yield "theta_fvu", np.nanmedian(fvu(theta[used], used, held_out, held_out.mean))

    # Many thousand categories.

    def _head(self) -> Metrics:
        assert self.module.network is not None
        alphas, head = self.options["alphas"], self.module.network.head
        path = solve_head(head, self.moments["moments"], alphas, self.options["tolerance"], str(self.module.device))
        rows = []
        for number, alpha in enumerate(path.alphas):
            row = {"alpha": float(alpha), "nonzero": float(np.median(np.diff(path.weights[number].indptr)))}
            row |= logit_errors(path.weights[number], self.columns["test"]["logits"])
            row["kkt"] = float(path.violation[number].max())
            rows.append(row)
            yield from ((f"head/alpha_{alpha:g}/{key}", value) for key, value in row.items() if key != "alpha")
        yield "features", head.in_features
        self.module.show_table("path_head", list(rows[0]), [[round(v, 4) for v in row.values()] for row in rows])
        self._keep("head", Dependencies(path, [], None, rows))


def _identity(gram: np.ndarray, targets: int = 8) -> float:
    """Return how far det(C) / det(Q) and 1 / (C^-1)_ii are apart, at most, as a share (spec section 2.3)."""
    ratios = np.array([determinant_ratio(gram, target) for target in range(min(targets, len(gram)))])
    return float(np.abs(ratios / least_errors(gram)[: len(ratios)] - 1).max())


def dependencies_file(run_folder: Path, form: str) -> Path:
    """Return where a run keeps its dependencies: sparse [K, K], row i the coefficients of category i."""
    return run_folder / "dependencies" / f"{form}.npz"
