"""Which policies a request is held to."""

from shipworthy.admission import LimitsSettings, plan_of
from shipworthy.settings import load

TEXT = """
[limits.policies.day]
rate = "500000/day"
[limits.policies.items]
match = ["GET /items/{id}"]
rate = "9/second"
[limits.policies.feed]
match = ["/feed"]
rate = "5000/minute"
with_default = false
[limits.policies.gone]
rate = "1/minute"
mode = "off"
"""


def plan(tmp_path, text, template_of=lambda path: ""):
    (tmp_path / "shipworthy.toml").write_text(text)
    policies, problems = load(directory=tmp_path, environ={}).of(LimitsSettings).read()
    assert problems == []
    return plan_of(policies, template_of)


def names(found):
    return [policy.name for policy in found[0]]


def test_all_that_match_hold_in_the_order_in_which_they_are_written(tmp_path):
    """The default first; where one stands in its place, that one goes."""
    found = plan(tmp_path, TEXT)
    assert found.everywhere is None
    assert names(found.policies_for("GET", "/items/7")) == ["default", "day", "items"]
    assert names(found.policies_for("POST", "/items/7")) == ["default", "day"]
    assert names(found.policies_for("GET", "/feed/")) == ["day", "feed"]


def test_where_every_policy_is_for_every_request_no_path_is_looked_at(tmp_path):
    """Which is so without any word in the settings."""
    assert [policy.name for policy in plan(tmp_path, "").everywhere] == ["default"]
    text = "[limits.policies.day]\nrate = '100/day'\nwith_default = false\n"
    assert [policy.name for policy in plan(tmp_path, text).everywhere] == ["day"]
    assert plan(tmp_path, "[limits.policies.default]\nper_route = true\n").everywhere is None


def test_a_path_is_looked_up_once_and_a_long_one_is_not_remembered(tmp_path):
    """What clients make up must not fill the memory."""
    asked = []

    def template_of(path):
        asked.append(path)
        return "/items/{item}" if path.startswith("/odd") else ""

    found = plan(tmp_path, TEXT, template_of)
    assert names(found.policies_for("GET", "/odd")) == ["default", "day", "items"]
    assert found.policies_for("GET", "/odd")[1] == "/items/{item}"
    long = "/" + "x" * 300
    for _ in range(2):
        found.policies_for("GET", long)
    assert asked == ["/odd", long, long]


def test_a_policy_that_only_reports_does_not_take_the_default_away(tmp_path):
    """Else its requests would be held to nothing while it is tried out."""
    text = "[limits]\nmode = '{}'\n[limits.policies.feed]\nmatch = ['/feed']\nmode = 'report'\n"
    text += "rate = '9000/minute'\nwith_default = false\n"
    enforced = plan(tmp_path, text.format("enforce"))
    assert names(enforced.policies_for("GET", "/feed")) == ["default", "feed"]
    reported = plan(tmp_path, text.format("report"))
    assert names(reported.policies_for("GET", "/feed")) == ["feed"]
