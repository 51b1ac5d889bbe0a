"""Keys as people read them. What is personal in a key is not told."""

from shipworthy.audit import AuditDialect, CatalogTable, read_key


def shown_key(dialect: AuditDialect, table: CatalogTable, key: str | None) -> str | None:
    """Return the values of a key with commas between, such as "7" or "7, blue"; None for none."""
    cells = read_key(key)
    if cells is None:
        return None
    types = [column.type for column in map(table.column, table.primary_key) if column]
    return ", ".join(
        "?" if cell is True else str(dialect.value(cell, kind))
        for cell, kind in zip(cells, types, strict=False)
    )
