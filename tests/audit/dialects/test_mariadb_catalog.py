"""MariaDB's catalog, read."""

import sqlalchemy as sa

from audit.dialects.mariadb_trail import catalog_of, script


def test_a_table_is_read_whole(mariadb_url: str) -> None:
    """Types with their letters, keys of several columns, actions, indexes of first letters."""
    engine = sa.create_engine(mariadb_url)
    script(
        engine,
        "CREATE TABLE a (x int, y int, primary key (x,y)) CHARSET utf8mb4",
        "CREATE TABLE b (id int auto_increment primary key, p int, q int, j json, "
        "t text character set latin1, g int as (p+1) virtual, unique u (t(7)), "
        "CONSTRAINT f FOREIGN KEY (p,q) REFERENCES a (x,y) ON DELETE SET NULL ON UPDATE CASCADE)",
    )
    a, b = catalog_of(engine).tables.values()
    engine.dispose()
    assert a.primary_key == ("x", "y")
    types = {it.name: it.type for it in b.columns}
    assert types["t"] == "text character set latin1"
    assert types["j"].startswith("json ")
    assert [it.name for it in b.columns if it.generated] == ["g"]
    assert [it.name for it in b.columns if it.identity] == ["id"]
    (key,) = b.foreign_keys
    assert (key.columns, key.target_columns) == (("p", "q"), ("x", "y"))
    assert (key.on_delete, key.on_update) == ("set null", "cascade")
    assert [(it.name, it.predicate) for it in b.uniques] == [("u", "first 7 of t")]
    assert b.traits["engine"] == "InnoDB"
