"""Writes of the same application under SQLAlchemy-Continuum, set up as its manual shows."""

from contextlib import ExitStack

from capture_places import databases, place
from capture_work import Arm, declare
from sqlalchemy_continuum import make_versioned


def arms(stack: ExitStack) -> dict[str, Arm]:
    """Return two arms for each database; the plain one has a class that is not versioned."""
    plain = declare()
    make_versioned(user_cls=None)
    versioned = declare(versioned=True)
    found = {}
    for database in databases():
        for name, item in (("plain", plain), ("Continuum", versioned)):
            engine, server = place(database, stack)
            item.metadata.create_all(engine)
            found[f"{database}, {name}"] = Arm(engine=engine, item=item, server=server)
    return found
