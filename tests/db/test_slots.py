"""Whether the pools of all workers fit into their server: the arithmetic, and who asks."""

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shipworthy.db import PoolsExceedServer, Prober, install, pool_numbers, protect
from shipworthy.db.install import successors_here, workers_here
from shipworthy.db.slots import PoolOnServer, pool_excesses
from shipworthy.events import listen
from shipworthy.operations.health import standing


def pool(name, capacity, *, place="one", slots=97):
    return PoolOnServer(name=name, capacity=capacity, slots=slots, place=place)


@pytest.mark.parametrize(
    ("pools", "workers", "found"),
    [
        ([pool("main", 15)], 6, []),
        ([pool("main", 15)], 7, [(("main",), 105, 97)]),
        ([pool("main", 60), pool("reports", 38)], 1, [(("main", "reports"), 98, 97)]),
        ([pool("main", 60), pool("reports", 60, place="other")], 1, []),
        ([pool("main", None), pool("reports", 98)], 1, [(("reports",), 98, 97)]),
        ([pool("main", None)], 100, []),
        ([pool("main", 97)], 1, []),
        ([], 4, []),
    ],
)
def test_pools_of_one_server_are_summed_over_all_workers(pools, workers, found):
    """Those of another server do not count, and one without a limit cannot be counted."""
    excesses = pool_excesses(pools, workers)

    assert [(it.names, it.wanted, it.allowed) for it in excesses] == found
    assert all(it.workers == workers for it in excesses)


def test_a_worker_that_is_replaced_serves_beside_its_successor():
    """Where a replacement is possible, what fits otherwise may not fit then; and it is said."""
    pools = [pool("main", 24)]
    (it,) = pool_excesses(pools, 4, besides=1)

    assert pool_excesses(pools, 4) == []
    assert pool_excesses(pools, 3, besides=1) == []
    assert (it.workers, it.wanted) == (4, 120)
    assert it.because.startswith(
        "4 workers, and 1 more while one is replaced, with the pools of main may open 120 "
        "connections, and the server has 97;"
    )


def test_only_where_somebody_replaces_workers_there_may_be_one_more():
    """Under the server of others a process knows of itself alone."""
    forget = install()
    alone = (workers_here(), successors_here())
    forget()
    forget = install(workers=1)
    replaced = (workers_here(), successors_here())
    forget()
    forget = install()
    forget()

    assert alone == (1, 0)
    assert replaced == (1, 1)


def test_the_sentence_says_what_to_do():
    """With the numbers it was computed from."""
    (it,) = pool_excesses([pool("main", 60), pool("reports", 38)], 2)

    assert it.because == (
        "2 workers with the pools of main and reports may open 196 connections, and the server "
        "has 97; make the pools smaller (pool_size, max_overflow), run fewer workers, or raise "
        "max_connections"
    )


async def said(engines, *, workers, uses):
    """Have a prober look at the engines, the first of which is used; return what it said."""
    found = []
    stop = listen(lambda fact: found.append(fact) if isinstance(fact, PoolsExceedServer) else None)
    forget = install(workers=workers)
    protections = [protect(engine, name=f"pool {number}") for number, engine in enumerate(engines)]
    prober = Prober((), lambda _: None)
    try:
        for engine in engines if uses else ():
            if isinstance(engine, sa.Engine):
                engine.connect().close()
            else:
                async with engine.connect():
                    pass
        await prober.start()
        for _ in range(200):
            await asyncio.sleep(0.01)
            if found and len(found[-1].database.split(",")) == len(engines):
                break
            if not uses and _ > 5:
                break
        return found, pool_numbers(), protections
    finally:
        await prober.stop()
        forget()
        stop()
        for protection in protections:
            protection.undo()


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("server", ["postgres_url", "mariadb_url"])
async def test_pools_that_their_server_has_no_room_for_are_named_once(request, server):
    """By the server's own number; two pools on one server, by different drivers, are one sum."""
    url = sa.make_url(request.getfixturevalue(server))
    other = "postgresql+asyncpg" if server == "postgres_url" else "mariadb+asyncmy"
    engines = [
        sa.create_engine(url, pool_size=1000, max_overflow=0),
        create_async_engine(url.set(drivername=other), pool_size=2000, max_overflow=0),
    ]
    with engines[0].connect() as connection:
        statement = (
            "SELECT @@max_connections"
            if server == "mariadb_url"
            else "SELECT setting FROM pg_settings WHERE name = 'max_connections'"
        )
        most = int(connection.scalar(sa.text(statement)))
    found, numbers, _ = await said(engines, workers=3, uses=True)
    engines[0].dispose()
    await engines[1].dispose()

    last = found[-1]
    assert (last.database, last.wanted, last.workers) == ("pool 0, pool 1", 12000, 3)
    assert most - 20 <= last.allowed <= most
    assert len({fact.database for fact in found}) == len(found)
    assert {one["exceeds"] for one in numbers} == {last.because}
    assert {standing(one) for one in numbers} == {"warn"}


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_database_that_nobody_used_is_left_in_peace(postgres_url):
    """And what fits, or has no limit, is said nothing of."""
    engine = sa.create_engine(postgres_url, pool_size=1000)
    found, numbers, (protection,) = await said([engine], workers=3, uses=False)
    assert (found, numbers[0]["exceeds"], protection.statistics().checkouts) == ([], "", 0)
    engine.dispose()

    for options in ({"pool_size": 1, "max_overflow": 0}, {"poolclass": NullPool}):
        engine = sa.create_engine(postgres_url, **options)
        found, numbers, _ = await said([engine], workers=1, uses=False)
        assert (found, numbers[0]["exceeds"]) == ([], "")
        assert standing(numbers[0]) == "pass"
        engine.dispose()
