"""Applications from PyPI that know nothing of us: their environments, their visits, their suites.

`evidence/third_party.py` runs them; nothing here is part of the package.
"""
