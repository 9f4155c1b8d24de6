"""The lock holds whatever is released tomorrow: old pips resolve a name with extras anew unless the lock has them."""

import importlib.metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.cli.forks import ROOT


def locked():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line.rstrip(" \\")) for line in lines if line and line[0] not in "# "]


def test_every_line_is_pinned_exactly():
    assert len(locked()) > 100
    for requirement in locked():
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement


def test_extras_that_packages_ask_for_without_a_pin_are_in_the_lock():
    extras = {}
    for requirement in locked():
        extras.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    # Not of what else is installed here.
    dists = [dist for dist in importlib.metadata.distributions() if canonicalize_name(dist.name) in extras]
    asked = [Requirement(text) for dist in dists for text in dist.requires or []]
    for one in asked:
        wanted = one.extras and (one.marker is None or one.marker.evaluate({"extra": ""}))
        pinned = [specifier.operator for specifier in one.specifier] == ["=="]
        if wanted and not pinned:
            assert one.extras <= extras[canonicalize_name(one.name)], one
