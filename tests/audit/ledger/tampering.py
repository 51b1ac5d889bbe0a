"""Ways to tamper with what lies in the database, each in one transaction that is rolled back.

`WAYS` maps what is done, in words, to a function that does it and the kinds of findings of which
one at least must come of it. The guards of the log are gone before: who tampers owns the database.
"""

from collections.abc import Callable
from dataclasses import replace

import sqlalchemy as sa

from shipworthy.audit.ledger.note import Note
from shipworthy.audit.tables import BATCHES, CHECKPOINTS, CONTEXTS, ENTRIES, META, PERSONAL, SHAPES

Way = tuple[Callable[[sa.Connection], object], set[str]]
CHANGED, REMOVED, INSERTED = {"entry changed"}, {"entry removed"}, {"entry inserted"}


def seqs(connection: sa.Connection) -> list[int]:
    return list(connection.scalars(sa.select(ENTRIES.c.seq).order_by(ENTRIES.c.seq)))


def middle(connection: sa.Connection) -> int:
    numbers = seqs(connection)
    return numbers[len(numbers) // 2]


def updates(**values: object) -> Callable[[sa.Connection], object]:
    return lambda it: it.execute(
        sa.update(ENTRIES).where(ENTRIES.c.seq == middle(it)).values(**values)
    )


def entry(connection: sa.Connection, seq: int) -> dict[str, object]:
    return dict(connection.execute(sa.select(ENTRIES).where(ENTRIES.c.seq == seq)).mappings().one())


def swap(*names: str) -> Callable[[sa.Connection], None]:
    def swapped(connection: sa.Connection) -> None:
        first, second = seqs(connection)[2], seqs(connection)[6]
        one, other = entry(connection, first), entry(connection, second)
        for seq, values in ((first, other), (second, one)):
            connection.execute(
                sa.update(ENTRIES)
                .where(ENTRIES.c.seq == seq)
                .values({name: values[name] for name in names})
            )

    return swapped


def reorder(connection: sa.Connection) -> None:
    first, second = seqs(connection)[2], seqs(connection)[6]
    for before, after in ((first, 10**6), (second, first), (10**6, second)):
        connection.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == before).values(seq=after))


def copied(connection: sa.Connection, **changed: object) -> None:
    """Insert a copy of an entry among the old ones: with a number that no sealer comes by."""
    values = entry(connection, seqs(connection)[3]) | {"seq": -5} | changed
    connection.execute(sa.insert(ENTRIES).values(values))


def last(table: sa.Table, column: str) -> Callable[[sa.Connection], int]:
    return lambda it: it.scalar(sa.select(sa.func.max(table.c[column])))


def drop_last_batches(connection: sa.Connection) -> None:
    """The last two of them, and the entries they have."""
    end = last(BATCHES, "number")(connection)
    cut = connection.scalar(sa.select(BATCHES.c.to_position).where(BATCHES.c.number == end - 2))
    place = (
        ENTRIES.c.position
        if connection.scalar(sa.select(sa.func.max(ENTRIES.c.position)))
        else ENTRIES.c.seq
    )
    connection.execute(sa.delete(BATCHES).where(BATCHES.c.number > end - 2))
    connection.execute(sa.delete(ENTRIES).where(place > cut))


def batch(number: int, **values: object) -> Callable[[sa.Connection], object]:
    return lambda it: it.execute(
        sa.update(BATCHES).where(BATCHES.c.number == number).values(**values)
    )


def header(number: int, old: str, new: str) -> Callable[[sa.Connection], object]:
    return lambda it: it.execute(
        sa.update(BATCHES)
        .where(BATCHES.c.number == number)
        .values(header=sa.func.replace(BATCHES.c.header, old, new))
    )


def forge_batch(connection: sa.Connection) -> None:
    """One more batch, which says that all before it was taken away by retention."""
    end = last(BATCHES, "number")(connection)
    values = dict(
        connection.execute(sa.select(BATCHES).where(BATCHES.c.number == end)).mappings().one()
    )
    text = values["header"].replace('"says":{}', f'"says":{{"pruned_to_batch":{end}}}')
    text = text.replace(f'"number":{end}', f'"number":{end + 1}')
    connection.execute(sa.insert(BATCHES).values(values | {"number": end + 1, "header": text}))
    connection.execute(sa.delete(ENTRIES))


def personal(**values: object) -> Callable[[sa.Connection], object]:
    def change(connection: sa.Connection) -> None:
        seq = connection.scalar(sa.select(sa.func.min(PERSONAL.c.seq)))
        connection.execute(sa.update(PERSONAL).where(PERSONAL.c.seq == seq).values(**values))

    return change


def sign_otherwise(connection: sa.Connection) -> None:
    """Change one bit of each signature."""
    for size, text in connection.execute(sa.select(CHECKPOINTS.c.size, CHECKPOINTS.c.note)).all():
        note = Note.parse(text)
        forged = [
            replace(one, signature=bytes([one.signature[0] ^ 1]) + one.signature[1:])
            for one in note.signatures
        ]
        connection.execute(
            sa.update(CHECKPOINTS)
            .where(CHECKPOINTS.c.size == size)
            .values(note=str(Note(note.text, tuple(forged))))
        )


VALUE = {"personal value changed"}
BATCH = {"batch changed"}
WAYS: dict[str, Way] = {
    "an entry's position": (updates(position=10**9), CHANGED | REMOVED),
    "an entry's time": (updates(at_microseconds=1), CHANGED),
    "an entry's transaction": (updates(tx="s0"), CHANGED),
    "an entry's table": (updates(table_id=77), CHANGED),
    "an entry's shape": (updates(shape_id=77), CHANGED),
    "an entry's operation": (updates(op="T"), CHANGED),
    "an entry's key": (updates(key='["i999"]'), CHANGED),
    "an entry's old image": (updates(old='{"id":"i1"}'), CHANGED),
    "an entry's new image": (updates(new='{"id":"i1"}'), CHANGED),
    "an entry's images made none": (updates(old=None, new=None), CHANGED),
    "an entry's number, to the end": (updates(seq=10**6), REMOVED),
    "an entry in the middle deleted": (
        lambda it: it.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == middle(it))), REMOVED,
    ),
    "the first entry deleted": (
        lambda it: it.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == seqs(it)[0])), REMOVED,
    ),
    "the last entry deleted": (
        lambda it: it.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == seqs(it)[-1])), REMOVED,
    ),
    "all entries deleted": (lambda it: it.execute(sa.delete(ENTRIES)), REMOVED),
    "two entries swapped their images": (swap("old", "new"), CHANGED),
    "two entries swapped their contexts": (swap("tx", "at_microseconds"), CHANGED),
    "two entries swapped their numbers": (reorder, CHANGED),
    "an entry inserted a second time": (copied, INSERTED),
    "an entry inserted among the old ones": (lambda it: copied(it, op="D", key='["i9"]'), INSERTED),
    "a personal value changed": (personal(value="tsomebody@else.org"), VALUE),
    "the salt of a personal value changed": (personal(salt="00"), VALUE),
    "a personal value changed, and its salt taken away": (
        personal(salt=None, value="tsomebody@else.org"), VALUE,
    ),
    "a commitment changed": (personal(commitment="0" * 64), VALUE | CHANGED),
    "a commitment and its value changed together": (
        personal(salt="00", value="tx", commitment="3a" * 32), VALUE | CHANGED,
    ),
    "a commitment taken away": (personal(commitment=None), VALUE),
    "a personal value deleted with its commitment": (
        lambda it: it.execute(sa.delete(PERSONAL)), CHANGED,
    ),
    "the header of a batch changed": (header(2, '"entries":4', '"entries":5'), BATCH),
    "the header of the last batch changed": (
        lambda it: header(last(BATCHES, "number")(it), '"late":0', '"late":1')(it),
        {"log rewritten"} | BATCH,
    ),
    "the header of a batch that is no header any more": (batch(2, header="{}"), BATCH),
    "the number of entries of a batch": (batch(2, entries=3), BATCH),
    "the root of a batch": (batch(2, root="0" * 64), BATCH),
    "the time of a batch set back": (batch(2, at_microseconds=1), BATCH),
    "where a batch ends": (batch(2, to_position=10**6), BATCH),
    "the list of a batch's entries changed": (batch(2, leaves='{"seqs":[],"prints":""}'), BATCH),
    "the list of a batch's entries taken away, and one of them": (
        lambda it: (batch(2, leaves=None)(it), updates(op="T")(it)), BATCH,
    ),
    "a batch in the middle removed": (
        lambda it: it.execute(sa.delete(BATCHES).where(BATCHES.c.number == 2)), {"batch removed"},
    ),
    "the first batch removed": (
        lambda it: it.execute(sa.delete(BATCHES).where(BATCHES.c.number == 1)), {"batch removed"},
    ),
    "the last batches removed, with their entries": (drop_last_batches, {"log cut"}),
    "all batches removed": (lambda it: it.execute(sa.delete(BATCHES)), {"log cut"}),
    "a batch added that says all was pruned": (forge_batch, {"batch unsigned"}),
    "the last checkpoint removed": (
        lambda it: it.execute(
            sa.delete(CHECKPOINTS).where(CHECKPOINTS.c.size == last(BATCHES, "number")(it))
        ),
        {"batch unsigned"},
    ),
    "the root of a checkpoint": (
        lambda it: it.execute(sa.update(CHECKPOINTS).values(root="0" * 64)), {"checkpoint changed"},
    ),
    "the note of a checkpoint": (
        lambda it: it.execute(sa.update(CHECKPOINTS).values(note="no")), {"checkpoint changed"},
    ),
    "the signature of a checkpoint": (sign_otherwise, {"checkpoint of an unknown key"}),
    "what the table of old entries was called": (
        lambda it: it.execute(
            sa.update(SHAPES).values(facts=sa.func.replace(SHAPES.c.facts, "people", "sheep"))
        ),
        {"shape changed"},
    ),
    "a table's shape taken away": (lambda it: it.execute(sa.delete(SHAPES)), {"shape changed"}),
    "the name of the log taken away, and all it had": (
        lambda it: (
            it.execute(sa.delete(META).where(META.c.name == "ledger.origin")),
            it.execute(sa.delete(ENTRIES)),
        ),
        {"log cut"},
    ),
    "the name of the log": (
        lambda it: it.execute(
            sa.update(META).where(META.c.name == "ledger.origin").values(value="another")
        ),
        {"checkpoint changed"},
    ),
}  # fmt: skip
# Where transactions have a context in the log: SQLite's foreign clients have none.
CONTEXT_WAYS: dict[str, Way] = {
    "the actor of a transaction": (
        lambda it: it.execute(sa.update(CONTEXTS).values(actor="somebody else")), CHANGED,
    ),
    "the address of a transaction": (
        lambda it: it.execute(sa.update(CONTEXTS).values(address="192.0.2.1")), CHANGED,
    ),
    "the time of a transaction": (
        lambda it: it.execute(sa.update(CONTEXTS).values(at_microseconds=1)), CHANGED,
    ),
    "the context of a transaction deleted": (
        lambda it: it.execute(sa.delete(CONTEXTS)), CHANGED,
    ),
}  # fmt: skip
