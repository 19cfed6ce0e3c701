"""The command that counts what happens between layers, as rows or as a picture: flow."""

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.verbs import print_verb, verb_command
from featgraph.core.result import TIMEOUT


@verb_command("flow")
def flow(
    graph: options.GraphPath,
    layer_a: options.FromLayer = None,
    layer_b: options.ToLayer = None,
    min: options.MinOption = None,
    by: options.ByOption = "cosine",
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """Print the rows, or draw them with what the births come from."""
    arguments = {"layer_a": layer_a, "layer_b": layer_b, "min": min, "by": by}
    if output.format_of(format, out) not in output.PICTURES:
        print_verb(graph, "flow", arguments, format, out, limit, timeout)
        return
    from featgraph.output.pictures import flow_of
    from featgraph.query import run_verb

    with featgraph.open(graph) as opened:
        result = run_verb(opened.store, "flow", arguments, timeout=timeout or None)
        output.write_picture(flow_of(opened.store, result.dicts(), min), format, out=out)
