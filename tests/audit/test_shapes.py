"""Shapes as the log keeps them."""

import json
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import given, strategies as st

from shipworthy.audit.model import (
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    CatalogUnique,
    Shape,
    TableName,
)
from shipworthy.audit.shapes import (
    NotedShape,
    dump_shape,
    latest_shapes,
    load_shape,
    read_noted,
    read_shapes,
    shape_digest,
)
from shipworthy.audit.tables import METADATA, SHAPES

texts = st.text(max_size=12)
names = st.builds(TableName, schema=texts, name=texts)
columns = st.builds(
    CatalogColumn,
    name=texts,
    type=texts,
    number=st.integers(),
    nullable=st.booleans(),
    default=st.none() | texts,
    generated=st.booleans(),
    identity=st.sampled_from(["", "always", "default"]),
)
some = st.lists(texts, max_size=3).map(tuple)
keys = st.builds(
    CatalogForeignKey,
    name=texts,
    columns=some,
    target=names,
    target_columns=some,
    on_delete=texts,
    deferrable=st.booleans(),
)
tables = st.builds(
    CatalogTable,
    name=names,
    columns=st.lists(columns, max_size=4).map(tuple),
    primary_key=some,
    foreign_keys=st.lists(keys, max_size=2).map(tuple),
    uniques=st.lists(st.builds(CatalogUnique, name=texts, columns=some), max_size=2).map(tuple),
    triggers=some,
    traits=st.dictionaries(texts, texts, max_size=2),
)
shapes = st.builds(
    Shape,
    id=st.integers(1, 9),
    table_id=st.integers(1, 3),
    table=tables,
    personal=st.dictionaries(texts, texts, max_size=2),
    blocks_truncate=st.booleans(),
)
CLIENTS = Shape(
    id=4,
    table_id=2,
    table=CatalogTable(
        name=TableName(schema="", name="clients"),
        columns=(
            CatalogColumn(name="id", type="INTEGER", number=1, nullable=False),
            CatalogColumn(name="email", type="TEXT", number=2),
        ),
        primary_key=("id",),
        estimated_rows=7,
    ),
)


@given(shapes)
def test_a_shape_is_read_back_as_it_was_written(shape):
    """An entry of years ago is read by the columns its table had then."""
    assert load_shape(dump_shape(shape), id=shape.id, table_id=shape.table_id) == shape


def test_how_many_rows_there_are_is_not_of_the_shape():
    """A table that grows keeps its shape."""
    grown = replace(CLIENTS, table=replace(CLIENTS.table, estimated_rows=10**9))
    assert dump_shape(grown) == dump_shape(CLIENTS)
    assert shape_digest(grown, ()) == shape_digest(CLIENTS, ())


def test_what_a_later_version_wrote_beside_it_is_left_alone():
    """Workers of the version before read what the version after has noted."""
    facts = json.loads(dump_shape(CLIENTS))
    facts["table"]["columns"][0]["collation"] = "C"
    facts["table"]["comment"] = facts["later"] = "something"
    assert load_shape(json.dumps(facts), id=4, table_id=2).table.columns == CLIENTS.table.columns


def changed(**facts):
    return replace(CLIENTS, table=replace(CLIENTS.table, **facts))


def column(**facts):
    return changed(columns=(CLIENTS.table.columns[0], replace(CLIENTS.table.columns[1], **facts)))


@pytest.mark.parametrize(
    "other",
    [
        changed(name=TableName(schema="", name="customers")),
        changed(primary_key=()),
        changed(
            foreign_keys=(
                CatalogForeignKey(
                    name="f",
                    columns=("id",),
                    target=TableName(schema="", name="x"),
                    target_columns=("id",),
                ),
            )
        ),
        changed(traits={"without_rowid": "yes"}),
        column(name="mail"),
        column(type="BLOB"),
        column(nullable=False),
        column(generated=True),
        replace(CLIENTS, personal={"email": "id"}),
        replace(CLIENTS, blocks_truncate=True),
    ],
)
def test_what_capture_depends_on_gives_another_digest(other):
    """Each of these needs other triggers, or makes the images mean something else."""
    assert shape_digest(other, ("CREATE",)) != shape_digest(CLIENTS, ("CREATE",))


@pytest.mark.parametrize(
    "other",
    [
        changed(uniques=(CatalogUnique(name="u", columns=("email",)),)),
        changed(triggers=("audit_mail",)),
        column(default="''"),
    ],
)
def test_an_index_a_default_or_a_trigger_of_the_application_needs_nothing_new(other):
    """A check does not fail because somebody made a query faster."""
    assert shape_digest(other, ("CREATE",)) == shape_digest(CLIENTS, ("CREATE",))


def test_other_triggers_for_the_same_table_give_another_digest():
    """A newer version of ours may generate them otherwise."""
    assert shape_digest(CLIENTS, ("CREATE a",)) != shape_digest(CLIENTS, ("CREATE b",))


def test_the_newest_shape_of_each_table_counts():
    """Ids grow, whatever order the rows come in."""
    noted = [
        NotedShape(shape=replace(CLIENTS, id=number, table_id=table_id), digest="")
        for number, table_id in ((5, 2), (4, 2), (1, 1))
    ]
    assert {key: one.shape.id for key, one in latest_shapes(noted).items()} == {1: 1, 2: 5}


def test_shapes_are_read_from_the_log():
    """Whoever shows an entry asks for the shape it names."""
    engine = sa.create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            SHAPES.insert().values(
                id=4,
                table_id=2,
                table_schema="",
                table_name="clients",
                facts=dump_shape(CLIENTS),
                digest="d",
                at_microseconds=1,
            )
        )
        assert [one.digest for one in read_noted(connection)] == ["d"]
        found = read_shapes(connection)
    engine.dispose()
    assert list(found) == [4]
    assert found[4].table.columns == CLIENTS.table.columns
