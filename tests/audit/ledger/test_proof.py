"""A proof with anything changed is none, and what is no proof is said."""

import json
from dataclasses import replace

import pytest

from audit.ledger.trail import KEY
from shipworthy.audit.ledger.batch import BatchHeader
from shipworthy.audit.ledger.merkle import leaf_hash
from shipworthy.audit.ledger.note import Checkpoint, PrivateKey
from shipworthy.audit.ledger.proof import LedgerProof, ProofInvalid, check_proof, read_proof
from shipworthy.audit.ledger.prove import prove

pytestmark = pytest.mark.slow


def proof_of(trail, seq):
    with trail.engine.connect() as connection:
        return prove(connection, seq)


def test_a_proof_with_anything_changed_is_none(sqlite_trail):
    """Each part of the file, one after the other."""
    sqlite_trail.write(3)
    sqlite_trail.seal(entries=2)
    proof = proof_of(sqlite_trail, 4)
    other = proof_of(sqlite_trail, 5)
    for part in ("entry", "index", "batch_path", "header", "log_path", "checkpoint"):
        if getattr(proof, part) == getattr(other, part):
            continue
        with pytest.raises(ProofInvalid):
            check_proof(replace(proof, **{part: getattr(other, part)}), [KEY.public])
    with pytest.raises(ProofInvalid):
        check_proof(replace(proof, log_path=()), [KEY.public])
    with pytest.raises(ProofInvalid, match="cannot be read"):
        check_proof(replace(proof, log_path=("zz",)), [KEY.public])
    with pytest.raises(ProofInvalid, match="signed by no key that is trusted"):
        check_proof(proof, [PrivateKey.generate("a").public])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "other"}', '{"format": "shipworthy.audit/proof/1"}']
)
def test_what_is_no_proof_is_said(text):
    with pytest.raises(ProofInvalid):
        read_proof(text)


def test_a_part_that_is_no_text_is_no_proof(sqlite_trail):
    sqlite_trail.write(1)
    sqlite_trail.seal()
    facts = json.loads(proof_of(sqlite_trail, 1).text())
    facts["entry"] = ["not", "text"]
    with pytest.raises(ProofInvalid, match="no proof: TypeError"):
        read_proof(json.dumps(facts))


@pytest.mark.parametrize("entry", ["4711", "[]", "no JSON", "[1,2,3,4,5,6,7,8,9,10,{},[1]]"])
def test_a_text_that_was_sealed_and_is_no_entry_proves_none(entry):
    """Whoever holds the key can sign anything; what is shown must still be an entry."""
    root = leaf_hash(entry.encode())
    header = BatchHeader(
        number=1,
        after=(0, 0),
        to=(1, 1),
        entries=1,
        late=0,
        root=root.hex(),
        leaves="",
        previous="",
        at_microseconds=1,
        coverage="",
        token=1,
    )
    checkpoint = Checkpoint(origin="test", size=1, root=header.leaf)
    proof = LedgerProof(
        entry=entry,
        index=0,
        batch_path=(),
        header=header.text,
        log_path=(),
        checkpoint=str(checkpoint.signed_by([KEY])),
        openings={},
    )
    with pytest.raises(ProofInvalid, match="the entry of the proof is none"):
        check_proof(proof, [KEY.public])
