"""A small project tracker, bare and hardened, with traffic: what `shipworthy demo` starts.

`service.py` and the modules it stands on (`models`, `schemas`, `database`, `migrate`, `seed`) are
an ordinary FastAPI application that knows nothing of Shipworthy; `hardened.py` wraps it with public
names only. The rest starts them: `prepare` makes the database, `traffic` uses the service, and
`breakage` breaks the database for a while, when somebody asks for it.

Not here: how a service is run (`serve`), and anything an application would need from us.
"""

from shipworthy.demo.run import run

__all__ = ["run"]
