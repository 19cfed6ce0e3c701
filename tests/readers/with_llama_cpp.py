"""llama.cpp twice: its own program loading the file, and its library by way of llama-cpp-python.

The program is llama-results, which writes the logits of a prompt; it reads `--control-vector-scaled` as
llama-cli and llama-server do. The library has no loader, so the tensors are read by the `gguf` package and
laid out here.
"""

import ctypes
import importlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from readers import Case, Logits, Reference, Row
from readers.measuring import measured

LIBRARIES = "LLAMA_CPP_LIB_PATH"
"""Where llama-cpp-python finds llama.cpp's libraries; `run.py` puts the program there too."""


def rows(reference: Reference) -> Iterator[Row]:
    """Yield the rows of both; what writes after block 0 is left out, since no file can say so."""
    bindings: Any = importlib.import_module("llama_cpp")
    nameable = [case for case in reference.cases if 0 not in case.blocks]
    program = _Program(reference, Path(os.environ[LIBRARIES]) / "llama-results")
    version = program.version()
    yield from measured("llama.cpp", version, reference, program.run, nameable)
    yield program.refusal(version, nameable[0])
    library = _Library(reference, bindings)
    yield from measured("llama-cpp-python", bindings.__version__, reference, library.run, nameable)


def _directions(path: Path) -> dict[int, NDArray[np.float32]]:
    """Return the vectors of a GGUF control vector by layer, as the `gguf` package reads them."""
    from gguf import GGUFReader

    tensors = GGUFReader(path).tensors
    return {int(tensor.name.removeprefix("direction.")): np.array(tensor.data) for tensor in tensors}


class _Program:
    """`llama-results --control-vector-scaled FILE:STRENGTH`, one run for each prompt."""

    def __init__(self, reference: Reference, path: Path) -> None:
        self.reference, self.path = reference, path
        self.out = reference.folder / "logits.gguf"

    def version(self) -> str:
        said = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=True)
        lines = (said.stdout + said.stderr).splitlines()
        [version] = [line.removeprefix("version: ") for line in lines if line.startswith("version: ")]
        return version.partition(" (")[0]

    def run(self, case: Case | None) -> list[Logits]:
        scaled = None if case is None else f"{self.reference.file(case, 'gguf')}:{case.strength:g}"
        found = []
        for prompt in self.reference.prompts:
            ended = self._start(prompt.text, scaled)
            if ended.returncode:
                raise RuntimeError(f"{self.path.name} with {scaled}: {ended.stderr[-500:]}")
            tokens, logits = self._read()
            if tokens != prompt.tokens:
                raise RuntimeError(f"llama.cpp reads {prompt.text!r} as {tokens}, not as {prompt.tokens}")
            found.append(logits)
        return found

    def refusal(self, version: str, case: Case) -> Row:
        """Return whether a file with direction.0 steers nothing, which is why our exporter writes none."""
        from gguf import GGUFWriter

        path = self.reference.folder / "direction-0.gguf"
        [vector] = _directions(self.reference.file(case, "gguf")).values()
        writer = GGUFWriter(path, "controlvector")
        for layer in (0, *case.blocks):
            writer.add_tensor(f"direction.{layer}", vector)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        text = self.reference.prompts[0].text
        self._start(text, None)
        plain = self._read()[1]
        said = self._start(text, f"{path}:1").stderr
        dropped = "(zero) direction tensor" in said and np.array_equal(self._read()[1], plain)
        figure = "dropped with all its layers, runs unsteered" if dropped else "accepted"
        return Row("llama.cpp", version, "a file with direction.0", figure, dropped)

    def _start(self, text: str, scaled: str | None) -> subprocess.CompletedProcess[str]:
        files = ["-m", str(self.reference.gguf), "-o", str(self.out)]
        exact = ["-c", "256", "-ctk", "f32", "-ctv", "f32", "-fa", "off", "-t", "1"]
        steering = [] if scaled is None else ["--control-vector-scaled", scaled]
        self.out.unlink(missing_ok=True)
        command = [str(self.path), *files, *exact, *steering, "-p", text]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _read(self) -> tuple[list[int], Logits]:
        from gguf import GGUFReader

        tensors = {tensor.name: np.array(tensor.data).ravel() for tensor in GGUFReader(self.out).tensors}
        tokens: list[int] = tensors["tokens"].tolist()
        return tokens, tensors["logits"].reshape(len(tokens), -1)


class _Library:
    """`llama_set_adapter_cvec`, the function behind the option."""

    def __init__(self, reference: Reference, bindings: Any) -> None:
        self.reference, self.bindings = reference, bindings
        exact = {"type_k": bindings.GGML_TYPE_F32, "type_v": bindings.GGML_TYPE_F32, "flash_attn": False}
        path = str(reference.gguf)
        self.model = bindings.Llama(path, n_ctx=256, n_threads=1, logits_all=True, verbose=False, **exact)

    def run(self, case: Case | None) -> list[Logits]:
        self._steer(case)
        found = []
        for prompt in self.reference.prompts:
            self.model.reset()
            self.model.eval(prompt.tokens)
            found.append(np.array(self.model.scores[: len(prompt.tokens)]))
        return found

    def _steer(self, case: Case | None) -> None:
        """Lay the vectors of every layer out, layer 1 first; no data takes the last ones off again.

        Source: llama.cpp common/common.cpp, common_control_vector_load_one; include/llama.h.
        """
        n_layers, width = self.bindings.llama_model_n_layer(self.model.model), self.model.n_embd()
        laid = np.zeros((n_layers - 1, width), dtype=np.float32)
        at = None
        if case is not None:
            for layer, vector in _directions(self.reference.file(case, "gguf")).items():
                laid[layer - 1] = vector * case.strength
            at = laid.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        code = self.bindings.llama_set_adapter_cvec(self.model.ctx, at, laid.size, width, 1, n_layers)
        if code:
            raise RuntimeError(f"llama_set_adapter_cvec returned {code}")
