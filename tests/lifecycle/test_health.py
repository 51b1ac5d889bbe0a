"""The report of one process, as it travels over a pipe."""

import json

from shipworthy.lifecycle import (
    Answer,
    CheckReport,
    CheckStatus,
    ComponentReport,
    HealthReport,
    Phase,
)


def test_a_report_survives_json_with_every_fact() -> None:
    """What the supervisor reads is what the worker said, with plain texts for the enums."""
    report = HealthReport(
        phase=Phase.LAME_DUCK,
        since=1700.5,
        transitions=((Phase.STARTING, 1699.0), (Phase.LAME_DUCK, 1700.5)),
        live=Answer(ok=True),
        ready=Answer(ok=False, because="draining"),
        startup=Answer(ok=True),
        checks=(
            CheckReport(
                name="db",
                kinds=("ready",),
                status=CheckStatus.FAIL,
                status_seconds=3.0,
                age_seconds=None,
                took_seconds=0.1,
                output="away",
            ),
        ),
        components=(
            ComponentReport(name="db", requires=("settings",), up=True, start_took_seconds=0.2),
        ),
    )

    assert json.loads(json.dumps(report.to_dict())) == {
        "phase": "lame_duck",
        "since": 1700.5,
        "transitions": [["starting", 1699.0], ["lame_duck", 1700.5]],
        "live": {"ok": True, "because": ""},
        "ready": {"ok": False, "because": "draining"},
        "startup": {"ok": True, "because": ""},
        "checks": [
            {
                "name": "db",
                "kinds": ["ready"],
                "status": "fail",
                "status_seconds": 3.0,
                "age_seconds": None,
                "took_seconds": 0.1,
                "output": "away",
            }
        ],
        "components": [
            {"name": "db", "requires": ["settings"], "up": True, "start_took_seconds": 0.2}
        ],
    }
