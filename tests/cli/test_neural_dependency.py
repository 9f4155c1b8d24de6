"""The experiments of Neural Dependency from the command line: tiny twins, and the runs that they need first."""

import pytest

from tests.cli.quire import only_folder, quire, read
from tests.tiers import full

NEEDS = {
    "neural_dependency": [],
    "neural_dependency_mlp": [],
    "neural_dependency_patterns": [],
    "neural_dependency_between": ["neural_dependency", "neural_dependency_mlp"],
    "neural_dependency_unseen": ["neural_dependency"],
    "neural_dependency_regularizer": ["neural_dependency"],
}
FIGURE = {
    "neural_dependency_between": "test/between/to_source/excluded/fvu_refit",
    "neural_dependency_unseen": "test/unseen/from_network/joint",
    "neural_dependency_regularizer": "test/noisy_acc",
}


FAST = ("neural_dependency", "neural_dependency_unseen")
# This one makes the runs that it needs itself, and in order.
FROM_NOTHING = "neural_dependency_between"


@pytest.mark.parametrize("experiment", [*FAST, *full(*(name for name in NEEDS if name not in FAST))])
def test_the_tiny_twin_of_every_experiment_that_runs_here(experiment, tmp_path, shared_run):
    for name in NEEDS[experiment]:
        if experiment != FROM_NOTHING:
            shared_run(f"experiment={name}", "debug=tiny").copy(tmp_path, name)
    if NEEDS[experiment]:
        done, runs = quire(f"experiment={experiment}", "debug=tiny", f"runs={tmp_path}"), tmp_path
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        done = shared_run(f"experiment={experiment}", "debug=tiny")
        runs = done.runs
    assert done.stderr == ""
    folder = only_folder(runs, experiment)
    metrics = read(folder / "result.json")["metrics"]
    assert FIGURE.get(experiment, "test/control/untrained/sparse") in metrics
    assert (folder / "pictures" / "graph.png").stat().st_size > 1000
    assert (folder / "dependencies" / "graph.json").is_file()
    assert {path.name for path in runs.iterdir() if path.name[0] != "."} == {experiment, *NEEDS[experiment]}
    assert all(only_folder(runs, name) for name in NEEDS[experiment])
