"""`/health` from facts: the judgement and the document."""

from dataclasses import asdict, replace

import pytest
from jsonschema import Draft202012Validator

from shipworthy.lifecycle import Answer, Level, ResourceReport
from shipworthy.operations import EndedFacts
from shipworthy.operations.health import HEALTH_SCHEMA, health_document, judge_status

NOW = 1_700_003_600.0


POOL = {"name": "main", "capacity": 15, "in_use": 3, "waiting": 0, "breaker": "closed"}


def with_pool(facts, **changes):
    """The facts with one database in the one worker."""
    worker = facts.workers[0]
    health = {**worker.health, "databases": [POOL | changes]}
    return replace(facts, workers=(replace(worker, health=health),))


def with_worker(facts, **changes):
    """The facts with the one worker changed; `check` changes its one check."""
    worker = facts.workers[0]
    if (check := changes.pop("check", None)) is not None:
        changes["health"] = {"checks": [worker.health["checks"][0] | check]}
    return replace(facts, workers=(replace(worker, **changes),))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "pass"),
        ({"live": Answer(False, "wedged")}, "fail"),
        ({"ready": Answer(False, "draining")}, "fail"),
        ({"startup": Answer(False, "migrating")}, "pass"),
        ({"workers": ()}, "warn"),
        ({"wanted": 2}, "warn"),
    ],
)
def test_the_answers_decide_between_fail_and_not(facts, change, expected):
    """Whoever cannot take traffic fails; the start-up speaks through readiness."""
    assert judge_status(replace(facts, **change)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"blocked": "it stands"}, "warn"),
        ({"check": {"status": "fail"}}, "warn"),
        ({"check": {"status": "unknown"}}, "pass"),
        ({"health": {}}, "pass"),
    ],
)
def test_a_ready_service_with_something_wrong_warns(facts, change, expected):
    """A blocked loop or a failing check is a warning as long as readiness stands."""
    assert judge_status(with_worker(facts, **change)) == expected


@pytest.mark.parametrize(
    ("breaker", "expected"),
    [
        ("closed", "pass"),
        ("disabled", "pass"),
        ("metrics-only", "pass"),
        ("open", "warn"),
        ("half-open", "warn"),
        ("isolated", "warn"),
    ],
)
def test_a_database_whose_breaker_refuses_warns(facts, breaker, expected):
    """Also where readiness does not depend on it, and in the entry of its pool as well."""
    service = with_pool(facts, breaker=breaker, waiting=2)

    checks = health_document(service, now_wall=NOW, detailed=True)["checks"]

    assert judge_status(service) == expected
    assert checks["database main:connectionsInUse"] == [
        {
            "componentId": "4711",
            "componentType": "datastore",
            "status": expected,
            "observedValue": 3,
            "observedUnit": "connections",
            "capacity": 15,
            "waiting": 2,
            "breaker": breaker,
        }
    ]


def test_the_notes_say_which_workers_go_and_why_the_last_ones_went(facts):
    """The last three, the latest first, and no secret of theirs; the status has all ten."""
    ended = EndedFacts(
        pid=4700,
        generation=1,
        end="wedged",
        because="it stands at postgresql://shop:s3cret@db",
        ended_wall=NOW - 12.3,
        took_seconds=0.5,
    )
    service = replace(facts, wanted=2, replacing=1, ended=(ended,) * 4)

    document = health_document(service, now_wall=NOW, detailed=True)

    notes = document["notes"][4:]
    assert notes[0] == "workers still to be replaced: 1"
    assert (
        notes[1:]
        == ["worker 4700 ended 12 s ago, wedged: it stands at postgresql://shop:***@db"] * 3
    )
    (serving,) = document["checks"]["workers:serving"]
    assert (serving["status"], serving["observedValue"], serving["wanted"]) == ("warn", 1, 2)


def test_the_whole_document_of_a_service_that_is_well(facts):
    """One entry for each worker under each measurement, with the time at which it was true."""
    document = health_document(facts, now_wall=NOW, detailed=True)

    Draft202012Validator(HEALTH_SCHEMA).validate(document)
    assert document == {
        "status": "pass",
        "serviceId": "orders.main:app",
        "description": "orders.main:app in production, ready",
        "notes": ["served by Shipworthy 0.1.0", "live: yes", "ready: yes", "started: yes"],
        "checks": {
            "workers:serving": [
                {
                    "componentType": "system",
                    "status": "pass",
                    "observedValue": 1,
                    "observedUnit": "workers",
                    "wanted": 1,
                }
            ],
            "worker:heartbeatAge": [
                {
                    "componentId": "4711",
                    "componentType": "system",
                    "status": "pass",
                    "observedValue": 0.25,
                    "observedUnit": "s",
                    "time": "2023-11-14T23:13:19.750+00:00",
                }
            ],
            "orders-db:responseTime": [
                {
                    "componentId": "4711",
                    "componentType": "component",
                    "status": "pass",
                    "observedValue": 0.0021,
                    "observedUnit": "s",
                    "time": "2023-11-14T23:13:18.500+00:00",
                }
            ],
        },
    }


def test_a_failing_document_says_why_first_of_life_then_of_readiness(facts):
    """`output` is the reason of the graver answer."""
    unready = replace(facts, ready=Answer(False, "draining"))
    dead = replace(unready, live=Answer(False, "no worker was heard of for 31 s"))

    outputs = [
        health_document(one, now_wall=NOW, detailed=True)["output"] for one in (unready, dead)
    ]

    assert outputs == ["draining", "no worker was heard of for 31 s"]
    assert "ready: no, draining" in health_document(dead, now_wall=NOW, detailed=True)["notes"]


def test_what_is_wrong_stands_at_its_check(facts):
    """A blocked worker tells since when, a failing check what it answered, both redacted."""
    wrong = with_worker(
        facts,
        blocked="its event loop has not moved for 2.1 s",
        check={"status": "fail", "output": "postgresql://user:hunter2@db refused"},
    )

    checks = health_document(wrong, now_wall=NOW, detailed=True)["checks"]

    assert checks["worker:heartbeatAge"][0]["status"] == "warn"
    assert checks["worker:heartbeatAge"][0]["output"] == "its event loop has not moved for 2.1 s"
    assert checks["orders-db:responseTime"][0]["status"] == "fail"
    assert checks["orders-db:responseTime"][0]["output"] == "postgresql://user:***@db refused"


def test_a_check_not_asked_yet_is_not_called_good(facts):
    """It has no time, and the draft's nearest word to unknown is warn."""
    fresh = with_worker(facts, check={"status": "unknown", "age_seconds": None})

    entry = health_document(fresh, now_wall=NOW, detailed=True)["checks"]["orders-db:responseTime"]

    assert entry[0]["status"] == "warn"
    assert "time" not in entry[0]


def test_several_workers_stand_side_by_side(facts):
    """Each worker has its entry under the same key."""
    second = replace(facts.workers[0], pid=4712, health={})
    both = replace(facts, workers=(*facts.workers, second))

    checks = health_document(both, now_wall=NOW, detailed=True)["checks"]

    assert [entry["componentId"] for entry in checks["worker:heartbeatAge"]] == ["4711", "4712"]
    assert len(checks["orders-db:responseTime"]) == 1


def test_without_details_only_the_status_is_told(facts):
    """No name, number or reason leaves to those who may not have them."""
    document = health_document(
        replace(facts, ready=Answer(False, "check 'orders-db' failed")),
        now_wall=NOW,
        detailed=False,
    )

    assert document == {"status": "fail"}


def report(**more):
    """A resource as a judge reports it."""
    return ResourceReport(
        resource="memory", used=80.0, limit=100.0, ratio=0.8, unit="bytes", **more
    )


def with_resource(facts, found):
    """The facts with this resource of the one worker."""
    worker = facts.workers[0]
    return replace(
        facts, workers=(replace(worker, health={**worker.health, "resources": [asdict(found)]}),)
    )


@pytest.mark.parametrize(
    ("level", "whole", "line"),
    [
        (Level.OK, "pass", "pass"),
        (Level.WARN, "warn", "warn"),
        (Level.ACT, "warn", "fail"),
        (Level.EMERGENCY, "warn", "fail"),
    ],
)
@pytest.mark.parametrize("of", ["service", "worker"])
def test_a_resource_near_its_limit_warns(facts, level, whole, line, of):
    """The line says how near; the whole takes traffic as long as readiness stands."""
    found = report(level=level, because="" if level is Level.OK else "80 of 100")
    given = (
        replace(facts, resources=(found,), limits=("memory: 100 bytes (the machine)",))
        if of == "service"
        else with_resource(facts, found)
    )

    document = health_document(given, now_wall=NOW, detailed=True)

    assert document["status"] == judge_status(given) == whole
    Draft202012Validator(HEALTH_SCHEMA).validate(document)
    (entry,) = document["checks"]["memory:usedRatio"]
    assert (entry["status"], entry["observedValue"], entry["limit"]) == (line, 0.8, 100.0)
    assert entry.get("output", "") == found.because
    assert ("componentId" in entry) == (of == "worker")
    assert ("memory: 100 bytes (the machine)" in document["notes"]) == (of == "service")


def test_a_resource_that_is_not_known_has_no_line(facts):
    """A limit that nobody sets, a file that cannot be read."""
    given = replace(facts, resources=(ResourceReport(resource="processes"),))

    assert (
        "processes:usedRatio" not in health_document(given, now_wall=NOW, detailed=True)["checks"]
    )


def test_what_workers_remark_is_a_note_that_changes_no_judgement(facts):
    """Said once, however many workers say it, and only to who may know how we are built."""
    worker = facts.workers[0]
    remarking = replace(worker, health={**worker.health, "remarks": ("x counts too",)})
    given = replace(facts, workers=(remarking, replace(remarking, pid=worker.pid + 1)), wanted=2)

    document = health_document(given, now_wall=NOW, detailed=True)

    assert document["notes"].count("x counts too") == 1
    assert "notes" not in health_document(given, now_wall=NOW, detailed=False)
    assert "x counts too" not in str(document["checks"])
