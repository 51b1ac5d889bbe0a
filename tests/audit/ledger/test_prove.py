"""A proof is checked with a key and nothing else, and a proof of anything else is none."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.ledger.trail import KEY
from shipworthy.audit.ledger.proof import ProofInvalid, check_proof, read_proof
from shipworthy.audit.ledger.prove import prove
from shipworthy.audit.tables import CHECKPOINTS, ENTRIES
from shipworthy.errors import Misuse, ShipworthyError

pytestmark = pytest.mark.slow


def proof_of(trail, seq, **options):
    with trail.engine.connect() as connection:
        return prove(connection, seq, **options)


def test_every_entry_is_proven_by_a_file(trail):
    """Also when the log has grown since its batch."""
    trail.write(3)
    trail.seal(entries=2)
    with trail.engine.connect() as connection:
        seqs = connection.scalars(sa.select(ENTRIES.c.seq)).all()
    for seq in seqs:
        proof = read_proof(proof_of(trail, seq).text())
        proven = check_proof(proof, [KEY.public])
        assert proven.facts["seq"] == seq
        assert proven.facts["op"] in "IU"
        assert proven.key == KEY.public


def test_personal_values_are_shown_only_when_asked(trail):
    """The commitment that was sealed shows that they are the ones."""
    trail.write(1)
    trail.seal()
    with trail.engine.connect() as connection:
        first = connection.scalar(sa.select(ENTRIES.c.seq).where(ENTRIES.c.old.is_not(None)))
    assert ".org" not in proof_of(trail, first).text()

    proof = proof_of(trail, first, openings=True)
    values = check_proof(proof, [KEY.public]).facts["personal"]
    assert {value.lstrip("t") for value in values.values()} == {"1@example.org", "1@new.org"}
    name, (salt, _) = next(iter(proof.openings.items()))
    with pytest.raises(ProofInvalid, match="not the one that was sealed"):
        check_proof(replace(proof, openings={name: (salt, "tother")}), [KEY.public])


def test_what_is_not_sealed_or_not_there_cannot_be_proven(sqlite_trail):
    sqlite_trail.write(1)
    with pytest.raises(Misuse, match="not sealed yet"):
        proof_of(sqlite_trail, 1)
    with pytest.raises(Misuse, match="no entry 99"):
        proof_of(sqlite_trail, 99)


def test_what_was_changed_cannot_be_proven(sqlite_trail):
    sqlite_trail.write(1)
    sqlite_trail.seal()
    sqlite_trail.unguarded()
    sqlite_trail.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == 2).values(op="D"))
    with pytest.raises(ShipworthyError, match="entry 2 is not as it was sealed"):
        proof_of(sqlite_trail, 2)
    sqlite_trail.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == 2))
    with pytest.raises(ShipworthyError, match="entry 2 of batch 1 is not there"):
        proof_of(sqlite_trail, 1)


def test_without_a_checkpoint_nothing_is_proven(sqlite_trail):
    sqlite_trail.write(1)
    sqlite_trail.seal()
    sqlite_trail.unguarded()
    sqlite_trail.execute(sa.delete(CHECKPOINTS))
    with pytest.raises(ShipworthyError, match="no checkpoint of 1 batches"):
        proof_of(sqlite_trail, 1)


def test_the_program_in_the_docs_checks_a_proof_without_us(trail, tmp_path):
    """It imports nothing of ours, and asks no database."""
    page = Path(__file__).parents[3] / "docs" / "explanation" / "what-tampering-shows.md"
    program = page.read_text().split("```python\n")[1].split("```")[0]
    assert "shipworthy" not in program
    (tmp_path / "check.py").write_text(program)
    trail.write(2)
    trail.seal(entries=3)
    with trail.engine.connect() as connection:
        last = connection.scalar(sa.select(sa.func.max(ENTRIES.c.seq)))
    text = proof_of(trail, last).text()

    def checked(text):
        (tmp_path / "proof.json").write_text(text)
        command = [sys.executable, "check.py", "proof.json", str(KEY.public)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert checked(text).stdout.startswith(f"proven: [{last},")
    assert "not in the batch" in checked(text.replace('"entry": "[', '"entry": "[1')).stderr
