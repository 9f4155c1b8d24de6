"""Reasons of libraries in one sentence."""

import pytest

from common.errors import first_reason

BLOCKED = """Weights only load failed. In PyTorch 2.6, we changed the default value of the `weights_only` argument.


Trying to load unsupported GLOBAL posix.mkdir whose module posix is blocked.

Check the documentation of torch.load to learn more about types accepted by default with weights_only."""

UNKNOWN = """Weights only load failed. This file can still be loaded, to do so you have two options. \n
\t(1) Re-running `torch.load` with `weights_only` set to `False` will likely succeed.
\t(2) Alternatively, to load with `weights_only=True` please check the following.
\tWeightsUnpickler error: Unsupported global: GLOBAL print was not allowed. Please use `add_safe_globals([print])`."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BLOCKED, "Trying to load unsupported GLOBAL posix.mkdir whose module posix is blocked"),
        (UNKNOWN, "Unsupported global: GLOBAL print was not allowed"),
        ("\nfailed reading 1.5 MB. This is an error", "failed reading 1.5 MB"),
        ("set weights_only=False", "ValueError"),
        ("", "ValueError"),
        ("x" * 300, "x" * 200),
    ],
)
def test_the_first_reason_is_one_sentence_without_advice(text, expected):
    assert first_reason(ValueError(text)) == expected
