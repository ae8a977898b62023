"""The benchmark scripts are no package: their folder goes on the path, as it does when one of them is run."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name, module in sys.modules.items() if _is_ours(module)]:
        del sys.modules[name]


def _is_ours(module):
    return str(getattr(module, "__file__", None) or "").startswith(str(BENCHMARKS))
