"""lm-evaluation-harness: what `--model steered --model_args steer_path=FILE` reads, one block per file."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.core.keys import FeatureKey
from featgraph.errors import UsageError
from featgraph.export.caa_files import saved, tensor
from featgraph.export.files import OutputFiles, own_folder
from featgraph.export.formats import FORMATS
from featgraph.export.provenance import describe, title
from featgraph.export.sae_ids import SaeIds, ids_of_vector

if TYPE_CHECKING:
    from featgraph.steering import SteeredFeature, SteeringVector

COLUMNS = (
    "loader",
    "action",
    "sparse_model",
    "hookpoint",
    "feature_index",
    "steering_coefficient",
    "sae_id",
    "description",
)
_RESCALING = ("topk", "abstopk")
"""Architectures that may divide decoder rows by their length, which the csv's reader ignores.

Source: sae_lens 6.54, `rescale_acts_by_decoder_norm` of saes/topk_sae.py and abstopk_sae.py."""

_OLD_CSV = "lm-eval after 0.4.9.1 refuses a csv that adds, because of the SAE's bias; give it the pt"


def lm_eval(vector: "SteeringVector", out: Path, approximations: tuple[str, ...]) -> OutputFiles:
    """Return one `.pt` per block, and a `.csv` where the block's vector is one released feature.

    Files are named by hook point in a folder, or by `out` if it ends in .pt or .csv and there is one block.

    Raises UsageError: `out` is one file for several blocks, or a csv that cannot express the vector.
    StoreError: the graph, which records whether an SAE is released, is gone.
    Source: lm_eval/models/hf_steered.py of 0.4.9.1 and 0.4.13.
    """
    export_format, blocks = FORMATS["lm-eval"], vector.write_layers
    if out.suffix in (".pt", ".csv"):
        if len(blocks) > 1:
            raise UsageError(f"{out} is one file, and lm-eval takes one block per file; give -o a folder")
        kinds, paths = [out.suffix], {blocks[0]: out.with_suffix("")}
    else:
        kinds = [".pt", ".csv"]
        paths = {block: out / export_format.layer(block, vector.model.type) for block in blocks}
    files, notes = dict[Path, bytes](), list[str]()
    for kind in kinds:
        known = ids_of_vector(vector) if kind == ".csv" else {}
        for block, path in paths.items():
            hookpoint = export_format.layer(block, vector.model.type)
            why = _no_pt(vector) if kind == ".pt" else _no_csv(vector, block, known)
            if why is not None:
                notes.append(f"no {kind.removeprefix('.')} for {hookpoint}: {why}")
            elif kind == ".pt":
                files[path.with_name(path.name + kind)] = _pt(vector, block, hookpoint, approximations)
            else:
                files[path.with_name(path.name + kind)] = _csv(vector, block, hookpoint, approximations)
    if not vector.gated and any(path.suffix == ".csv" for path in files):
        notes.append(_OLD_CSV)
    if not files:
        raise UsageError(f"lm-eval cannot hold this vector: {'; '.join(notes)}")
    if len(kinds) == 1:
        return OutputFiles(files, tuple(notes))
    for kind in kinds:
        own_folder(out, {path.name for path in files}, kind)
    return OutputFiles(files, tuple(notes), out)


def _pt(vector: "SteeringVector", block: int, hookpoint: str, approximations: tuple[str, ...]) -> bytes:
    """Return hook point -> tensors; the reader ignores the key `featgraph`, the provenance."""
    content = {
        "action": "add",
        "steering_coefficient": 1.0,
        "steering_vector": tensor(vector.layers[block]),
        "bias": None,
        "featgraph": json.dumps(describe(vector, approximations)),
    }
    return saved({hookpoint: content})


def _csv(vector: "SteeringVector", block: int, hookpoint: str, approximations: tuple[str, ...]) -> bytes:
    """Return one row; its coefficient multiplies the raw decoder row, or is the value of the clamp."""
    [member] = _writing(vector, block)
    if vector.gated:
        assert member.target is not None, "clamp has one"
        action, coefficient = "clamp", member.target * member.decoder_norm
    else:
        action, coefficient = "add", member.weight / member.decoder_norm
    idx = FeatureKey.parse(member.key).idx
    row = (
        "sae_lens",
        action,
        member.release,
        hookpoint,
        idx,
        repr(coefficient),
        member.sae_id,
        title(vector, approximations),
    )
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, row])
    return text.getvalue().encode()


def _no_pt(vector: "SteeringVector") -> str | None:
    return "a clamp there also needs the SAE's bias, which the csv's reader loads" if vector.gated else None


def _no_csv(vector: "SteeringVector", block: int, known: dict[int, SaeIds]) -> str | None:
    """Return why a csv, which names features of released SAEs, cannot express the vector of a block."""
    members = _writing(vector, block)
    if len(members) != 1:
        return f"it names one feature, and {len(members)} write here"
    [member] = members
    if vector.settings.compensate:
        return "compensate changes how much of the feature is added"
    if FeatureKey.parse(member.key).site != "res":
        return f"the decoder row of {member.key} is not added to the residual stream as it is"
    sae = known.get(member.sae_number)
    if sae is None or not sae.released:
        return f"the SAE {member.sae_id} has no release that lm-eval could load it by"
    if sae.architecture in _RESCALING:
        return (
            f"{member.sae_id} is a {sae.architecture} SAE, whose decoder rows may be divided by their length"
        )
    return None


def _writing(vector: "SteeringVector", block: int) -> "list[SteeredFeature]":
    return [member for member in vector.members if member.write_layer == block]
