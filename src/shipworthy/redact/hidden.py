"""What stands in the place of a secret, and how often each rule has put it there."""

HIDDEN = "***"

# Of this process. Plain numbers, which whoever shows them reads: nothing is asked for them.
REDACTIONS = dict.fromkeys(
    ("card", "credential", "header", "jwt", "key", "known", "name", "pem", "sql", "url"), 0.0
)


def hidden(rule: str, was: str = "") -> str:
    """Return what stands for a secret that `rule` found, and count it unless it was hidden before.

    Must stay one statement without a call in it where it counts, as in `telemetry.Cell`: no count
    is lost between threads.
    """
    if was != HIDDEN:
        REDACTIONS[rule] += 1.0
    return HIDDEN
