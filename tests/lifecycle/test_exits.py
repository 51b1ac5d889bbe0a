"""Exit codes are a contract with what starts us."""

from shipworthy.lifecycle import Exit


def test_the_codes_are_those_of_the_reference() -> None:
    """0 clean, 2 misuse, 3 start failed, 70 forced, 75 recycle, 78 settings."""
    assert {code.name: int(code) for code in Exit} == {
        "CLEAN": 0,
        "MISUSE": 2,
        "START_FAILED": 3,
        "FORCED": 70,
        "RECYCLE": 75,
        "SETTINGS": 78,
    }
