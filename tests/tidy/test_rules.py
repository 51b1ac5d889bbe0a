"""The house keeps its rules, and each rule can fail: a sample that breaks it stands beside it."""

import pytest

import reference
from shipworthy.events import Metric, metrics_of
from shipworthy.serve import service_catalogue
from shipworthy.settings import load
from tidy import rules
from tidy.house import ROOT, modules_under, sample

HOUSE = modules_under()
TESTS = [path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("*.py")]
SIGNED = '"""A room.\n\nNot here: the rest.\n"""\n\n__all__ = ["Thing"]\n'
TEXTS = [
    (path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    for folder in ("src", "tests", "scripts", "benchmarks", "evidence", "docs")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".md", ".sh", ".html", ".js", ".css", ".sql", ".toml"}
    if "_build" not in path.parts
]


def holds(found: list[str]) -> None:
    """Fail with one line for each offence, uncut."""
    assert not found, "\n".join(["", *found])


def test_rooms_are_entered_by_their_doors():
    """No room imports a submodule of another."""
    holds(rules.entered_by_the_window(HOUSE))


@pytest.mark.parametrize(
    "line",
    [
        "from shipworthy.web.line import Line",
        "from shipworthy.web import line",
        "import shipworthy.web.line",
        "from ..web.line import Line",
    ],
)
def test_an_import_through_the_window_is_reported(line):
    """All ways to write the import are seen, and the message names the door."""
    house = sample({"web/__init__.py": SIGNED, "web/line.py": "", "serve/worker.py": line})

    assert rules.entered_by_the_window(house) == [
        (
            "src/shipworthy/serve/worker.py:1: imports shipworthy.web.line; "
            "import it from its door, shipworthy.web"
        )
    ]


def test_a_room_may_import_its_own_modules():
    """Inside a room everything may be imported."""
    house = sample({"web/__init__.py": "from shipworthy.web.line import Line", "web/line.py": ""})

    assert rules.entered_by_the_window(house) == []


def test_a_name_that_a_door_offers_is_not_the_file_behind_it():
    """`emit` stands in `events/emit.py`; importing the function enters by the door."""
    house = sample(
        {
            "events/__init__.py": '__all__ = ["emit"]\nfrom shipworthy.events.emit import emit',
            "events/emit.py": "def emit(): ...",
            "web/line.py": "from shipworthy.events import emit",
        }
    )

    assert rules.entered_by_the_window(house) == []


def test_every_module_is_reached_from_a_front_door():
    """Code that nothing calls is not a feature."""
    holds(rules.not_reached(HOUSE))


def test_a_module_that_nothing_calls_is_reported():
    """An import, a `python -m` name and a target reach; standing beside others does not."""
    house = sample(
        {
            "__init__.py": "",
            "cli.py": "def run():\n    from shipworthy.serve import start",
            "serve/__init__.py": 'COMMAND = ["python", "-m", "shipworthy.serve"]',
            "serve/__main__.py": "from shipworthy.serve.worker import main",
            "serve/worker.py": 'TARGET = "shipworthy.demo:app"',
            "demo/__init__.py": "",
            "serve/forgotten.py": "from shipworthy.serve import other",
            "serve/other.py": "",
        }
    )

    assert rules.not_reached(house) == [
        f"src/shipworthy/serve/{name}.py: no front door (shipworthy, shipworthy.cli, "
        "shipworthy.__main__, shipworthy.faults.__main__) leads here; call it or delete it"
        for name in ("forgotten", "other")
    ]


def test_no_name_is_vague():
    """Files and classes are named after what they are."""
    holds(rules.vague_names(HOUSE))


@pytest.mark.parametrize("name", ["PoolManager", "EventHandler", "AdvancedBreaker", "UserService"])
def test_a_vague_class_is_reported(name):
    """The usual empty words are refused at the end and at the beginning of a class name."""
    found = rules.vague_names(sample({"web/line.py": f"\nclass {name}: ..."}))

    assert found == [f"src/shipworthy/web/line.py:2: class {name}: name it after what it is"]


def test_a_vague_file_is_reported():
    """A drawer without a label fills up."""
    found = rules.vague_names(sample({"web/utils.py": ""}))

    assert found == [
        "src/shipworthy/web/utils.py: 'utils' says nothing; name the file after what it holds"
    ]


def test_a_public_class_name_means_one_thing():
    """Nobody has to ask which `Check` is meant."""
    holds(rules.ambiguous_classes(HOUSE))


def test_a_class_name_used_twice_is_reported():
    """Private classes may share a name, public ones may not."""
    house = sample(
        {
            "a.py": "class Check: ...\nclass _State: ...",
            "b.py": "class Check: ...\nclass _State: ...",
        }
    )

    assert rules.ambiguous_classes(house) == [
        (
            "src/shipworthy/a.py:1, src/shipworthy/b.py:1: class Check means 2 things; "
            "rename all but one"
        )
    ]


def test_nobody_catches_everything_in_silence():
    """A broad except does something about what it caught."""
    holds(rules.silent_excepts(HOUSE))


@pytest.mark.parametrize(
    "code",
    [
        "try: f()\nexcept Exception: pass",
        "try: f()\nexcept: ...",
        "for x in y:\n  try: f()\n  except (KeyError, BaseException): continue",
        "try: f()\nexcept builtins.Exception:\n  'why not'",
        "with contextlib.suppress(Exception): f()",
    ],
)
def test_a_silent_broad_except_is_reported(code):
    """All ways to swallow everything are seen."""
    assert len(rules.silent_excepts(sample({"a.py": code}))) == 1


def test_a_narrow_or_speaking_except_is_fine():
    """Catching one kind, or doing something about it, is no offence."""
    code = "try: f()\nexcept KeyError: pass\ntry: f()\nexcept Exception as e: log(e)"

    assert rules.silent_excepts(sample({"a.py": code})) == []


def test_every_room_says_what_it_is_and_what_it_is_not():
    """A newcomer finds the room in half a minute."""
    holds(rules.doors_without_a_sign(HOUSE))


def test_a_door_without_a_sign_is_reported():
    """Docstring, "Not here:" and `__all__` are each asked for; a folder inside a room is free."""
    house = sample(
        {
            "a/__init__.py": "",
            "b/__init__.py": '"""A room."""\n__all__ = ["Thing"]',
            "c/__init__.py": SIGNED,
            "c/dialects/__init__.py": "",
        }
    )

    assert [line.partition(";")[0] for line in rules.doors_without_a_sign(house)] == [
        "src/shipworthy/a/__init__.py:1: no docstring",
        "src/shipworthy/a/__init__.py:1: no __all__",
        'src/shipworthy/b/__init__.py:1: no paragraph "Not here:"',
    ]


def test_only_dialects_know_which_database_they_talk_to():
    """A choice by the name of a database stands in a `dialects/` folder."""
    holds(rules.dialects_outside(HOUSE))


@pytest.mark.parametrize(
    "code",
    [
        'if engine.dialect.name == "sqlite": f()',
        'if name in {"mysql", "other"}: f()',
        'match name:\n  case "postgresql": f()',
    ],
)
def test_a_choice_by_dialect_is_reported(code):
    """Comparisons, memberships and matches are seen; in `dialects/` they are at home."""
    house = sample({"web/a.py": code, "db/dialects/a.py": code})

    (found,) = rules.dialects_outside(house)

    assert found.startswith("src/shipworthy/web/a.py:")


def test_tests_mirror_the_sources():
    """Whoever changes `web/line.py` knows where its tests are, and finds nothing else there."""
    holds(rules.tests_out_of_place(HOUSE, TESTS) + rules.untested(HOUSE, TESTS))


def test_a_test_out_of_place_is_reported():
    """A test file of a room is named after a module; other folders are free."""
    house = sample({"web/__init__.py": SIGNED, "web/line.py": "", "clock.py": ""})
    tests = [
        "web/test_line.py",
        "web/test_more.py",
        "test_clock.py",
        "test_all.py",
        "flows/test_x.py",
    ]

    assert rules.tests_out_of_place(house, tests) == [
        "tests/test_all.py: tests no module of that name; name it after the module it tests",
        "tests/web/test_more.py: tests no module of that name; name it after the module it tests",
    ]


def test_a_module_without_its_tests_is_reported():
    """A file with a function in it has a test file; declarations need none."""
    house = sample(
        {
            "web/line.py": "def f(): return 1",
            "web/facts.py": "X = 1\ndef declared(): ...",
            "clock.py": "def f(): return 1",
        }
    )

    assert rules.untested(house, ["test_clock.py"]) == [
        "src/shipworthy/web/line.py: has no tests/web/test_line.py; write it"
    ]


def test_nothing_is_left_to_do():
    """What is not done is an issue, not a comment."""
    holds(rules.left_to_do(TEXTS))


def test_a_comment_that_leaves_something_to_do_is_reported():
    """The mark counts in comments only."""
    text = "x = 1  # " + "TODO tidy\n" + 'y = "TODO"\n'

    assert rules.left_to_do([("a.py", text)]) == [
        "a.py:1: 'TODO' in a comment; do it now, or file an issue"
    ]


def test_the_demo_is_a_stranger():
    """The service it hardens knows nothing of us; the hardening uses the front door."""
    holds(rules.strangers_in_the_demo(HOUSE))


def test_a_demo_that_knows_us_is_reported():
    """What the service imports of its own is followed, so it cannot know us through a sibling."""
    house = sample(
        {
            "__init__.py": "",
            "web/__init__.py": SIGNED,
            "demo/__init__.py": "from shipworthy.web import Thing",
            "demo/service.py": "from shipworthy.demo.models import Base",
            "demo/models.py": "from shipworthy import harden",
            "demo/hardened.py": "from shipworthy.web import Line\nfrom shipworthy import harden",
        }
    )

    assert rules.strangers_in_the_demo(house) == [
        "src/shipworthy/demo/hardened.py:1: imports shipworthy.web; use `shipworthy` itself",
        "src/shipworthy/demo/models.py:1: the service imports shipworthy; it must not",
    ]


def test_every_metric_is_shown_or_says_why_not(tmp_path):
    """A number that nobody sees was counted for nothing."""
    catalogue = service_catalogue(load(environ={}, directory=tmp_path))
    things = (*catalogue.panels.values(), *catalogue.alerts.values())

    holds(rules.unshown(reference.declared_metrics(), [m for t in things for m in metrics_of(t)]))


def test_a_metric_that_nobody_sees_is_reported():
    """As is one that says so and is seen."""
    seen, unseen = Metric("a", "gauge", "A."), Metric("b", "gauge", "B.")
    quiet = Metric("c", "gauge", "C.", unshown="it is for a test")

    assert rules.unshown([seen, unseen, quiet], [seen]) == [
        "metric b is in no panel and no alert; show it, or say in `unshown` why not"
    ]
    assert rules.unshown([quiet], [quiet]) == [
        "metric c is shown, and says that it is not: it is for a test"
    ]


def test_every_event_is_emitted():
    """What is declared and never said is a promise that nobody keeps."""
    holds(rules.never_emitted(HOUSE))


def test_an_event_that_is_never_emitted_is_reported():
    """To import it is not to say it."""
    declares = "@event(severity=1)\nclass Sunk(Event):\n    pass\n"
    house = sample({"web/a.py": declares, "web/b.py": "from shipworthy.web.a import Sunk"})

    assert rules.never_emitted(house) == [
        "src/shipworthy/web/a.py:2: the event Sunk is never emitted; emit it or delete it"
    ]
    assert not rules.never_emitted(sample({"web/a.py": declares + "emit(Sunk)"}))
