"""What `shipworthy run` is: a supervisor that owns the sockets, and a worker that serves the app.

The supervisor imports no app, so nothing an app does can keep it from answering the operations
port, replacing a worker or enforcing a deadline. The worker embeds uvicorn behind `ServerEngine`.

Not here: the phases of a drain (`lifecycle`), the guards around the app (`web`), what the
operations port shows (`operations`).
"""

from shipworthy.serve.run import RunOptions, run, survey_target
from shipworthy.serve.settings import ServeSettings
from shipworthy.serve.shown import service_catalogue
from shipworthy.serve.supervisor import ReadyFacts

__all__ = ["ReadyFacts", "RunOptions", "ServeSettings", "run", "service_catalogue", "survey_target"]
