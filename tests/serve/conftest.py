"""Runs of `shipworthy run` against an app with one route for each thing that goes wrong."""

import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from launch import BRISK, TRIALS, Diary, Run, Service, started


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def start(
        target: str | None = TRIALS, *arguments: str, settings: str = BRISK, **environ: str
    ) -> AbstractContextManager[Service]:
        return started(target, *arguments, directory=tmp_path, settings=settings, environ=environ)

    return start


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    def read() -> list[str]:
        path = tmp_path / "diary.txt"
        return path.read_text().splitlines() if path.exists() else []

    return read
