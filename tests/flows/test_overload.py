"""Overload on real sockets: the important is served, the rest is told, and it is over soon."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows import overload
from serve.launch import BRISK, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

APP = f"{Path(__file__).parent / 'apps' / 'costly.py'}:app"
# Sooner than by default, since the whole is to be seen in three seconds; and longer waits, since on
# a machine with ten times its work an important request may wait for more than half a second.
SETTINGS = (
    BRISK
    + """
[admission]
mode = "enforce"
critical = ["/critical"]
after = "300ms"
until = "500ms"
wait = "2s"
"""
)


def clients(port, phases, deadline_seconds=30.0):
    """Run the phases in a process of its own, and return what became of each."""
    plan = json.dumps({"phases": phases, "deadline_seconds": deadline_seconds})
    done = subprocess.run(
        [sys.executable, overload.__file__, str(port), plan],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    return json.loads(done.stdout)["phases"]


def test_in_an_overload_the_critical_are_served_and_the_rest_is_told(tmp_path):
    """Twenty times what can be served: all critical ones have their answer, most others 503.

    Then as many as can be served come, and all are. Before it, nobody was turned away.
    """
    calm = {"seconds": 1.0, "rates": {"/rest": 100, "/work": 1}, "together": 1}
    rush = {"seconds": 1.5, "rates": {"/work": 400, "/critical": 2}}
    with started(APP, directory=tmp_path, settings=SETTINGS) as service:
        service.until_ready()
        port = int(service.url.rpartition(":")[2])
        before, during, after = clients(port, [calm, rush, calm])
        service.until(lambda: service.events("web.service_recovered"))
        metrics = service.metrics()

    for found in before["paths"].values():
        assert (found["shed"], found["other"], found["late"], found["refused"]) == (0, 0, 0, 0)
    critical, work = during["paths"]["/critical"], during["paths"]["/work"]
    assert (critical["good"], critical["shed"]) == (3, 0)
    assert work["shed"] > work["good"] > 0
    assert work["other"] == work["late"] == work["refused"] == 0
    assert after["paths"]["/work"]["good"] + after["paths"]["/work"]["shed"] == 1
    (overloaded, *_) = service.events("web.service_overloaded")
    assert overloaded["why"] == "loop"
    assert 'shipworthy_admission_shed_total{class="critical",reason="crowded"} 0' in metrics
    assert "shipworthy_admission_limit 0" in metrics
