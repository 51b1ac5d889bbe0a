"""The text after `run`, and the sentences for what is wrong with it."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from shipworthy.errors import TargetInvalid
from shipworthy.serve.target import AppRaised, entrypoint, load_target, parse_target


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of its own, importable, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load(text: str) -> object:
    return load_target(parse_target(text))


@pytest.mark.parametrize(
    ("text", "module", "attribute", "factory"),
    [
        ("shop:app", "shop", "app", False),
        ("shop.web.main:api.app", "shop.web.main", "api.app", False),
        ("shop:create_app()", "shop", "create_app", True),
        ("shop", "shop", "", False),
        ("src/shop.py:app", "shop", "app", False),
        ("./shop.py", "shop", "", False),
    ],
)
def test_the_forms_of_a_target(text: str, module: str, attribute: str, factory: bool) -> None:
    """Module or file, attribute or none, called or not."""
    target = parse_target(text)

    assert (target.module, target.attribute, target.factory) == (module, attribute, factory)


@pytest.mark.parametrize(
    "text", ["", ":", ":app", "shop:", "shop:()", "shop:a b", "sh op:app", "a/b:app", "shop:app(1)"]
)
def test_what_is_no_target_is_refused_with_what_to_write(text: str) -> None:
    """The sentence shows the three forms."""
    with pytest.raises(TargetInvalid, match=r"module:app, module:create_app\(\) or path/to"):
        parse_target(text)


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    """Nothing else can happen, whatever is typed."""
    with suppress(TargetInvalid):
        assert parse_target(text).module


def test_an_object_of_a_module_is_found(home: Path) -> None:
    """The plain case, and an attribute of an attribute."""
    (home / "plain_shop.py").write_text("class api:\n    app = 'inner'\napp = 'outer'\n")

    assert load("plain_shop:app") == "outer"
    assert load("plain_shop:api.app") == "inner"
    assert load("plain_shop") == "outer"


def test_a_factory_is_called(home: Path) -> None:
    """With brackets, the result is the app."""
    (home / "factory_shop.py").write_text("def create_app():\n    return 'made'\n")

    assert load("factory_shop:create_app()") == "made"


def test_a_file_is_imported_by_its_full_name_inside_its_package(home: Path) -> None:
    """Relative imports in the file work, because its package is found."""
    package = home / "deep" / "file_shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "names.py").write_text("NAME = 'here'\n")
    (package / "main.py").write_text("from .names import NAME\napp = NAME\n")

    assert load("deep/file_shop/main.py:app") == "here"


def test_a_missing_file_is_said(home: Path) -> None:
    """With the directory that was looked in."""
    with pytest.raises(TargetInvalid, match=r"there is no file nowhere\.py in "):
        load("nowhere.py:app")


def test_a_missing_module_is_said_with_the_nearest_name(home: Path) -> None:
    """A slip of the pen is answered with the right name."""
    (home / "storefront.py").write_text("app = 1\n")

    with pytest.raises(TargetInvalid, match=r"no module 'storefrnt'.*did you mean 'storefront'\?"):
        load("storefrnt:app")


def test_a_module_missing_inside_the_app_is_the_apps_own_error(home: Path) -> None:
    """`no module` would send the reader to the command line; the fault is in the app."""
    (home / "needy_shop.py").write_text("import not_installed_anywhere\napp = 1\n")

    with pytest.raises(AppRaised, match="importing 'needy_shop' raised ModuleNotFoundError") as it:
        load("needy_shop:app")

    assert "import not_installed_anywhere" in it.value.trace
    assert "importlib" not in it.value.trace


@pytest.mark.parametrize("code", ["1 / 0", "import sys; sys.exit(4)", "def broken(:"])
def test_an_app_that_raises_at_import_shows_its_own_lines_only(home: Path, code: str) -> None:
    """Its traceback begins in its file; our frames say nothing."""
    (home / "raising_shop.py").write_text(f"{code}\napp = 1\n")

    with pytest.raises(AppRaised, match="importing 'raising_shop' raised ") as caught:
        load("raising_shop:app")

    assert "raising_shop.py" in caught.value.trace
    assert "serve/target.py" not in caught.value.trace


def test_a_missing_attribute_is_said_with_the_nearest_name(home: Path) -> None:
    """Or with the factory the module has."""
    (home / "near_shop.py").write_text("application_x = 1\ndef create_app(): ...\n")

    with pytest.raises(TargetInvalid, match=r"has no attribute 'applicationx'; did you mean"):
        load("near_shop:applicationx")
    with pytest.raises(TargetInvalid, match=r"it has a factory, write near_shop:create_app\(\)"):
        load("near_shop:wsgi")
    with pytest.raises(TargetInvalid, match=r"has no 'app' or 'application'"):
        load("near_shop")


def test_a_factory_that_raises_or_is_none_is_said(home: Path) -> None:
    """With its own traceback, or that it cannot be called."""
    (home / "bad_factory.py").write_text(
        "def create_app():\n    raise OSError('no disk')\nx = 1\nasync def later(): ...\n"
    )

    with pytest.raises(AppRaised, match=r"'create_app\(\)' raised OSError: no disk") as caught:
        load("bad_factory:create_app()")
    assert "raise OSError('no disk')" in caught.value.trace
    with pytest.raises(TargetInvalid, match="'x' cannot be called"):
        load("bad_factory:x()")
    with pytest.raises(TargetInvalid, match=r"'later' is a coroutine function; .* without async"):
        load("bad_factory:later()")


def test_without_a_target_the_entrypoint_of_fastapi_is_read(tmp_path: Path) -> None:
    """The one place where a project already names its app."""
    (tmp_path / "pyproject.toml").write_text('[tool.fastapi]\nentrypoint = "shop.main:app"\n')

    assert entrypoint(tmp_path) == "shop.main:app"


@pytest.mark.parametrize("content", [None, "", "[tool.fastapi]\nentrypoint = 3\n", "]["])
def test_without_a_target_and_an_entrypoint_the_sentence_says_what_to_write(
    tmp_path: Path, content: str | None
) -> None:
    """Missing file, missing table, wrong type, broken file."""
    if content is not None:
        (tmp_path / "pyproject.toml").write_text(content)

    with pytest.raises(TargetInvalid, match="write `shipworthy run module:app`"):
        entrypoint(tmp_path)
