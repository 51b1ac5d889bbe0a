"""The service of the attack on labels, as `shipworthy run` finds it."""

from flows.cardinality import service

app = service()
