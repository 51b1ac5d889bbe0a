"""The section [limits]: what it means, and what is refused in one sentence each."""

import pytest

from shipworthy.admission import LimitsSettings
from shipworthy.settings import load


@pytest.fixture
def limits(tmp_path):
    def read(text="", environ=None):
        (tmp_path / "shipworthy.toml").write_text(text)
        return load(directory=tmp_path, environ=environ or {}).of(LimitsSettings)

    return read


def test_without_a_word_a_thousand_a_minute_are_reported(limits):
    """For each client, 200 of them at once, and nobody is refused."""
    (policy,), problems = limits().read()
    assert problems == []
    assert (policy.name, policy.mode, policy.shown) == (
        "default",
        "report",
        "1000/minute, 200 at once",
    )
    assert policy.sources == ("api_key", "user", "network")
    assert policy.quota.worst_in(60 * 10**9) == 1199


def test_a_policy_says_how_it_is_counted_and_what_it_does_alone(limits):
    """And a mode of its own counts for it before the one of the section."""
    policies, problems = limits(
        "[limits]\nmode = 'enforce'\n"
        "[limits.policies.login]\nmatch = ['POST /login']\nrate = '5/15m'\nalgorithm = 'exact'\n"
        "[limits.policies.day]\nrate = '10000/day'\nalgorithm = 'sliding'\nmode = 'report'\n"
    ).read()
    assert problems == []
    assert [(p.name, p.mode, p.shown) for p in policies] == [
        ("default", "enforce", "1000/minute, 200 at once"),
        ("login", "enforce", "5/15m, exact"),
        ("day", "report", "10000/day, sliding"),
    ]


def test_a_small_rate_has_a_burst_of_one(limits):
    """A fifth of it would be none."""
    (policy,), _ = limits("[limits.policies.default]\nrate = '3/minute'\n").read()
    assert policy.quota.burst == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("match = []", "limits.policies.x.match is empty, so it can never match"),
        ("match = ['login']", "limits.policies.x.match: 'login' has no path"),
        ("match = ['/a?b']", "limits.policies.x.match: '/a?b' can never match"),
        ("key = []", "limits.policies.x.key is empty, so nobody is told apart"),
        ("key = ['ip']", "limits.policies.x.key: there is no 'ip'; write api_key, user, network"),
        (
            "key = ['network', 'user']",
            "limits.policies.x.key: 'user' stands behind 'network', which every request has",
        ),
        ("rate = 'often'", "limits.policies.x.rate: 'often' is no rate"),
        ("rate = '2000000000/s'", "limits.policies.x.rate"),
        ("rate = '1/400d'", "limits.policies.x: a quota is for a period of up to 366 days"),
        ("burst = 2000", "limits.policies.x: a burst is between 1 and the count, 1000, not 2000"),
        (
            "cost = 300",
            "limits.policies.x.cost: 300 is more than can be had at once, 200, so no request",
        ),
        (
            "rate = '101/m'\nalgorithm = 'exact'",
            "limits.policies.x.rate",
        ),
        (
            "rate = '101/minute'\nalgorithm = 'exact'",
            "limits.policies.x.rate: an exact policy remembers each request and allows at most 100",
        ),
        (
            "rate = '60/minute'\nalgorithm = 'exact'\ntiers = ['gold']",
            "limits.policies.x.rate: an exact policy remembers each request and allows at most 1",
        ),
        ("tiers = ['lead']", "limits.policies.x.tiers: there is no tier 'lead'"),
        (
            "match = ['/a']",
            "limits.policies.x can never refuse: 'default' (1000/minute, 200 at once) covers all",
        ),
    ],
)
def test_what_cannot_mean_what_it_says_is_refused_in_one_sentence(limits, text, says):
    """It names the key and what to write instead; in every environment, so before it counts."""
    found = limits(f"[limits.policies.x]\n{text}\n[limits.tiers.gold]\nusers = ['ana']\n")
    (told,) = found.refusals("development")
    assert told.startswith(says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[limits]\napi_key_header = 'X-Key'\n", "limits.api_key_header: 'X-Key' is no header"),
        ("[limits.tiers.gold]\n", "limits.tiers.gold has no clients"),
    ],
)
def test_the_section_itself_is_refused_where_it_cannot_be(limits, text, says):
    """Of a store only its kind is said: the rest may hold a password."""
    (told,) = limits(text).refusals("development")
    assert told.startswith(says)
    assert "secret" not in told


def test_more_policies_than_can_be_looked_at_are_refused(limits):
    """Each is looked at for every new path."""
    text = "".join(
        f"[limits.policies.p{n}]\nmatch = ['/p{n}']\nrate = '{n + 1}/s'\nmode = 'off'\n"
        for n in range(101)
    )
    assert any("102 are too many; write 100 at most" in told for told in limits(text).refusals(""))


POLICY = "[limits.policies.{}]\nmatch = ['{}']\nrate = '{}'\n{}\n"


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (("/a*", "5/minute", ""), ("GET /a/b", "50/minute", ""), "two"),
        (("GET /a/b", "5/minute", ""), ("/a*", "50/minute", ""), None),
        (("/a*", "50/minute", ""), ("GET /a/b", "5/minute", ""), None),
        (("/a", "5/minute", ""), ("/a", "5/minute", ""), "two"),
        (("/a", "50/minute", ""), ("/a", "5/minute", ""), "one"),
        (("/a", "5/minute", ""), ("/a", "50/minute", "key = ['network']"), None),
        (("/a", "5/minute", ""), ("/a", "50/minute", "count = 'failures'"), None),
        (("/a", "5/minute", "mode = 'report'"), ("/a", "50/minute", ""), None),
        (("/a", "5/minute", ""), ("/a", "50/minute", "algorithm = 'exact'"), "two"),
        (("/a", "5/minute", ""), ("/a", "9/minute", "algorithm = 'exact'"), "two"),
        (("/a", "5/minute", ""), ("/a", "4/minute", "algorithm = 'exact'"), None),
        (("/a", "5/minute", ""), ("/a", "50/minute", "algorithm = 'sliding'"), "two"),
        (("/a", "5/minute", ""), ("/a", "9/minute", "algorithm = 'sliding'"), None),
        (("/a", "5/minute", "algorithm = 'exact'"), ("/a", "5/minute", ""), "one"),
        (("/a", "5/minute", "algorithm = 'exact'"), ("/a", "500/minute", ""), None),
    ],
)
def test_a_policy_that_another_leaves_nothing_to_refuse_is_told_of(limits, first, second, told):
    """Whichever stands first; of two that say the same, the later one. In doubt none is."""
    text = POLICY.format("one", *first) + POLICY.format("two", *second)
    text = f"[limits]\nmode = 'enforce'\n{text}"
    found = limits(text + "[limits.policies.default]\nmode = 'off'\n").refusals("")
    assert [sentence.split()[0] for sentence in found] == (
        [f"limits.policies.{told}"] if told else []
    )


def test_a_policy_that_stands_in_the_place_of_the_default_may_allow_more(limits):
    """The default is not asked for its requests, so it leaves it something to refuse."""
    text = "[limits.policies.feed]\nmatch = ['/feed']\nrate = '5000/minute'\n"
    assert len(limits(text).refusals("")) == 1
    assert limits(text + "with_default = false\n").refusals("") == []


def test_policies_may_be_set_by_variables(limits):
    """As every setting."""
    found = limits(environ={"SHIPWORTHY_LIMITS__POLICIES__DEFAULT__RATE": "10/second"})
    assert found.read()[0][0].shown == "10/second, 2 at once"
