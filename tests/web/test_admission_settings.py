"""The defaults of admission are those its reference page gives a reason for."""

import pytest

from shipworthy.settings import load
from shipworthy.web import AdmissionSettings


def test_by_default_it_reports_and_nobody_is_preferred(tmp_path):
    """How long its clients wait is for the team to know."""
    found = load(environ={}, directory=tmp_path).of(AdmissionSettings)
    assert found == AdmissionSettings()
    assert (found.mode, found.critical, found.sheddable) == ("report", (), ())
    assert found.unready_after_seconds == 0


@pytest.mark.parametrize("name", ["critical", "sheddable"])
def test_what_names_no_request_is_refused(name):
    """A pattern that could never meet one protects nobody, silently."""
    assert AdmissionSettings(**{name: ("POST /pay", "/a/{b}/*")}).refusals("production") == []
    (told,) = AdmissionSettings(**{name: ("GET pay",)}).refusals("production")
    assert told.startswith(f"admission.{name}: 'GET pay' has no path; write one that begins with")
