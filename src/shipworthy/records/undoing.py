"""Take a restore back: remove exactly what it brought, if nothing became of it since.

What is removed is a deletion like any other: it is in the trash, and can be put back.
"""

import json

import sqlalchemy as sa

from shipworthy.audit import CatalogTable, Cell, TableName, read_key, read_shapes, write_key
from shipworthy.context import noted
from shipworthy.records.dialects import restore_dialect
from shipworthy.records.links import cells_of
from shipworthy.records.listing import UNDONE, change_state, find_deletion, left_out, members_of
from shipworthy.records.log import dialect_of, in_chunks
from shipworthy.records.model import DeletionState
from shipworthy.records.order import insert_order
from shipworthy.records.plan import ObstacleKind
from shipworthy.records.refusals import UndoRefused
from shipworthy.records.restoring import LOCK_SECONDS
from shipworthy.records.survey import RestoreSurvey, empty_first, naming_damage, survey_rows

_RESTORED = (DeletionState.RESTORED, DeletionState.PARTLY_RESTORED)


def undo_in(connection: sa.Connection, id: int) -> int:  # noqa: A002
    """Remove what the restore of a deletion brought back; returns how many rows.

    Raises `UndoRefused` where one of them has changed, is gone, or is referred to by a row that
    came after it.
    """
    deletion = find_deletion(connection, id, lock=True)
    if deletion.state not in _RESTORED:
        raise UndoRefused(id, f"it is {deletion.state.value}, so nothing of it came back")
    shapes = read_shapes(connection)
    group = members_of(connection, deletion, shapes)
    left = left_out(connection, deletion) or frozenset()
    back = {row.seq: row for row in group.rows if row.seq not in left}
    relinks = {relink.seq: relink for relink in group.relinks}
    with naming_damage(connection, deletion):
        survey = survey_rows(connection, deletion, group, shapes, rows=back, relinks=relinks)
    _must_be_unchanged(survey)
    restoring = restore_dialect(connection.dialect.name)
    with (
        noted(json.dumps({"undoes": id}, separators=(",", ":"))),
        restoring.short_locks(connection, LOCK_SECONDS),
    ):
        _unlink(connection, survey)
        removed = _remove(connection, survey)
    change_state(connection, deletion, deletion.state, rows=removed, note=UNDONE)
    return removed


def _must_be_unchanged(survey: RestoreSurvey) -> None:
    same = {one.seq for one in survey.obstacles if one.kind is ObstacleKind.ALREADY_BACK}
    for seq, row in survey.rows.items():
        if seq in same:
            continue
        table, key = survey.named(seq)
        raise UndoRefused(
            survey.deletion.id,
            f"rows of {table} have no primary key to be found by"
            if row.key is None
            else f"{table} {key} is not as it came back: changed or deleted since",
        )


def _unlink(connection: sa.Connection, survey: RestoreSurvey) -> None:
    """Empty the links again that the restore has set, as the deletion had done."""
    dialect = dialect_of(connection)
    for obstacle in survey.obstacles:
        relink = survey.relinks.get(obstacle.seq)
        if relink is None or obstacle.kind is not ObstacleKind.ALREADY_BACK:
            continue
        mapping = survey.mappings[relink.shape_id]
        if mapping.now is not None:
            emptied = {
                mapping.columns[name]: after
                for name, (_, after) in relink.columns.items()
                if name in mapping.columns
            }
            dialect.update_row(connection, mapping.now, read_key(relink.key) or (), emptied)


def _remove(connection: sa.Connection, survey: RestoreSurvey) -> int:
    """Delete the rows, children first."""
    dialect = dialect_of(connection)
    _must_be_referred_to_by_none_else(connection, survey)
    order = insert_order(list(survey.rows), survey.links)
    for link in order.later:
        table, key = _place(survey, link.child)
        dialect.update_row(connection, table, key, dict.fromkeys(empty_first(table, link.name)))
    removed = 0
    for wave in reversed(order.waves):
        by_table: dict[TableName, list[int]] = {}
        for seq in wave:
            by_table.setdefault(_place(survey, seq)[0].name, []).append(seq)
        for rows in by_table.values():
            for part in in_chunks(rows):
                keys = [_place(survey, seq)[1] for seq in part]
                removed += dialect.delete_rows(connection, _place(survey, part[0])[0], keys)
    return removed


def _must_be_referred_to_by_none_else(connection: sa.Connection, survey: RestoreSurvey) -> None:
    """Refuse where a row that came later would go along, or keep one of them from going."""
    dialect = dialect_of(connection)
    catalog = dialect.read_catalog(connection)
    ours = {(_place(survey, seq)[0].name, _place(survey, seq)[1]) for seq in survey.rows}
    by_shape: dict[int, list[int]] = {}
    for seq, row in survey.rows.items():
        by_shape.setdefault(row.shape_id, []).append(seq)
    for shape_id, rows in by_shape.items():
        mapping = survey.mappings[shape_id]
        if mapping.now is None:
            continue
        for part in in_chunks(rows):
            images = [mapping.translate(old) for _, old, _ in survey.images(connection, part)]
            for table, key in catalog.references_to(mapping.now.name):
                targets = [cells_of(image, key.target_columns) for image in images]
                wanted = [cells for cells in targets if cells is not None]
                if not wanted:
                    continue
                for live in dialect.select_rows(connection, table, key.columns, wanted):
                    its_key = tuple(live.get(column) for column in table.primary_key)
                    if (table.name, its_key) not in ours:
                        raise UndoRefused(
                            survey.deletion.id,
                            f"{table.name} {write_key(its_key)} refers to a row of it, and came "
                            "later",
                        )


def _place(survey: RestoreSurvey, seq: int) -> tuple[CatalogTable, tuple[Cell, ...]]:
    row = survey.rows[seq]
    now = survey.mappings[row.shape_id].now
    key = read_key(row.key)
    if now is None or key is None:
        table, _ = survey.named(seq)
        raise UndoRefused(survey.deletion.id, f"rows of {table} have no primary key to be found by")
    return now, key
