"""Files for the machines around a service, written from what it declares.

Not here: what is declared, which is data of `events` and of the rooms; and the same rules
evaluated without a server, which is in `telemetry`.
"""

from shipworthy.deploy.folder import LIST_NAME, ChangedByHand, FolderUnusable, Written, write_folder
from shipworthy.deploy.monitoring import monitoring_files, silent_urgencies
from shipworthy.deploy.promql import Scope, promql
from shipworthy.deploy.settings import MonitoringSettings

__all__ = [
    "LIST_NAME",
    "ChangedByHand",
    "FolderUnusable",
    "MonitoringSettings",
    "Scope",
    "Written",
    "monitoring_files",
    "promql",
    "silent_urgencies",
    "write_folder",
]
