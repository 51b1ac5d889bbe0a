"""What `dagster-webserver --empty-workspace` serves, as an object a server can import.

Dagster's command line makes its application by itself and starts its own server; this does the
first half in the same way. It is served bare and hardened alike.
"""

from dagster import DagsterInstance, __version__  # type: ignore[import-not-found]
from dagster._cli.workspace.cli_target import (  # type: ignore[import-not-found]
    WorkspaceOpts,
    workspace_opts_to_load_target,
)
from dagster._core.workspace.context import (  # type: ignore[import-not-found]
    WorkspaceProcessContext,
)
from dagster_webserver.app import (  # type: ignore[import-not-found]
    create_app_from_workspace_process_context,
)

app = create_app_from_workspace_process_context(
    WorkspaceProcessContext(
        instance=DagsterInstance.get(),
        version=__version__,
        read_only=False,
        workspace_load_target=workspace_opts_to_load_target(WorkspaceOpts(empty_workspace=True)),
    )
)
