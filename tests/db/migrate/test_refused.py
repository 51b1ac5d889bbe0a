"""What ends a migration."""

from shipworthy.db.migrate import MigrationFailed, MigrationRefused, MigratorBusy


def test_a_refusal_has_a_line_for_each_reason():
    """So that all of it can be mended at once."""
    refused = MigrationRefused(["one", "two"])

    assert refused.reasons == ("one", "two")
    assert str(refused) == "one\ntwo"
    assert issubclass(MigratorBusy, MigrationRefused)


def test_a_failure_says_what_stands():
    """The next run goes on behind it."""
    assert MigrationFailed("stopped", applied=["r1"]).applied == ("r1",)
