"""A proof that an entry is in the log, as a file that needs neither the database nor this package.

`check_proof` takes a proof and keys and nothing else. The format, and the sixty lines that check it
with any library of Ed25519, stand in docs/explanation/what-tampering-shows.md.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from shipworthy.audit.cells import CONTEXT_FIELDS, ENTRY_FIELDS, commitment, hexadecimal
from shipworthy.audit.ledger.batch import BatchHeader, LeavesInvalid
from shipworthy.audit.ledger.merkle import leaf_hash, root_from_inclusion
from shipworthy.audit.ledger.note import Checkpoint, Note, NoteInvalid, PublicKey
from shipworthy.errors import ShipworthyError

FORMAT: Final = "shipworthy.audit/proof/1"


@final
class ProofInvalid(ShipworthyError):
    """The file proves nothing; the message says at which step it fails."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerProof:
    """What leads from an entry to a signed checkpoint.

    `entry` is the text whose hash is the leaf; `index` its place in the batch. The batch's header
    is the leaf of the log at the place before its number. `openings` show what personal values
    were: salt and value, by the name in the entry.
    """

    entry: str
    index: int
    batch_path: tuple[str, ...]
    header: str
    log_path: tuple[str, ...]
    checkpoint: str
    openings: Mapping[str, tuple[str, str]]

    def text(self) -> str:
        """Return it as a file."""
        facts = {
            "format": FORMAT,
            "entry": self.entry,
            "index": self.index,
            "batch_path": list(self.batch_path),
            "header": self.header,
            "log_path": list(self.log_path),
            "checkpoint": self.checkpoint,
            "openings": {name: list(pair) for name, pair in self.openings.items()},
        }
        return json.dumps(facts, ensure_ascii=False, indent=2) + "\n"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenEntry:
    """What a proof shows: the entry as it was sealed, in which batch, and who signed it."""

    facts: Mapping[str, Any]
    header: BatchHeader
    checkpoint: Checkpoint
    key: PublicKey


def read_proof(text: str) -> LedgerProof:
    """Read what `LedgerProof.text` gives; raises `ProofInvalid`."""
    try:
        facts = json.loads(text)
        if facts["format"] != FORMAT:
            raise ProofInvalid(f"a proof of the format {facts['format']!r}; {FORMAT!r} is known")
        return LedgerProof(
            entry=_text(facts["entry"]),
            index=int(facts["index"]),
            batch_path=tuple(map(_text, facts["batch_path"])),
            header=_text(facts["header"]),
            log_path=tuple(map(_text, facts["log_path"])),
            checkpoint=_text(facts["checkpoint"]),
            openings={
                name: (_text(salt), _text(value))
                for name, (salt, value) in facts["openings"].items()
            },
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProofInvalid(f"no proof: {type(error).__name__} while it was read") from None


def check_proof(proof: LedgerProof, trusted: Sequence[PublicKey]) -> ProvenEntry:
    """Return what the proof shows; raises `ProofInvalid` where it shows nothing.

    Pure: what is believed are `trusted` keys alone.
    """
    try:
        header = BatchHeader.parse(proof.header)
        note = Note.parse(proof.checkpoint)
        checkpoint = Checkpoint.of(note)
        batch_path = [bytes.fromhex(step) for step in proof.batch_path]
        log_path = [bytes.fromhex(step) for step in proof.log_path]
    except (LeavesInvalid, NoteInvalid, ValueError) as error:
        raise ProofInvalid(f"a part of the proof cannot be read: {error}") from None
    leaf = leaf_hash(proof.entry.encode("utf-8", "surrogatepass"))
    root = root_from_inclusion(leaf, proof.index, header.entries, batch_path)
    if root is None or root.hex() != header.root:
        raise ProofInvalid(
            f"the entry does not lead to the root of batch {header.number}: the entry, its place "
            f"or the path was changed"
        )
    log_root = root_from_inclusion(header.leaf, header.number - 1, checkpoint.size, log_path)
    if log_root != checkpoint.root:
        raise ProofInvalid(
            f"batch {header.number} does not lead to the root of the checkpoint of "
            f"{checkpoint.size} batches: its header, the path or the checkpoint was changed"
        )
    key = next((key for key in trusted if key.signed(note)), None)
    if key is None:
        raise ProofInvalid("the checkpoint is signed by no key that is trusted here")
    facts = _facts(proof.entry)
    sealed = dict(facts["commitments"])
    for name, (salt, value) in proof.openings.items():
        if not hexadecimal(salt) or sealed.get(name) != commitment(salt, value):
            raise ProofInvalid(f"the value of '{name}' is not the one that was sealed")
    opened = {name: value for name, (_, value) in proof.openings.items()}
    return ProvenEntry(
        facts={**facts, "personal": opened}, header=header, checkpoint=checkpoint, key=key
    )


def _facts(entry: str) -> dict[str, Any]:
    try:
        values = json.loads(entry)
        facts = dict(zip(ENTRY_FIELDS, values[: len(ENTRY_FIELDS)], strict=True))
        facts["commitments"] = values[len(ENTRY_FIELDS)]
        context = values[len(ENTRY_FIELDS) + 1 :]
        facts["context"] = dict(zip(CONTEXT_FIELDS, context[0], strict=True)) if context else None
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise ProofInvalid(f"the entry of the proof is none: {type(error).__name__}") from None
    return facts


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text was expected")
    return value
