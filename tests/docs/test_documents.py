"""The documents name only what exists and do not praise; each rule can fail, as a sample shows."""

import importlib
from pathlib import Path

import pytest

import reference
from docs import documents as rules
from docs.documents import ROOT, Document
from shipworthy.db.migrate.batches import BACKFILLS
from shipworthy.db.tables import IDEMPOTENCY, OUTCOMES, SCHEMA
from shipworthy.store import BUCKETS

ALL = rules.documents()
each_document = pytest.mark.parametrize("document", ALL, ids=lambda document: document.path)


def holds(found: list[str]) -> None:
    """Fail with one line for each offence, uncut."""
    assert not found, "\n".join(["", *found])


def document(text: str) -> Document:
    return Document("a.md", text)


def resolves(name: str) -> bool:
    """Is `name` a module, or an attribute of one?"""
    module, _, rest = name, "", ""
    while module:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest = f"{last}.{rest}".rstrip(".")
            continue
        for part in filter(None, rest.split(".")):
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def in_repository(path: str) -> bool:
    return any(ROOT.glob(path.rstrip("/"))) if "*" in path else (ROOT / path).exists()


@each_document
def test_no_document_praises_itself(document):
    """Words that say nothing are not written."""
    holds(rules.praise(document))


@each_document
def test_every_link_into_the_repository_leads_somewhere(document):
    """Sphinx checks the links among its pages; this one checks all the others too."""
    folder = (ROOT / document.path).parent

    holds(rules.dead_links(document, lambda target: (folder / target).exists()))


@each_document
def test_every_file_named_is_there(document):
    """A path of ours in backticks can be opened."""
    holds(rules.unknown_files(document, in_repository))


@each_document
def test_every_python_name_exists(document):
    """What is named in backticks, or imported by an example, can be imported."""
    holds(rules.unknown_names(document, resolves))


@each_document
def test_every_command_and_option_exists(document):
    """What the reader is told to type is understood."""
    holds(rules.unknown_commands(document, reference.verbs()))


@each_document
def test_every_setting_and_event_exists(document):
    """A key in backticks is a setting or an event."""
    # The name that OpenTelemetry has for it is in traces, and looks the same.
    facts = {*reference.facts(), "client.address"}
    holds(rules.unknown_settings(document, reference.keys(), facts))


@each_document
def test_every_metric_named_is_declared(document):
    """A metric in backticks can be queried; tables and a schema of ours look the same."""
    tables = {table.name for table in (SCHEMA, OUTCOMES, IDEMPOTENCY, BACKFILLS, BUCKETS)}
    tables |= {"shipworthy_live"}
    holds(rules.unknown_metrics(document, reference.metrics() | tables))


@pytest.mark.parametrize("page", sorted(reference.PAGES))
def test_the_generated_pages_say_what_the_code_says(page):
    """`make fix` writes them anew."""
    written = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")

    assert written == reference.PAGES[page]()


@pytest.mark.parametrize(
    ("rule", "known", "bad", "says"),
    [
        (
            rules.dead_links,
            lambda target: target == "b.md",
            "[b](b.md) [c](c.md#x)",
            "links to c.md",
        ),
        (rules.unknown_files, lambda path: False, "`src/x.py` and `your/x.py`", "`src/x.py`"),
        (rules.unknown_names, lambda name: False, "`shipworthy.web.Lime` `other.x`", "web.Lime"),
        (
            rules.unknown_names,
            lambda name: name == "shipworthy.harden",
            "```python\nfrom shipworthy import harden, soften\n```\n",
            "shipworthy.soften",
        ),
        (
            rules.unknown_commands,
            {"": {"--version"}, "run": {"--port"}, "config show": ()},
            "`shipworthy run a:app --port 1` `shipworthy config show` `shipworthy fly`",
            "no command fly",
        ),
        (
            rules.unknown_commands,
            {"": (), "audit hold": (), "audit hold add": {"--reason"}},
            "`shipworthy audit hold add table x --reason y` `shipworthy audit hold --reason y`",
            "audit hold has no option --reason",
        ),
        (
            rules.unknown_commands,
            {"": (), "run": {"--port"}},
            "```console\n$ A=1 shipworthy run a:app --port=1 --fast  # --slow\n```\n",
            "run has no option --fast",
        ),
    ],
    ids=["link", "file", "name", "import", "command", "nested", "option"],
)
def test_what_does_not_exist_is_reported(rule, known, bad, says):
    """One sentence for the one thing that is wrong, and none for what is right beside it."""
    (found,) = rule(document(bad), known)

    assert found.startswith("a.md: ")
    assert says in found


@pytest.mark.parametrize(
    "bad", ["`serve.prot`", "`SHIPWORTHY_SERVE__PROT=1`", "`SHIPWORTHY_WEB__X`"]
)
def test_an_unknown_setting_is_reported(bad):
    """Keys and variables are both checked; events and other dotted words are left alone."""
    fine = "`serve.port` `SHIPWORTHY_SERVE__PORT_FILE` `serve.worker_started` `module.name`"

    found = rules.unknown_settings(
        document(f"{fine} {bad}"), {"serve.port"}, {"serve.worker_started"}
    )

    assert len(found) == 1


def test_an_unknown_metric_is_reported():
    """Only names that begin like ours are metrics of ours."""
    found = rules.unknown_metrics(document("`shipworthy_a` `shipworthy_b` `up`"), {"shipworthy_a"})

    assert found == ["a.md: names the metric `shipworthy_b`, which is not declared"]


def test_praise_is_reported_with_its_place():
    """Any of the words, in any case."""
    assert rules.praise(document("A\nRobust thing.\n")) == [
        "a.md:2: 'Robust'; say what it does instead"
    ]


def test_names_are_looked_for_where_they_are_said_to_be():
    """Modules, classes and their attributes are found; inventions are not."""
    assert resolves("shipworthy.errors.Rejected.status")
    assert resolves("shipworthy.clock")
    assert not resolves("shipworthy.clock.Sundial")
    assert not resolves("shipworthy.sundial")


def test_every_page_is_read():
    """The rules would pass on nothing."""
    assert {"README.md", "docs/index.md"} <= {Path(document.path).as_posix() for document in ALL}
