"""The same service inside Shipworthy: this one line is the whole difference."""

from shipworthy import harden
from shipworthy.demo import service

app = harden(service.app)
