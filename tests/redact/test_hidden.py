"""What is hidden is counted, rule by rule."""

from redact.planted import PLANTED
from shipworthy.redact import REDACTIONS, redact


def test_each_rule_counts_what_it_has_hidden_and_only_once() -> None:
    """A line that is redacted again adds nothing; every rule is used by some planted secret."""
    before = dict(REDACTIONS)

    once = [redact(text) for _, text, _ in PLANTED]

    counted = {rule: REDACTIONS[rule] - before[rule] for rule in REDACTIONS}
    assert all(counted.values()), counted
    again = dict(REDACTIONS)
    for text in once:
        assert redact(text) == text
    assert again == REDACTIONS
