"""The experiments of Neural Dependency from the command line: tiny twins, and the runs that they need first."""

import pytest

from tests.door.quire import only_folder, quire, read

NEEDS = {
    "neural_dependency": [],
    "neural_dependency_mlp": [],
    "neural_dependency_patterns": [],
    "neural_dependency_between": ["neural_dependency", "neural_dependency_mlp"],
    "neural_dependency_unseen": ["neural_dependency"],
    "neural_dependency_regulariser": ["neural_dependency"],
}
FIGURE = {
    "neural_dependency_between": "test/between/to_source/excluded/fvu_refit",
    "neural_dependency_unseen": "test/unseen/from_network/joint",
    "neural_dependency_regulariser": "test/noisy_acc",
}


@pytest.mark.parametrize("experiment", NEEDS)
def test_the_tiny_twin_of_every_experiment_that_runs_here(experiment, tmp_path):
    done = quire(f"experiment={experiment}", "debug=tiny", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    folder = only_folder(tmp_path, experiment)
    metrics = read(folder / "result.json")["metrics"]
    assert FIGURE.get(experiment, "test/control/untrained/sparse") in metrics
    assert (folder / "pictures" / "graph.png").stat().st_size > 1000
    assert (folder / "dependencies" / "graph.json").is_file()
    assert {path.name for path in tmp_path.iterdir() if path.name[0] != "."} == {experiment, *NEEDS[experiment]}
