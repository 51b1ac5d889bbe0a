"""What a worker says of sealing: the one that seals its lag, all of them what they counted."""

from collections import Counter

import pytest

from shipworthy.audit.ledger import figures
from shipworthy.audit.ledger.figures import FAILED, SEALED, SealFigures, Unsealed, ledger_metrics


def readings(monkeypatch, counted):
    """Return what a scrape of a worker with these figures gives, by metric."""
    monkeypatch.setattr(figures, "FIGURES", counted)
    return {metric.name: dict(read()) for metric, read in ledger_metrics()}


@pytest.mark.parametrize("sealing", [True, False])
def test_only_the_worker_that_seals_says_how_far_behind_it_is(monkeypatch, sealing):
    """The 0 of the others would hide it."""
    counted = SealFigures(sealing=sealing, unsealed=Unsealed(entries=7, oldest_seconds=1.5))
    found = readings(monkeypatch, counted)
    assert found["shipworthy_audit_seal_lag_seconds"] == ({(): 1.5} if sealing else {})
    assert found["shipworthy_audit_unsealed_entries"] == ({(): 7} if sealing else {})


def test_what_was_sealed_and_what_failed_is_counted(monkeypatch):
    """Failures by their reason, each 0 before its first: else an alert would miss that one."""
    counted = SealFigures(entries=Counter(delete=12), batches_total=3)
    assert readings(monkeypatch, counted)["shipworthy_audit_seal_failures_total"] == FAILED.zeros()
    counted.failures["no key"] += 2
    found = readings(monkeypatch, counted)
    assert found["shipworthy_audit_sealed_entries_total"] == SEALED.zeros() | {("delete",): 12}
    assert found["shipworthy_audit_sealed_batches_total"] == {(): 3}
    assert found["shipworthy_audit_seal_failures_total"] == FAILED.zeros() | {("no key",): 2}
