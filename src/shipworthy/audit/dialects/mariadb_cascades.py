"""MariaDB: what foreign keys do to other rows, written to the log by the trigger of the first row.

InnoDB fires no trigger for rows that a foreign key deletes or changes. So the trigger of the row
that the statement deletes reads, before it goes, which rows will go with it and which will lose
their link; and the trigger of the row whose key changes reads afterwards which rows followed.

It only reads, under shared locks (a plain read would see the transaction's old snapshot). It never
deletes or changes itself: a trigger may not write a table that its statement reads, so
`DELETE FROM parents WHERE id IN (SELECT parent_id FROM children)` would fail; and triggers of the
application on children would fire that do not fire without us. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from shipworthy.audit.dialects.mariadb_cells import as_key, literal, name, same
from shipworthy.audit.dialects.mariadb_entries import (
    EntrySql,
    PersonalSql,
    context_sql,
    entry_sql,
    full_image,
    partial_image,
    personal_sql,
    subject,
    value_beside,
    value_json,
)
from shipworthy.audit.dialects.mariadb_long import limits_of
from shipworthy.audit.dialects.mariadb_reach import (
    LOCK,
    ROW,
    CascadeLink,
    CascadeReach,
    equal,
    key_paths,
    reach_of,
)
from shipworthy.audit.model import Catalog, CatalogColumn, CatalogTable


def delete_walk(table: CatalogTable, catalog: Catalog) -> str:
    """Return what the trigger before a delete does; '' where no other row is touched."""
    reach = reach_of(table, catalog)
    if not reach.touched:
        return ""
    personal = catalog.personal
    parts = [
        _log_deleted(reach, gone, personal.get(gone.name, {})) for gone in reversed(reach.deleted)
    ]
    parts += [_log_unlinked(reach, child, personal.get(child.name, {})) for child in reach.unlinked]
    some = " OR ".join(
        f"EXISTS (SELECT 1 FROM {name(link.child.name.name)} {ROW} WHERE {link.joins('OLD')} "
        f"{LOCK})"
        for link in reach.touched
        if link.parent == table.name
    )
    walk = _with_variables(table, " ".join(parts))
    return f"IF @@SESSION.foreign_key_checks AND ({some}) THEN {walk} END IF;"


def _with_variables(table: CatalogTable, walk: str) -> str:
    """Return a walk that reads the deleted row from variables.

    A common table expression that is named twice is read again by the server, which does not know
    OLD any more then ("Unknown column 'id' in 'OLD'").
    """
    declared: list[str] = []
    for place, column in enumerate(table.columns):
        old = f"OLD.{name(column.name)}"
        if old in walk:
            variable = f"shipworthy_old_{place}"
            walk = walk.replace(old, variable)
            kind = f"{name(table.name.name)}.{name(column.name)}"
            declared.append(f"DECLARE {variable} TYPE OF {kind} DEFAULT {old};")
    return f"BEGIN {' '.join(declared)} {walk} END;" if declared else walk


def update_walk(table: CatalogTable, catalog: Catalog) -> str:
    """Return what the trigger after an update does about the rows whose link followed a key."""
    return " ".join(_log_followed(path, catalog) for path in key_paths(table, catalog))


def cascades_silent(table: CatalogTable, catalog: Catalog) -> Iterator[str]:
    """Say where the log may have rows that stayed.

    The trigger writes what will go before the engine looks whether it may. Where it may not, the
    statement fails and takes the entries with it, unless it was told to go on.
    """
    reach = reach_of(table, catalog)
    kept = {
        f"{further.name}.{key.name}"
        for gone in (table, *reach.deleted)
        for further, key in catalog.references_to(gone.name)
        if key.on_delete in ("restrict", "no action")
    }
    if reach.touched and kept:
        yield (
            f"a DELETE IGNORE that '{min(kept)}' stops has entries all the same of rows that were "
            f"to go along and stayed; `shipworthy audit reconcile` finds them"
        )


def cascades_refused(table: CatalogTable, catalog: Catalog) -> Iterator[str]:
    """Name what foreign keys do from this table on that is not captured."""
    for child, key in catalog.references_to(table.name):
        if key.on_update == "set null":
            yield (
                f"ON UPDATE SET NULL of '{child.name}.{key.name}' is not captured; "
                f"ON UPDATE CASCADE is"
            )
    for link in reach_of(table, catalog).nulling:
        for further, key in catalog.references_to(link.child.name):
            if set(key.target_columns) & set(link.key.columns) and key.on_update in (
                "cascade",
                "set null",
            ):
                yield (
                    f"what '{further.name}.{key.name}' does when '{link.child.name}' loses its "
                    f"link is not captured"
                )
    ends = [path[-1].child.name for path in key_paths(table, catalog)]
    for twice in sorted({str(end) for end in ends if ends.count(end) > 1}):
        yield f"a change of its key reaches '{twice}' by several ways, and is captured for each"


def _log_deleted(reach: CascadeReach, table: CatalogTable, personal: Mapping[str, str]) -> str:
    """Return the loop that writes the rows of `table` that will be deleted along."""
    fields = _fields(table, table.columns, personal)
    if table.primary_key:
        sets = reach.sets([table.name])
        gone = reach.gone(table.name)
        source = (
            f"{gone} JOIN {name(table.name.name)} {ROW} ON "
            f"{equal(ROW, table.primary_key, gone, table.primary_key)}"
        )
        condition = _not_the_root(reach, table)
    else:
        links = [link for link in reach.taking if link.child.name == table.name]
        sets = reach.sets([link.parent for link in links])
        source = f"{name(table.name.name)} {ROW}"
        condition = " OR ".join(reach.hit(link) for link in links)
    query = _Query(
        sets=sets,
        source=source,
        condition=condition,
        key=_key(table),
        old=full_image(fields),
        new="NULL",
        op="D",
    )
    return _loop(table, query, _asides(table, "o", _cells(table, table.columns), personal))


def _log_unlinked(reach: CascadeReach, table: CatalogTable, personal: Mapping[str, str]) -> str:
    """Return the loop that writes the rows of `table` whose links will become NULL."""
    links = [link for link in reach.nulling if link.child.name == table.name]
    sets = reach.sets([table.name, *(link.parent for link in links)])
    condition = "(" + " OR ".join(reach.hit(link) for link in links) + ")"
    if reach.is_deleted(table.name) and table.primary_key:
        gone = reach.gone(table.name)
        key = ",".join(f"{ROW}.{name(part)}" for part in table.primary_key)
        lost = ",".join(map(name, table.primary_key))
        condition += f" AND ({key}) NOT IN (SELECT {lost} FROM {gone})"
    if table.name == reach.root.name and (own := _not_the_root(reach, table)) != "TRUE":
        condition += f" AND {own}"
    changed = {
        column: " OR ".join(reach.hit(link) for link in links if column in link.key.columns)
        for link in links
        for column in link.key.columns
    }
    columns = [it for it in table.columns if it.name in changed]
    if table.primary_key:
        unchanged = {column: f"NOT ({hit})" for column, hit in changed.items()}
        fields = _fields(table, columns, personal)
        old = partial_image(fields, unchanged)
        new = partial_image(dict.fromkeys(fields, "'null'"), unchanged)
        values = {
            column: f"IF({changed[column]},{value},NULL)"
            for column, value in _cells(table, columns).items()
        }
        asides = _asides(table, "o", values, personal)
    else:
        fields = _fields(table, table.columns, personal)
        old = full_image(fields)
        new = full_image(
            {
                column: f"IF({changed[column]},'null',{value})" if column in changed else value
                for column, value in fields.items()
            }
        )
        values = _cells(table, table.columns)
        kept = {
            column: f"IF({changed[column]},NULL,{value})" if column in changed else value
            for column, value in values.items()
        }
        asides = [
            *_asides(table, "o", values, personal),
            *_asides(table, "n", kept, personal),
        ]
    query = _Query(
        sets=sets,
        source=f"{name(table.name.name)} {ROW}",
        condition=condition,
        key=_key(table),
        old=old,
        new=new,
        op="U",
    )
    return _loop(table, query, asides)


def _log_followed(path: Sequence[CascadeLink], catalog: Catalog) -> str:
    """Return the loop that writes the rows at the end of `path` whose link followed a new key."""
    first, table = path[0], path[-1].child
    # Each column that changes, and the column of the row at the beginning that it follows.
    follows: dict[str, str] = {}
    for link in path:
        targets = link.key.target_columns
        follows = {
            column: target if link is first else follows[target]
            for column, target in zip(link.key.columns, targets, strict=True)
            if link is first or target in follows
        }
    aliases = [*(f"via{place}" for place in range(len(path) - 1)), ROW]
    source = f"{name(first.child.name.name)} {aliases[0]}"
    for link, before, alias in zip(path[1:], aliases, aliases[1:], strict=False):
        on = equal(alias, link.key.columns, before, link.key.target_columns)
        source += f" JOIN {name(link.child.name.name)} {alias} ON {on}"
    start = equal(aliases[0], first.key.columns, "NEW", first.key.target_columns)
    columns = [it for it in table.columns if it.name in follows]
    unchanged = {
        it.name: same(f"OLD.{name(follows[it.name])}", f"NEW.{name(follows[it.name])}", it.type)
        for it in columns
    }
    ends = {
        row: {it.name: f"{row}.{name(follows[it.name])}" for it in columns}
        for row in ("OLD", "NEW")
    }
    if not table.primary_key:
        columns = list(table.columns)
    personal = catalog.personal.get(table.name, {})
    limits = limits_of(table)
    images, asides = [], []
    for side, row in (("o", "OLD"), ("n", "NEW")):
        references = {it.name: ends[row].get(it.name, f"{ROW}.{name(it.name)}") for it in columns}
        fields = {
            it.name: value_json(
                references[it.name],
                it.type,
                personal=it.name in personal,
                limit=limits.get(it.name, ""),
            )
            for it in columns
        }
        images.append(partial_image(fields, unchanged) if table.primary_key else full_image(fields))
        values = {
            it.name: value_beside(references[it.name], it.type, limits.get(it.name, ""))
            for it in columns
        }
        asides += _asides(table, side, values, personal)
    query = _Query(
        sets="",
        source=source,
        condition=start,
        key=_key(table, ends["OLD"]),
        old=images[0],
        new=images[1],
        op="U",
    )
    changed = " AND ".join(unchanged.values())
    body = _loop(table, query, asides)
    return f"IF @@SESSION.foreign_key_checks AND NOT ({changed}) THEN {body} END IF;"


def _not_the_root(reach: CascadeReach, table: CatalogTable) -> str:
    """Return the SQL that leaves out the row the statement deletes: it has its own trigger."""
    if table.name != reach.root.name:
        return "TRUE"
    if not table.primary_key:
        return "TRUE"
    return f"NOT ({equal(ROW, table.primary_key, 'OLD', table.primary_key)})"


def _key(table: CatalogTable, replaced: Mapping[str, str] | None = None) -> str:
    columns = [it for part in table.primary_key if (it := table.column(part)) is not None]
    return as_key(columns, ROW, replaced) if columns else "NULL"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    """Which rows a loop goes through, and what of them is written."""

    sets: str
    source: str
    condition: str
    key: str
    old: str
    new: str
    op: str


def _loop(table: CatalogTable, query: _Query, asides: Sequence[PersonalSql] = ()) -> str:
    """Return a loop that writes one entry a row, and its personal values beside it.

    Not INSERT ... SELECT: that holds InnoDB's lock on the log's counter until the statement of the
    application ends, and every other writer would wait for it.
    """
    extra = "".join(
        f",{aside.value} AS v{place},{aside.subject} AS s{place}"
        for place, aside in enumerate(asides)
    )
    beside = " ".join(
        personal_sql(replace(aside, value=f"r.`v{place}`", subject=f"r.`s{place}`"))
        for place, aside in enumerate(asides)
    )
    # By name and now: the table may get a new shape without this trigger being made anew.
    shape = (
        "(SELECT `id`,`table_id` FROM `shipworthy_audit_shapes` WHERE `table_schema`='' AND "
        f"`table_name`={literal(table.name.name)} ORDER BY `id` DESC LIMIT 1) shape"
    )
    write = entry_sql(
        EntrySql(
            table_id="r.`table_id`",
            shape_id="r.`shape_id`",
            op=query.op,
            key="r.`k`",
            old="r.`o`",
            new="r.`n`",
        )
    )
    return (
        f"FOR r IN ({query.sets}SELECT shape.`id` AS shape_id,shape.`table_id` AS table_id,"
        f"{query.key} AS k,{query.old} AS o,{query.new} AS n{extra} "
        f"FROM {shape} JOIN {query.source} WHERE {query.condition} {LOCK}) DO "
        f"{context_sql()} {write} {beside} END FOR;"
    )


def _asides(
    table: CatalogTable, side: str, values: Mapping[str, str], personal: Mapping[str, str]
) -> list[PersonalSql]:
    """Return what lies beside the log of those columns; `values` gives the SQL of their cells."""
    return [
        PersonalSql(
            side=side,
            column=column,
            subject=subject(table, personal[column], ROW),
            value=value,
        )
        for column, value in values.items()
        if column in personal
    ]


def _fields(
    table: CatalogTable, columns: Sequence[CatalogColumn], personal: Mapping[str, str]
) -> dict[str, str]:
    limits = limits_of(table)
    return {
        it.name: value_json(
            f"{ROW}.{name(it.name)}",
            it.type,
            personal=it.name in personal,
            limit=limits.get(it.name, ""),
        )
        for it in columns
    }


def _cells(table: CatalogTable, columns: Sequence[CatalogColumn]) -> dict[str, str]:
    limits = limits_of(table)
    return {
        it.name: value_beside(f"{ROW}.{name(it.name)}", it.type, limits.get(it.name, ""))
        for it in columns
    }
