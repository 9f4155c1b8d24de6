"""`make test` leaves out what is marked `full`; `make test-all` runs everything."""

import pytest


def full(*cases):
    """Return cases of a parametrization that only `make test-all` runs."""
    return [pytest.param(*(case if isinstance(case, tuple) else [case]), marks=pytest.mark.full) for case in cases]
