"""The public API is what the lock file says, so that a change of it is seen in the diff."""

import api


def test_the_public_api_equals_its_lock():
    """`make fix` writes `api.txt` anew; a change of it is a changelog entry."""
    assert api.LOCK.read_text(encoding="utf-8") == api.surface()


def test_a_change_of_a_signature_is_seen(tmp_path):
    """Names come from `__all__`, signatures from their definition, private parts from nowhere."""
    room = tmp_path / "shipworthy" / "web"
    room.mkdir(parents=True)
    (tmp_path / "shipworthy" / "__init__.py").write_text(
        '__all__ = ["__version__"]\n__version__ = "1"\n'
    )
    (room / "__init__.py").write_text(
        'from shipworthy.web.line import Line, line\n__all__ = ["Line", "line"]\n'
    )
    (room / "line.py").write_text(
        "class Line(Base):\n    size: int = 3\n"
        "    def go(self, *, fast: bool = False) -> None: ...\n"
        "    def _stop(self): ...\nasync def line(x): ...\ndef hidden(): ...\n"
    )

    assert api.surface(tmp_path).splitlines()[1:] == [
        "shipworthy.__version__",
        "class shipworthy.web.Line(Base)",
        "def shipworthy.web.Line.go(self, *, fast: bool=False) -> None",
        "shipworthy.web.Line.size: int = 3",
        "async def shipworthy.web.line(x)",
    ]


def test_the_package_itself_offers_at_most_25_names():
    """A front door that everybody can know by heart."""
    import shipworthy

    assert len(shipworthy.__all__) <= 25
