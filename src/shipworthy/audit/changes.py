"""What became of a table since its triggers were generated, in words. Pure."""

from collections.abc import Mapping

from shipworthy.audit.model import CatalogColumn, CatalogTable


def table_changes(old: CatalogTable, new: CatalogTable) -> list[str]:
    """Return a phrase for each change of `old` to `new` that concerns capture; [] where none is.

    A column counts as renamed where its number and its type stayed the same.
    """
    found = [] if old.name == new.name else [f"the table was called {old.name}"]
    renamed = _renamed(old, new)
    found += [f"column '{before}' is now '{after}'" for before, after in renamed.items()]
    had, has = ({column.name: column for column in table.columns} for table in (old, new))
    found += [
        f"column '{name}' is new"
        for name in has
        if name not in had and name not in renamed.values()
    ]
    found += [f"column '{name}' is gone" for name in had if name not in has and name not in renamed]
    for name, column in had.items():
        now = has.get(renamed.get(name, name))
        if now is not None:
            found += _column_changes(column, now)
    if tuple(renamed.get(name, name) for name in old.primary_key) != new.primary_key:
        found.append(
            f"the primary key is ({', '.join(new.primary_key) or 'none'}), and was "
            f"({', '.join(old.primary_key) or 'none'})"
        )
    if _references(old) != _references(new):
        found.append("its foreign keys are others")
    return found


def _renamed(old: CatalogTable, new: CatalogTable) -> Mapping[str, str]:
    now = {column.number: column for column in new.columns}
    return {
        column.name: after.name
        for column in old.columns
        if (after := now.get(column.number)) is not None
        and after.type == column.type
        and new.column(column.name) is None
        and old.column(after.name) is None
    }


def _column_changes(old: CatalogColumn, new: CatalogColumn) -> list[str]:
    found = []
    if old.type != new.type:
        found.append(f"column '{new.name}' is of type {new.type}, and was {old.type}")
    if old.nullable != new.nullable:
        found.append(f"column '{new.name}' {'may' if new.nullable else 'must not'} be NULL now")
    if old.generated != new.generated:
        found.append(f"column '{new.name}' is {'' if new.generated else 'not '}generated now")
    if old.identity != new.identity:
        found.append(f"column '{new.name}' is numbered otherwise now")
    return found


def _references(table: CatalogTable) -> set[tuple[object, ...]]:
    return {
        (key.columns, key.target, key.target_columns, key.on_delete, key.on_update)
        for key in table.foreign_keys
    }
