"""What this process did in the trash can be read."""

from shipworthy.records.metrics import count_refused, count_restore, records_metrics


def read() -> dict[str, float]:
    return {
        f"{metric.name}{labels}": value
        for metric, reading in records_metrics()
        for labels, value in reading().items()
    }


def test_each_count_shows_under_its_metric() -> None:
    """Whole, part and refused are told apart."""
    before = read()
    count_restore(rows=9, left=0)
    count_restore(rows=3, left=1)
    count_refused("primary key taken")

    after = read()

    assert {
        name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name)
    } == {
        "shipworthy_trash_restores_total('whole',)": 1,
        "shipworthy_trash_restores_total('part',)": 1,
        "shipworthy_trash_restores_total('refused',)": 1,
        "shipworthy_trash_rows_restored_total()": 12,
        "shipworthy_trash_obstacles_total('primary key taken',)": 1,
    }
