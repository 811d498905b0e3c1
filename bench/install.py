"""What the bench compares with, in folders of its own below .tests/bench: each made once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.systems import HERE

_THUMBOR = ("thumbor==7.8.0", "pillow-heif")
_IPX = "ipx@3.1.1"
_VIPS = "pyvips[binary]==3.2.0"


def thumbor(folder: Path) -> Path:
    """thumbor from PyPI in a virtual environment; its command."""
    command = folder / "bin" / "thumbor"
    if not command.exists():
        print("installing thumbor", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "-q", *_THUMBOR], check=True)
    return command


def vips(folder: Path) -> Path:
    """libvips from PyPI in a virtual environment; its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        print("installing libvips", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "-q", _VIPS], check=True)
    return python


def ipx(folder: Path) -> Path | None:
    """ipx from npm; what node runs, None without npm."""
    program = folder / "ipx.mjs"
    if not (folder / "node_modules" / "ipx").exists():
        if not shutil.which("npm"):
            print("no npm: ipx is left out", flush=True)
            return None
        print("installing ipx", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), _IPX], check=True)
    shutil.copy(HERE / "ipx.mjs", program)  # import looks beside the file
    return program


def versions(thumbor_command: Path) -> str:
    """Of everything that was measured."""
    import image_repo  # noqa: PLC0415
    import PIL  # noqa: PLC0415

    told = [f"image_repo {image_repo.__version__}{_commit()}", f"Pillow {PIL.__version__}"]
    told += [f"Python {sys.version.split()[0]}", _THUMBOR[0].replace("==", " "), _IPX.replace("@", " ")]
    pip = [str(thumbor_command.parent / "pip"), "list", "--format=freeze"]
    told += [f"its {line.replace('==', ' ')}" for line in _said(pip).splitlines() if line.lower().startswith("pillow=")]
    told.append("nginx " + _said(["nginx", "-v"]).rpartition("/")[2])
    told.append(" ".join(_said(["wrk", "-v"]).split()[:2]))
    return ", ".join(told)


def _commit() -> str:
    found = _said(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"])
    return f" at {found}" if found else ""


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return (done.stdout + done.stderr).strip() if done.returncode in (0, 1) else ""
