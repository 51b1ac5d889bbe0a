"""A library is noticed when it is imported, and not imported by being waited for."""

import importlib.util
import sys
import zipfile

import pytest

from shipworthy.arrivals import Arrivals


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A module that can be imported, by a name that nobody else has; gone afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "ship_test_library"
    (tmp_path / f"{name}.py").write_text("VALUE = 1\n")
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def told():
    return []


@pytest.fixture
def waiting(told):
    """Begin to wait for modules; nobody waits after the test."""
    begun = []

    def wait(*names):
        arrivals = Arrivals(names, lambda module: told.append(module))
        begun.append(arrivals)
        arrivals.begin()
        return arrivals

    yield wait
    for arrivals in begun:
        arrivals.end()


def test_an_import_is_told_once_when_the_module_is_whole(library, told, waiting):
    """And what is told is the module itself."""
    waiting(library)
    before = list(told)

    module = __import__(library)
    __import__(library)

    assert (before, told) == ([], [module])
    assert told[0].VALUE == 1


def test_what_is_imported_already_is_told_at_once(library, told, waiting):
    """In any order of ours and theirs."""
    module = __import__(library)

    waiting(library)

    assert told == [module]


def test_an_import_that_fails_is_waited_for_again(library, told, waiting, tmp_path):
    """An application may catch the error and try once more."""
    (tmp_path / f"{library}.py").write_text("raise RuntimeError\n")
    waiting(library)
    with pytest.raises(RuntimeError):
        __import__(library)
    assert told == []

    (tmp_path / f"{library}.py").write_text("VALUE = 'second'\n")
    module = __import__(library)

    assert told == [module]


def test_whoever_only_asks_for_a_module_does_not_use_its_arrival_up(library, told, waiting):
    """Frameworks look whether a library is there, and import it later."""
    waiting(library)
    found = [importlib.util.find_spec(library) is not None for _ in range(2)]
    before = list(told)

    module = __import__(library)

    assert (found, before, told) == ([True, True], [], [module])


def test_a_library_in_a_zip_file_is_told_as_well(library, told, waiting, tmp_path, monkeypatch):
    """One loader serves all that is in there, and everybody who asks."""
    other = f"{library}_other"
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        for name in (f"{library}_zipped", other):
            packed.writestr(f"{name}.py", "VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "all.zip"))
    waiting(f"{library}_zipped")
    for _ in range(2):
        importlib.util.find_spec(f"{library}_zipped")

    __import__(other)
    before = list(told)
    module = __import__(f"{library}_zipped")

    assert (before, told) == ([], [module])
    for name in (f"{library}_zipped", other):
        del sys.modules[name]


def test_a_library_that_is_not_there_is_not_found_by_us(told, waiting):
    """The import fails as it would without us."""
    waiting("ship_test_no_such_library")

    with pytest.raises(ModuleNotFoundError):
        __import__("ship_test_no_such_library")

    assert told == []


def test_after_the_end_nothing_is_told(library, told, waiting):
    """And an end is an end, however often it is said."""
    arrivals = waiting(library)
    arrivals.end()
    arrivals.end()

    __import__(library)

    assert told == []
    assert arrivals not in sys.meta_path
