"""Metrics of protected engines: read when asked for."""

import subprocess
import sys

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from shipworthy.db import db_metrics, protect


def test_each_engine_has_its_numbers_and_an_unlimited_one_no_capacity(tmp_path):
    """Numbers are those of the moment, by the name of the engine."""
    limited = create_engine(f"sqlite:///{tmp_path / 'a.db'}", pool_size=3, max_overflow=1)
    unlimited = create_engine(f"sqlite:///{tmp_path / 'b.db'}", poolclass=NullPool)
    protections = [protect(limited, name="a"), protect(unlimited, name="b")]
    # The others are of the whole process, and of what was done in it before.
    readings = {metric.name: read for metric, read in db_metrics() if "engine" in metric.labels}

    with limited.connect(), unlimited.connect(), limited.connect():
        capacity = readings["shipworthy_pool_capacity"]()
        in_use = readings["shipworthy_pool_in_use"]()
    after = readings["shipworthy_pool_in_use"]()
    checkouts = readings["shipworthy_pool_checkouts_total"]()
    for protection in protections:
        protection.undo()
    limited.dispose()

    assert capacity == {("a",): 4}
    assert in_use == {("a",): 2, ("b",): 1}
    assert after == {("a",): 0, ("b",): 0}
    assert checkouts == {("a",): 2, ("b",): 1}
    assert not any(sum(read().values()) for read in readings.values())


def test_numbers_of_databases_cost_a_service_without_one_nothing():
    """They are registered in every process, and SQLAlchemy is loaded by none of it."""
    script = (
        "import sys; from shipworthy.db import db_metrics\n"
        "print([read() for _, read in db_metrics()][0], 'sqlalchemy' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "{} False"
