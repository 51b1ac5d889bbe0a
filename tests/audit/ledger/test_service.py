"""The sealer of a database as the settings have it."""

import pytest
import sqlalchemy as sa

from audit.ledger.trail import KEY
from shipworthy.audit.ledger.sealing import NothingToSeal
from shipworthy.audit.ledger.service import SealKeyOpen, sealing_of
from shipworthy.audit.ledger.settings import LedgerSettings
from shipworthy.audit.tables import META
from shipworthy.db import engine_urls_here, protect_all, protections
from shipworthy.events import listen
from shipworthy.settings import Secret


def test_a_database_without_a_log_has_nothing_to_seal(tmp_path):
    """Neither one that is not there, which is not made, nor one whose trail has no name."""
    url = f"sqlite:///{tmp_path}/app.db"
    with pytest.raises(NothingToSeal):
        sealing_of(LedgerSettings(), url)._connect()
    assert not (tmp_path / "app.db").exists()
    engine = sa.create_engine(url)
    META.create(engine)
    engine.dispose()
    with pytest.raises(NothingToSeal):
        sealing_of(LedgerSettings(), url)._connect()


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "told"), [(0o600, 0), (0o644, 1)])
def test_a_key_that_others_may_read_is_told(sqlite_trail, tmp_path, mode, told):
    """It seals all the same: the log must not stand still for it."""
    (tmp_path / "key").write_text(KEY.reveal())
    (tmp_path / "key").chmod(mode)
    heard = []
    stop = listen(heard.append, SealKeyOpen)
    url = sqlite_trail.url.replace("sqlite:", "sqlite+aiosqlite:")
    sealing = sealing_of(LedgerSettings(key_path=str(tmp_path / "key")), url)
    engine = sealing._connect()
    sealer = sealing._sealer_of(engine)
    stop()
    assert [one.path for one in heard] == [str(tmp_path / "key")] * told
    sqlite_trail.write(1)
    with sqlite_trail.lease() as lease:
        assert sealer.seal(lease).header.entries == 3
    engine.dispose()


@pytest.mark.slow
def test_a_key_from_the_environment_needs_no_file(sqlite_trail, tmp_path):
    """Nor is one looked at."""
    settings = LedgerSettings(key=Secret(KEY.reveal()), key_path=str(tmp_path / "none"))
    sealing = sealing_of(settings, sqlite_trail.url)
    engine = sealing._connect()
    sealer = sealing._sealer_of(engine)
    sqlite_trail.write(1)
    with sqlite_trail.lease() as lease:
        assert sealer.seal(lease) is not None
    engine.dispose()


@pytest.mark.slow
def test_the_sealers_engine_is_none_of_those_that_users_see(sqlite_trail, tmp_path):
    """Under `run` the first engine is called `main`: that is to be the application's.

    A worker that does not seal has one, too, to see whether it is to.
    """
    settings = LedgerSettings(key=Secret(KEY.reveal()), key_path=str(tmp_path / "none"))
    end = protect_all()
    try:
        ours = sealing_of(settings, sqlite_trail.url)._connect()
        theirs = sa.create_engine(sqlite_trail.url)
        with ours.connect(), theirs.connect():
            assert [one.name for one in protections()] == ["main"]
            assert engine_urls_here() == (theirs.url,)
        ours.dispose()
        theirs.dispose()
    finally:
        end()
