"""Create the runner of batches from the settings."""

from fastapi import FastAPI

from server.api.batches.lines import LineLimits
from server.api.batches.places import BatchPlaces
from server.api.batches.run import BatchTools
from server.api.batches.runner import BatchRunner
from server.api.batches.store import BatchStore
from server.fairness.share import FairShare
from server.media.files import FileStore
from server.settings import Settings


def create_runner(
    app: FastAPI, settings: Settings, files: FileStore, running: FairShare
) -> BatchRunner:
    """`running` counts the requests that the process runs. Batches are stored beside the clients'
    files.
    """
    tools = BatchTools(
        app,
        BatchPlaces(settings.batch_requests, running),
        LineLimits(settings.max_batch_lines, settings.max_batch_line_bytes),
        settings.max_batch_output_bytes,
    )
    store = BatchStore(
        files.folder, owner_batches=settings.owner_batches, max_age_s=settings.file_age_s
    )
    return BatchRunner(tools, store, files)
