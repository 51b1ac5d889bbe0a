"""A report counts all that was found and shows as much as a person can read."""

import json

from shipworthy.audit.ledger.findings import SHOWN_FINDINGS, VerifyReport


def test_a_report_is_good_until_something_is_found():
    """Notes and erased values are no findings."""
    report = VerifyReport(rows=3, erased=2, notes=["the keys are those that the database names"])
    assert report.ok
    report.add("entry changed", "entry 2 is not as it was sealed", batch=1, seq=2)
    assert not report.ok


def test_all_are_counted_and_the_first_thousand_shown():
    """A log that was wholly changed must not fill the memory."""
    report = VerifyReport()
    for seq in range(SHOWN_FINDINGS + 5):
        report.add("entry removed", "gone", seq=seq)
    assert report.found == {"entry removed": SHOWN_FINDINGS + 5}
    assert [one.seq for one in report.findings] == list(range(SHOWN_FINDINGS))


def test_it_is_written_as_json_with_what_each_finding_is_about():
    """As `audit verify --json` prints it."""
    report = VerifyReport(rows=9, batches=2, checkpoints=2)
    report.add("log cut", "an older copy", batch=3)
    facts = json.loads(json.dumps(report.facts()))
    assert (facts["ok"], facts["rows"], facts["found"]) == (False, 9, {"log cut": 1})
    assert facts["findings"] == [
        {"kind": "log cut", "batch": 3, "seq": 0, "because": "an older copy"}
    ]
