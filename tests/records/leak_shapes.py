"""Query shapes that a deleted row can be seen through, each by its name.

A shape returns what it read; what it reads where the deleted rows are not there stands beside it.
The world has a live client with one live order and one that is gone, and a client that is gone.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import (
    Bundle,
    Session,
    aliased,
    contains_eager,
    immediateload,
    joinedload,
    load_only,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    with_parent,
    with_polymorphic,
)


@dataclass(kw_only=True)
class World:
    """A database in which something was deleted, in the way that is tried."""

    m: SimpleNamespace
    engine: sa.Engine
    delete: Callable[[Session, Any], None]
    # Lets the caller see deleted rows, where the way has such a thing.
    including: Callable[[], AbstractContextManager[None]] = nullcontext
    # Whether associations are flagged by an UPDATE: there is nothing that rewrites a DELETE.
    flags_by_hand: bool = False
    notes: list[int] = field(default_factory=lambda: list(range(1, 13)))


Shape = Callable[[World, Session], Any]
SHAPES: Final[dict[str, tuple[Shape, Any]]] = {}


def shape(expected: Any) -> Callable[[Shape], Shape]:
    """Note a shape with what it is to read."""

    def note(function: Shape) -> Shape:
        SHAPES[function.__name__.strip("_").replace("_", " ")] = function, expected
        return function

    return note


def judge(world: World, name: str) -> str:
    """Return `ok`, `leak`, `lost` (a live row is missing) or `error: ...` for one shape."""
    function, expected = SHAPES[name]
    try:
        with Session(world.engine) as session:
            found = function(world, session)
            session.rollback()
    except Exception as error:
        return f"error: {type(error).__name__}"
    if found == expected:
        return "ok"
    if isinstance(found, list) and isinstance(expected, list):
        return "lost" if len(found) < len(expected) else "leak"
    return "lost" if found in (None, 0) else "leak"


def judge_all(world: World) -> dict[str, str]:
    """Return the verdict of each shape."""
    return {name: judge(world, name) for name in SHAPES}


def _titles(session: Session, statement: Any) -> list[Any]:
    return sorted(session.scalars(statement), key=str)


# -- reads of the ORM --


@shape(["live"])
def select_entity(w, s):
    return [it.title for it in s.scalars(sa.select(w.m.Order))]


@shape(["live"])
def select_columns(w, s):
    return _titles(s, sa.select(w.m.Order.title))


@shape([("live", 10)])
def select_bundle(w, s):
    return [
        tuple(it) for it in s.scalars(sa.select(Bundle("b", w.m.Order.title, w.m.Order.amount)))
    ]


@shape(1)
def select_count(w, s):
    return s.scalar(sa.select(sa.func.count()).select_from(w.m.Order))


@shape(10)
def select_sum(w, s):
    return int(s.scalar(sa.select(sa.func.sum(w.m.Order.amount))))


@shape([1])
def count_over_as_the_only_column(w, s):
    return list(s.scalars(sa.select(sa.func.count().over()).select_from(w.m.Order)))


@shape([("live", 1)])
def window_beside_a_column(w, s):
    number = sa.func.row_number().over(order_by=w.m.Order.id)
    return [tuple(it) for it in s.execute(sa.select(w.m.Order.title, number))]


@shape([(1, 1)])
def group_by_having(w, s):
    order = w.m.Order
    counted = sa.select(order.client_id, sa.func.count()).group_by(order.client_id)
    return [tuple(it) for it in s.execute(counted.having(sa.func.count() > 0))]


@shape(["live"])
def select_distinct(w, s):
    return list(s.scalars(sa.select(w.m.Client.name).distinct()))


@shape(["live"])
def order_by_limit_offset(w, s):
    return list(s.scalars(sa.select(w.m.Order.title).order_by(w.m.Order.id).limit(5).offset(0)))


@shape(None)
def one_or_none(w, s):
    return s.scalars(sa.select(w.m.Order).where(w.m.Order.id == 2)).one_or_none()


@shape([])
def tuple_in(w, s):
    order = w.m.Order
    return list(
        s.scalars(sa.select(order.title).where(sa.tuple_(order.id, order.amount).in_([(2, 100)])))
    )


@shape(["live"])
def query_all(w, s):
    return [it.title for it in s.query(w.m.Order).all()]


@shape(1)
def query_count(w, s):
    return s.query(w.m.Order).count()


@shape(False)
def query_exists(w, s):
    return bool(s.query(s.query(w.m.Order).filter_by(id=2).exists()).scalar())


@shape(None)
def session_get(w, s):
    return s.get(w.m.Order, 2)


@shape(None)
def query_get(w, s):
    return s.query(w.m.Order).filter_by(id=2).first()


@shape(["live"])
def aliased_entity(w, s):
    return [it.title for it in s.scalars(sa.select(aliased(w.m.Order)))]


@shape(["live"])
def aliased_twice(w, s):
    a, b = aliased(w.m.Order), aliased(w.m.Order)
    return _titles(
        s, sa.select(b.title).join_from(a, b, a.client_id == b.client_id).where(a.id == 1)
    )


@shape([("live", "live")])
def cartesian_product(w, s):
    return [tuple(it) for it in s.execute(sa.select(w.m.Order.title, w.m.Tag.name).where(
        w.m.Tag.id < 3).join_from(w.m.Order, w.m.Tag, sa.true()))]  # fmt: skip


@shape([("live", "live")])
def join_by_relationship(w, s):
    return [tuple(it) for it in s.execute(
        sa.select(w.m.Client.name, w.m.Order.title).join(w.m.Client.orders))]  # fmt: skip


@shape([("live", "live")])
def join_by_condition(w, s):
    c, o = w.m.Client, w.m.Order
    return [tuple(it) for it in s.execute(sa.select(c.name, o.title).join(o, o.client_id == c.id))]


@shape([("live", None)])
def outer_join_keeps_the_parent(w, s):
    reviewer = aliased(w.m.Client)
    joined = w.m.Order.reviewer.of_type(reviewer)
    statement = sa.select(w.m.Order.title, reviewer.name).outerjoin(joined)
    return [tuple(it) for it in s.execute(statement)]


@shape(["live"])
def join_with_and_criteria(w, s):
    return _titles(s, sa.select(w.m.Order.title).select_from(w.m.Client).join(
        w.m.Client.orders.and_(w.m.Order.amount > 0)))  # fmt: skip


@shape(["live"])
def where_in_subquery(w, s):
    wanted = sa.select(w.m.Client.id)
    return _titles(s, sa.select(w.m.Order.title).where(w.m.Order.client_id.in_(wanted)))


@shape([])
def in_subquery_of_deleted(w, s):
    wanted = sa.select(w.m.Order.client_id).where(w.m.Order.title == "gone")
    return list(s.scalars(sa.select(w.m.Client.name).where(w.m.Client.id.in_(wanted))))


@shape([])
def where_exists(w, s):
    c, o = w.m.Client, w.m.Order
    there = sa.exists().where(o.client_id == c.id, o.title == "gone")
    return list(s.scalars(sa.select(c.name).where(there)))


@shape([])
def where_exists_of_select(w, s):
    c, o = w.m.Client, w.m.Order
    there = sa.select(o.id).where(o.client_id == c.id, o.title == "gone").exists()
    return list(s.scalars(sa.select(c.name).where(there)))


@shape(False)
def select_exists(w, s):
    return bool(s.scalar(sa.select(sa.exists().where(w.m.Order.title == "gone"))))


@shape(False)
def select_exists_of_select(w, s):
    return bool(s.scalar(sa.select(sa.select(w.m.Order).where(w.m.Order.id == 2).exists())))


@shape([])
def relationship_any(w, s):
    return list(s.scalars(sa.select(w.m.Client.name).where(w.m.Client.orders.any(title="gone"))))


@shape([])
def relationship_has(w, s):
    return list(s.scalars(sa.select(w.m.Order.title).where(w.m.Order.reviewer.has(name="gone"))))


@shape([])
def many_to_many_any(w, s):
    return list(s.scalars(sa.select(w.m.Order.title).where(w.m.Order.tags.any(name="gone"))))


@shape([1])
def scalar_subquery(w, s):
    counted = sa.select(sa.func.count(w.m.Order.id)).scalar_subquery()
    return list(s.scalars(sa.select(counted).select_from(w.m.Client)))


@shape([("live", 1)])
def correlated_scalar_subquery(w, s):
    c, o = w.m.Client, w.m.Order
    counted = sa.select(sa.func.count(o.id)).where(o.client_id == c.id).scalar_subquery()
    return [tuple(it) for it in s.execute(sa.select(c.name, counted))]


@shape(1)
def column_property(w, s):
    return s.scalar(sa.select(w.m.Client.order_count).where(w.m.Client.id == 1))


@shape(1)
def deferred_column_property(w, s):
    return s.get(w.m.Client, 1).order_count


@shape(["live"])
def from_subquery(w, s):
    inner = sa.select(w.m.Order.title).subquery()
    return _titles(s, sa.select(inner.c.title))


@shape(["live"])
def entity_from_subquery(w, s):
    inner = sa.select(w.m.Order).subquery()
    return [it.title for it in s.scalars(sa.select(aliased(w.m.Order, inner)))]


@shape(["live"])
def from_cte(w, s):
    inner = sa.select(w.m.Order.title).cte()
    return _titles(s, sa.select(inner.c.title))


@shape(["live", "live"])
def recursive_cte(w, s):
    c = w.m.Category
    tree = sa.select(c.id, c.name).where(c.parent_id.is_(None)).cte(recursive=True)
    tree = tree.union_all(sa.select(c.id, c.name).join(tree, c.parent_id == tree.c.id))
    return _titles(s, sa.select(tree.c.name))


@shape(["live"])
def union_of_selects(w, s):
    o = w.m.Order
    return _titles(s, sa.union(sa.select(o.title), sa.select(o.title)))


@shape(["live", "live"])
def union_all_of_selects(w, s):
    return _titles(s, sa.union_all(sa.select(w.m.Order.title), sa.select(w.m.Client.name)))


@shape([1])
def except_of_selects(w, s):
    return _titles(s, sa.except_(sa.select(w.m.Order.id), sa.select(w.m.Order.id).where(
        w.m.Order.amount == 7)))  # fmt: skip


@shape(["live"])
def entity_from_union(w, s):
    o = w.m.Order
    both = sa.union(sa.select(o), sa.select(o)).subquery()
    return [it.title for it in s.scalars(sa.select(aliased(o, both)))]


@shape(["live"])
def query_union(w, s):
    return [it.title for it in s.query(w.m.Order).union(s.query(w.m.Order)).all()]


@shape(["live"])
def load_only_columns(w, s):
    return [it.title for it in s.scalars(sa.select(w.m.Order).options(load_only(w.m.Order.title)))]


@shape(["live"])
def select_for_update(w, s):
    return _titles(s, sa.select(w.m.Order.title).with_for_update())


@shape(["live"])
def yield_per(w, s):
    return [it.title for it in s.scalars(sa.select(w.m.Order).execution_options(yield_per=1))]


@shape(["live"])
def stream_results(w, s):
    statement = sa.select(w.m.Order.title).execution_options(stream_results=True)
    return _titles(s, statement)


@shape(["live"])
def lambda_statement(w, s):
    order = w.m.Order
    return [it.title for it in s.scalars(sa.lambda_stmt(lambda: sa.select(order)))]


@shape(["live"])
def same_statement_after_including_deleted(w, s):
    statement = sa.select(w.m.Order.title)
    with w.including():
        s.scalars(statement).all()
    return _titles(s, statement)


@shape(["live"])
def lazy_load_after_including_deleted(w, s):
    with w.including():
        client = s.scalars(sa.select(w.m.Client).where(w.m.Client.id == 1)).one()
    return [it.title for it in client.orders]


# -- relationships --


@shape(["live"])
def lazy_one_to_many(w, s):
    return [it.title for it in s.get(w.m.Client, 1).orders]


def _eager(w: World, s: Session, option: Any) -> list[str]:
    statement = sa.select(w.m.Client).where(w.m.Client.id == 1).options(option(w.m.Client.orders))
    return [it.title for it in s.scalars(statement).unique().one().orders]


@shape(["live"])
def joinedload_of_many(w, s):
    return _eager(w, s, joinedload)


@shape(["live"])
def selectinload_of_many(w, s):
    return _eager(w, s, selectinload)


@shape(["live"])
def subqueryload_of_many(w, s):
    return _eager(w, s, subqueryload)


@shape(["live"])
def immediateload_of_many(w, s):
    return _eager(w, s, immediateload)


@shape(["live"])
def contains_eager_of_many(w, s):
    statement = sa.select(w.m.Client).join(w.m.Client.orders).options(
        contains_eager(w.m.Client.orders))  # fmt: skip
    return [it.title for client in s.scalars(statement).unique() for it in client.orders]


@shape(["live"])
def dynamic_collection(w, s):
    return [it.title for it in s.get(w.m.Client, 1).orders_dynamic]


@shape(1)
def dynamic_collection_count(w, s):
    return s.get(w.m.Client, 1).orders_dynamic.count()


@shape(["live"])
def write_only_collection(w, s):
    return [it.title for it in s.scalars(s.get(w.m.Client, 1).orders_written.select())]


@shape(["live"])
def with_parent_condition(w, s):
    client = s.get(w.m.Client, 1)
    return _titles(s, sa.select(w.m.Order.title).where(with_parent(client, w.m.Client.orders)))


@shape(None)
def lazy_many_to_one(w, s):
    return s.get(w.m.Order, 1).reviewer


@shape(None)
def joinedload_of_one(w, s):
    statement = (
        sa.select(w.m.Order).where(w.m.Order.id == 1).options(joinedload(w.m.Order.reviewer))
    )
    return s.scalars(statement).one().reviewer


@shape(None)
def selectinload_of_one(w, s):
    statement = sa.select(w.m.Order).where(w.m.Order.id == 1).options(
        selectinload(w.m.Order.reviewer))  # fmt: skip
    return s.scalars(statement).one().reviewer


@shape(["live"])
def lazy_many_to_many(w, s):
    return [it.name for it in s.get(w.m.Order, 1).tags if it.name != "kept"]


@shape(["live"])
def lazy_load_over_a_deleted_association(w, s):
    return [it.name for it in s.get(w.m.Order, 1).tags if it.name != "gone"]


@shape(["live"])
def joinedload_over_a_deleted_association(w, s):
    statement = sa.select(w.m.Order).where(w.m.Order.id == 1).options(joinedload(w.m.Order.tags))
    return [it.name for it in s.scalars(statement).unique().one().tags if it.name != "gone"]


@shape(["live"])
def join_over_a_deleted_association(w, s):
    return _titles(s, sa.select(w.m.Tag.name).select_from(w.m.Order).join(w.m.Order.tags).where(
        w.m.Tag.name != "gone"))  # fmt: skip


# -- joined inheritance --


@shape(["live"])
def inheritance_base(w, s):
    return [it.name for it in s.scalars(sa.select(w.m.Product))]


@shape(["live"])
def inheritance_child(w, s):
    return [it.name for it in s.scalars(sa.select(w.m.Book))]


@shape([10])
def inheritance_child_column(w, s):
    return list(s.scalars(sa.select(w.m.Book.pages)))


@shape(["live"])
def inheritance_with_polymorphic(w, s):
    return [it.name for it in s.scalars(sa.select(with_polymorphic(w.m.Product, "*")))]


@shape(["live"])
def inheritance_selectin_polymorphic(w, s):
    option = selectin_polymorphic(w.m.Product, [w.m.Book])
    return [it.name for it in s.scalars(sa.select(w.m.Product).options(option))]


@shape([10])
def inheritance_child_table_alone(w, s):
    return list(s.scalars(sa.select(w.m.Book.__table__.c.pages)))


# -- writes --


@shape(1)
def update_by_query(w, s):
    return s.execute(sa.update(w.m.Order).values(amount=7)).rowcount


@shape(1)
def query_update(w, s):
    return s.query(w.m.Order).update({"amount": 7})


@shape(1)
def delete_by_query(w, s):
    return s.execute(sa.delete(w.m.Order)).rowcount


@shape(0)
def update_where_exists(w, s):
    c, o = w.m.Client, w.m.Order
    there = sa.exists().where(o.client_id == c.id, o.title == "gone")
    return s.execute(sa.update(c).where(there).values(name="new").execution_options(
        synchronize_session=False)).rowcount  # fmt: skip


@shape(["live"])
def insert_from_select_of_an_entity(w, s):
    source = sa.select(w.m.Order.id, w.m.Order.title)
    s.execute(sa.insert(w.m.Copy).from_select(["id", "title"], source))
    return _titles(s, sa.select(w.m.Copy.title))


@shape(["live"])
def insert_from_select_of_a_table(w, s):
    orders = w.m.Order.__table__
    source = sa.select(orders.c.id, orders.c.title)
    s.execute(sa.insert(w.m.Copy.__table__).from_select(["id", "title"], source))
    return _titles(s, sa.select(w.m.Copy.title))


@shape(1)
def update_of_a_table(w, s):
    return s.execute(sa.update(w.m.Order.__table__).values(amount=7)).rowcount


# -- what passes the ORM by --


@shape(["live"])
def select_of_a_table(w, s):
    return _titles(s, sa.select(w.m.Order.__table__.c.title))


@shape(1)
def count_of_a_table(w, s):
    return s.scalar(sa.select(sa.func.count()).select_from(w.m.Order.__table__))


@shape(["live"])
def table_on_the_connection_of_a_session(w, s):
    return list(s.connection().scalars(sa.select(w.m.Order.__table__.c.title)))


@shape(["live"])
def entity_on_the_connection_of_a_session(w, s):
    return list(s.connection().scalars(sa.select(w.m.Order.title)))


@shape(["live"])
def table_on_an_engine(w, s):
    with w.engine.connect() as connection:
        return list(connection.scalars(sa.select(w.m.Order.__table__.c.title)))


@shape([])
def subquery_of_a_table(w, s):
    orders = w.m.Order.__table__
    wanted = sa.select(orders.c.client_id).where(orders.c.title == "gone")
    return list(s.scalars(sa.select(w.m.Client.name).where(w.m.Client.id.in_(wanted))))


@shape([("live", "live")])
def entity_joined_to_a_table(w, s):
    orders = w.m.Order.__table__
    return [tuple(it) for it in s.execute(sa.select(w.m.Client.name, orders.c.title).join(
        orders, orders.c.client_id == w.m.Client.id))]  # fmt: skip


@shape(["live"])
def select_of_the_association_table(w, s):
    between = w.m.orders_tags
    names = sa.select(w.m.Tag.name).join(between, between.c.tag_id == w.m.Tag.id)
    return _titles(s, names.where(between.c.order_id == 1, w.m.Tag.name != "gone"))


@shape(["live"])
def text_of_sql(w, s):
    return list(s.scalars(sa.text("SELECT title FROM orders")))


@shape(["live"])
def driver_sql(w, s):
    return list(s.connection().exec_driver_sql("SELECT title FROM orders").scalars())


@shape(["live"])
def text_columns(w, s):
    found = sa.text("SELECT title FROM orders").columns(sa.column("title", sa.String)).subquery()
    return list(s.scalars(sa.select(found.c.title)))


@shape(["live"])
def from_statement_of_text(w, s):
    statement = sa.select(w.m.Order).from_statement(sa.text("SELECT * FROM orders"))
    return [it.title for it in s.scalars(statement)]


@shape(["live"])
def from_statement_of_a_table(w, s):
    statement = sa.select(w.m.Order).from_statement(sa.select(w.m.Order.__table__))
    return [it.title for it in s.scalars(statement)]


@shape(["live"])
def literal_table_name(w, s):
    return list(s.scalars(sa.select(sa.column("title")).select_from(sa.table("orders"))))


# -- what a session has already --


def _own_note(w: World, s: Session) -> Any:
    return s.get(w.m.Note, w.notes.pop())


def _delete_elsewhere(w: World, number: int) -> None:
    with Session(w.engine) as other:
        w.delete(other, other.get(w.m.Note, number))
        other.commit()


@shape(None)
def get_after_a_delete_in_the_same_session(w, s):
    note = _own_note(w, s)
    number = note.id
    w.delete(s, note)
    s.flush()
    return s.get(w.m.Note, number)


@shape(None)
def get_after_a_delete_elsewhere(w, s):
    note = _own_note(w, s)
    number = note.id
    s.commit()
    _delete_elsewhere(w, number)
    return s.get(w.m.Note, number)


@shape("gone")
def refresh_after_a_delete_elsewhere(w, s):
    note = _own_note(w, s)
    number = note.id
    s.commit()
    _delete_elsewhere(w, number)
    try:
        s.refresh(note)
    except sa.exc.InvalidRequestError:
        return "gone"
    return note


@shape("gone")
def expired_attribute_after_a_delete_elsewhere(w, s):
    note = _own_note(w, s)
    number = note.id
    s.commit()
    _delete_elsewhere(w, number)
    try:
        return [note.text]
    except sa.exc.InvalidRequestError:
        return "gone"


@shape(None)
def many_to_one_of_an_object_deleted_in_the_same_session(w, s):
    order, reviewer = s.get(w.m.Order, 1), w.m.Client(id=50, name="gone")
    s.add(reviewer)
    s.flush()
    order.reviewer_id = 50
    s.flush()
    w.delete(s, reviewer)
    s.flush()
    s.expire(order, ["reviewer"])
    return order.reviewer


@shape([])
def collection_after_a_delete_by_query(w, s):
    note = _own_note(w, s)
    s.execute(sa.delete(w.m.Note).where(w.m.Note.id == note.id))
    return [note.id] if note in s else []
