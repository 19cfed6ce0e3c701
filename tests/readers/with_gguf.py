"""The `gguf` package: names, types and shapes in a control vector, and the safetensors file's numbers."""

from collections.abc import Iterator
from importlib.metadata import version

import numpy as np

from readers import Case, Reference, Row


def rows(reference: Reference) -> Iterator[Row]:
    """Yield one row for all files."""
    cases = [case for case in reference.cases if 0 not in case.blocks]
    wrong = [case.name for case in cases if not _right(reference, case)]
    figure = f"not {', '.join(wrong)}" if wrong else f"{len(cases)} files, every number equal"
    yield Row("gguf", version("gguf"), "direction.N is F32, one row, as in safetensors", figure, not wrong)


def _right(reference: Reference, case: Case) -> bool:
    from gguf import GGMLQuantizationType, GGUFReader
    from safetensors.numpy import load_file

    reader = GGUFReader(reference.file(case, "gguf"))
    [architecture] = [reader.fields["general.architecture"].contents()]
    tensors = load_file(reference.file(case, "steering-vectors.safetensors"))
    wanted = {name.replace("layer.", "direction."): values for name, values in tensors.items()}
    found = {tensor.name: tensor for tensor in reader.tensors}
    return (
        architecture == "controlvector"
        and reader.fields["controlvector.model_hint"].contents() == "llama"
        and found.keys() == wanted.keys()
        and all(tensor.tensor_type == GGMLQuantizationType.F32 for tensor in reader.tensors)
        and all(np.array_equal(found[name].data, values) for name, values in wanted.items())
    )
