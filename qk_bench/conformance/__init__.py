"""Proves that a plug-in keeps the promises of `qk_bench.interfaces`; for `qkbench check` and for authors' own tests.

from qk_bench.conformance import check_model, check_task, failures

def test_my_model_keeps_its_promises() -> None:
    assert not failures(check_model(MyModel(), samples))
"""

from qk_bench.conformance.checks import Check, failures
from qk_bench.conformance.models import check_model
from qk_bench.conformance.tasks import check_task

__all__ = ["Check", "check_model", "check_task", "failures"]
