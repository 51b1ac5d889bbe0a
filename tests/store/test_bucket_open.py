"""A URL says where buckets are, and what it needs is known before anything is asked."""

import asyncio
import subprocess
import sys

import pytest

from shipworthy.errors import Misuse
from shipworthy.store import (
    Algorithm,
    Ask,
    BucketsUnavailable,
    MemoryBuckets,
    Quota,
    open_buckets,
)
from shipworthy.store.bucket_batches import BatchedBuckets
from shipworthy.store.bucket_file import FILE_NAME
from shipworthy.store.redis import RedisBuckets

ASK = Ask("k", Quota(algorithm=Algorithm.GCRA, count=1, period_ns=10**16, burst=1))


def once(buckets):
    async def work():
        taken = (await buckets.take([ASK]))[0]
        await buckets.close()
        return taken.allowed

    return asyncio.run(work())


@pytest.mark.parametrize("url", ["memory", "memory:"])
def test_memory_is_this_process(url):
    buckets = open_buckets(url, keys_most=5)
    assert isinstance(buckets, MemoryBuckets)
    assert buckets.statistics().keys_most == 5
    assert once(buckets)


def test_a_file_is_made_in_the_folder_that_is_given(tmp_path):
    """And what is taken there stays taken."""
    assert once(open_buckets("sqlite:", folder=tmp_path / "state"))
    assert (tmp_path / "state" / FILE_NAME).exists()
    assert not once(open_buckets(f"sqlite:///{tmp_path}/state/{FILE_NAME}"))


def test_a_path_from_here_has_three_slashes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert once(open_buckets("sqlite:///here.db"))
    assert (tmp_path / "here.db").exists()
    monkeypatch.undo()


def test_a_file_without_a_place_is_refused():
    with pytest.raises(Misuse, match="names no file, and there is no folder for it"):
        open_buckets("sqlite:")


def test_a_file_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BucketsUnavailable, match="cannot be opened"):
        open_buckets("sqlite:", folder=tmp_path / "file")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_redis_and_valkey_are_asked_when_they_are_needed(scheme):
    """Nobody listens there; the process starts all the same."""
    buckets = open_buckets(f"{scheme}://127.0.0.1:1/0")
    assert isinstance(buckets, RedisBuckets)
    asyncio.run(buckets.close())


@pytest.mark.slow
@pytest.mark.parametrize(
    "url", ["postgresql+asyncpg://u@127.0.0.1:1/d", "mariadb+asyncmy://u@127.0.0.1:1/d"]
)
def test_a_server_is_asked_when_it_is_needed(url):
    """Through the driver that blocks, whatever driver the application has."""
    buckets = open_buckets(url, bound_seconds=1.0)
    assert isinstance(buckets, BatchedBuckets)
    with pytest.raises(BucketsUnavailable):
        once(buckets)
    asyncio.run(buckets.close())


def test_a_missing_driver_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(Misuse, match=r"pip install 'shipworthy\[postgres\]'"):
        open_buckets("postgresql+psycopg://127.0.0.1/d")


def test_what_names_no_store_is_refused_without_its_password():
    with pytest.raises(Misuse, match="'memcached' names no store of buckets") as refused:
        open_buckets("memcached://user:Kingfisher@host/0")
    assert "Kingfisher" not in str(refused.value)


@pytest.mark.slow
def test_memory_and_a_file_load_no_sqlalchemy_and_no_redis(tmp_path):
    """The one-host default costs a worker's start no library that it does not use."""
    program = (
        "import sys; from pathlib import Path; from shipworthy.store import open_buckets;"
        f"open_buckets('memory:'); open_buckets('sqlite:', folder=Path({str(tmp_path)!r}));"
        "print({'sqlalchemy', 'redis', 'asyncpg'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
