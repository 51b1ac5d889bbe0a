"""The ways to delete that the leak matrix is about: a world for each."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from records.leak_models import FLAGGED, models, rows
from records.leak_shapes import World, judge_all

Way = Callable[[sa.Engine], Iterator[World]]


def _fill(world: World) -> None:
    """Make the tables and rows, and delete what is called `gone`, and one association."""
    m = world.m
    m.Base.metadata.create_all(world.engine)
    with Session(world.engine) as session:
        session.add_all(rows(m))
        session.commit()
        for entity, number in (
            (m.Tag, 2),
            (m.Order, 2),
            (m.Client, 2),
            (m.Category, 3),
            (m.Product, 2),
        ):
            world.delete(session, session.get(entity, number))
        between = m.orders_tags
        kept = sa.and_(between.c.order_id == 1, between.c.tag_id == 3)
        if world.flags_by_hand:
            session.execute(sa.update(between).where(kept).values(deleted_at=_now()))
        else:
            session.execute(sa.delete(between).where(kept))
        session.commit()


@contextmanager
def trash(engine: sa.Engine) -> Iterator[World]:
    """The DELETE stays a DELETE; the triggers of the trail keep the rows."""
    from shipworthy.audit import install

    world = World(m=models(), engine=engine, delete=_delete)
    world.m.Base.metadata.create_all(engine)
    install(engine, say=lambda _: None)
    _fill(world)
    yield world


@contextmanager
def flag(engine: sa.Engine) -> Iterator[World]:
    """Flag mode of Shipworthy."""
    from shipworthy.records import flag_deletions, include_deleted

    end = flag_deletions(FLAGGED, engines=engine)
    try:
        world = World(m=models(), engine=engine, delete=_delete, including=include_deleted)
        _fill(world)
        yield world
    finally:
        end()


@contextmanager
def flag_and_views(engine: sa.Engine) -> Iterator[World]:
    """Flag mode on PostgreSQL, with the views that raw SQL finds before the tables."""
    from shipworthy.records import AdoptOptions, adopt

    models().Base.metadata.create_all(engine)
    for entry in FLAGGED:
        table = entry.partition(".")[0]
        adopt(engine, table, FLAGGED, AdoptOptions(shadow=True), say=lambda _: None)
    path = {"options": "-csearch_path=shipworthy_live,public"}
    views_first = sa.create_engine(engine.url, connect_args=path)
    try:
        with flag(views_first) as world:
            yield world
    finally:
        views_first.dispose()


@contextmanager
def recipe(engine: sa.Engine) -> Iterator[World]:
    """What SQLAlchemy's documentation describes: criteria for each SELECT that loads entities.

    Neither for loads of columns nor for those of relationships: there the criteria of the first
    statement are carried along.
    """
    m = models()
    flagged = [m.Client, m.Order, m.Tag, m.Category, m.Product, m.Note]

    def only_live(state: ORMExecuteState) -> None:
        if (
            state.is_select
            and not state.is_column_load
            and not state.is_relationship_load
            and not state.execution_options.get("include_deleted", False)
        ):
            state.statement = state.statement.options(
                *(
                    with_loader_criteria(
                        it, lambda cls: cls.deleted_at.is_(None), include_aliases=True
                    )
                    for it in flagged
                )
            )

    event.listen(Session, "do_orm_execute", only_live)
    try:
        world = World(m=m, engine=engine, delete=_set_by_hand, flags_by_hand=True)
        _fill(world)
        yield world
    finally:
        event.remove(Session, "do_orm_execute", only_live)


@contextmanager
def easy_softdelete(engine: sa.Engine) -> Iterator[World]:
    """The package sqlalchemy-easy-softdelete."""
    from sqlalchemy_easy_softdelete.mixin import generate_soft_delete_mixin_class

    mixin: Any = generate_soft_delete_mixin_class()
    world = World(m=models(mixin), engine=engine, delete=_by_its_method, flags_by_hand=True)
    _fill(world)
    yield world


WAYS: dict[str, Any] = {
    "trash": trash,
    "flag": flag,
    "flag and views": flag_and_views,
    "recipe": recipe,
    "easy-softdelete": easy_softdelete,
}


def _delete(session: Session, one: Any) -> None:
    session.delete(one)


def _set_by_hand(session: Session, one: Any) -> None:
    one.deleted_at = _now()
    for order in getattr(one, "orders", ()):
        order.deleted_at = _now()
    for child in getattr(one, "children", ()):
        child.deleted_at = _now()


def _by_its_method(session: Session, one: Any) -> None:
    one.delete()
    for along in (*getattr(one, "orders", ()), *getattr(one, "children", ())):
        along.delete()


def _now() -> datetime:
    return datetime.now(UTC)


def judged(way: str, url: str) -> dict[str, str]:
    """Return the verdict of each shape, in a new database at `url`."""
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
    with WAYS[way](engine) as world:
        found = judge_all(world)
    engine.dispose()
    return found


if __name__ == "__main__":
    # For one line of SQLAlchemy in an environment of its own.
    print(json.dumps(judged(sys.argv[1], sys.argv[2])))
