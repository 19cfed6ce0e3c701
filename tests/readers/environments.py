"""A virtual environment for each reader, and llama.cpp's own program, in a folder that may be kept."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
_TARGET = "llama-results"
"""The program, and with it the libraries that llama-cpp-python loads."""
_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    # Optimised as little as is fast enough for a small model, since compiling takes the time here.
    "CMAKE_C_FLAGS_RELEASE": "-O1",
    "CMAKE_CXX_FLAGS_RELEASE": "-O1",
    "BUILD_SHARED_LIBS": "ON",
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "GGML_NATIVE": "OFF",
    "GGML_OPENMP": "OFF",
}


def environment(name: str, folder: Path) -> Path:
    """Return the Python of a reader's environment; made unless it is there as its requirements ask.

    Raises CalledProcessError: something could not be installed.
    """
    requirements = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    home = folder / name
    python, made = home / "bin" / "python", home / "requirements.txt"
    if not made.exists() or made.read_text(encoding="utf-8") != requirements:
        _call(sys.executable, "-m", "venv", "--clear", str(home))
        # llama-cpp-python would build the libraries for itself, and without the program.
        environ = {**os.environ, "CMAKE_ARGS": "-DLLAMA_BUILD=OFF"}
        _call(
            str(python),
            "-m",
            "pip",
            "install",
            "-q",
            "-r",
            str(REQUIREMENTS / f"{name}.txt"),
            environ=environ,
        )
        made.write_text(requirements, encoding="utf-8")
    return python


def llama_cpp(python: Path, folder: Path) -> Path:
    """Return the folder with llama.cpp's program and libraries, built from llama-cpp-python's own archive.

    Raises CalledProcessError: it cannot be had or built, as where there is no C++ compiler.
    """
    version = _call(str(python), "-c", "import importlib.metadata as m; print(m.version('llama_cpp_python'))")
    home = folder / f"llama_cpp_python-{version.strip()}"
    program = home / "build" / "bin" / _TARGET
    if not program.exists():
        named = f"llama-cpp-python=={version.strip()}"
        pip = [
            str(python),
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary=:all:",
            "-d",
            str(folder),
        ]
        _call(*pip, named, environ={**os.environ, "CMAKE_ARGS": "-DLLAMA_BUILD=OFF"})
        [archive] = folder.glob(f"{home.name}.tar.gz")
        with tarfile.open(archive) as sources:
            sources.extractall(folder, filter="data")
        cmake, build = str(python.parent / "cmake"), str(home / "build")
        options = [f"-D{name}={value}" for name, value in _OPTIONS.items()]
        environ = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
        vendored = str(home / "vendor" / "llama.cpp")
        _call(cmake, "-G", "Ninja", "-S", vendored, "-B", build, *options, environ=environ)
        _call(cmake, "--build", build, "--target", _TARGET, environ=environ)
    return program.parent


def _call(*command: str, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    return done.stdout
