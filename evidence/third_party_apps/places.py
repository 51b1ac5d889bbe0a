"""Where an application lives: an environment of its own, its source archive, its versions."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".state" / "third-party"
# Nothing but this machine is to be reached: what an application asks for elsewhere ends here.
OFFLINE = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}
# Two runs of one application are to differ in nothing but the server: not in the order of a set.
_STEADY = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def environment(name: str) -> Path:
    """Return the `bin` of the environment with the pinned requirements of `name`; make it if new.

    uv installs where the project has it, else pip. It is kept until the requirements, ours or its,
    change.
    """
    wanted = ROOT / "evidence" / f"requirements-{name}.txt"
    ours = ROOT / "pyproject.toml"
    decides = wanted.read_bytes() + ours.read_bytes() + sys.version.encode()
    stamp = hashlib.sha256(decides).hexdigest()
    place = STATE / name
    if not (place / stamp).exists():
        shutil.rmtree(place, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(place))
        uv = ROOT / ".uv" / "bin" / "uv"
        python = str(place / "bin" / "python")
        install = (
            (str(uv), "pip", "install", "-q", "--python", python)
            if uv.exists()
            else (python, "-m", "pip", "install", "-q")
        )
        _run(*install, "-r", str(wanted), "-e", str(ROOT))
        (place / stamp).touch()
    return place / "bin"


def surroundings(commands: Path, **more: str) -> dict[str, str]:
    """Return the environment variables an application is run with: no network, nothing of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHIPWORTHY")}
    path = f"{commands}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, **OFFLINE, "PATH": path, **_STEADY, **more}


def source(name: str, version: str, folder: Path) -> tuple[Path, str]:
    """Unpack the source archive that PyPI has; return its folder and the SHA-256 of the archive."""
    kept = STATE / "archives"
    pattern = f"{name.replace('-', '_')}-{version}.tar.gz"
    if not (kept / pattern).exists():
        pip = (str(STATE / name / "bin" / "python"), "-m", "pip", "download", "-q", "--no-deps")
        _run(*pip, "--no-binary", ":all:", "-d", str(kept), f"{name}=={version}")
    archive = kept / pattern
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / pattern.removesuffix(".tar.gz"), hashlib.sha256(
        archive.read_bytes()
    ).hexdigest()


def versions(commands: Path, *names: str) -> dict[str, str]:
    """Return the versions that are installed, in the words of the packages themselves."""
    ask = "import sys; from importlib.metadata import version as v; print(*map(v, sys.argv[1:]))"
    done = subprocess.run(
        [commands / "python", "-c", ask, *names], capture_output=True, text=True, check=True
    )
    return dict(zip(names, done.stdout.split(), strict=True))


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
