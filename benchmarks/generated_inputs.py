"""Draw 2,000 inputs with hypothesis and write how they ended: ``results/generated_inputs.md``.

The tests of ``tests/test_generated_inputs.py`` fail where an input ends neither right nor in an
error of ours. Run from the repository: ``python benchmarks/generated_inputs.py [N]``.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTENT = """## Generated inputs

[Hypothesis](https://hypothesis.readthedocs.io) draws counts of fourteen types in fourteen
containers, in memory, dask or on disk; with empty and constant features, identical cells, counts up
to and above 2^31, cells without counts; barcodes and columns of any kind; queries and modalities of
any shape. Every call must end right (each cell in one metacell, all K used, sums exact, a subset as
the whole, a loaded model as the saved one, the user's object as it was) or in an error that says
what to do; and may refuse nothing that is valid. By `benchmarks/generated_inputs.py`; 200
inputs, always the same, are drawn in the tests.

| inputs | right | refused |
| --- | --- | --- |
{rows}
| all | {right:,} | {refused:,} |
"""


def main(n_inputs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        given = {"GENERATED_INPUTS": str(n_inputs), "GENERATED_INPUTS_FIGURES": str(figures)}
        command = [sys.executable, "-m", "pytest", "-q", "tests/test_generated_inputs.py"]
        command += ["-W", "ignore"]
        subprocess.run(command, cwd=ROOT, env=os.environ | given, check=True)
        found = json.loads(figures.read_text())
    kinds = sorted({name.split(":")[0] for name in found})
    of = {kind: [found.get(f"{kind}: {end}", 0) for end in ("right", "refused")] for kind in kinds}
    lines = [f"| {kind} | {right:,} | {refused:,} |" for kind, (right, refused) in of.items()]
    right, refused = map(sum, zip(*of.values(), strict=True))
    text = CONTENT.format(rows="\n".join(lines), right=right, refused=refused)
    (ROOT / "benchmarks" / "results" / "generated_inputs.md").write_text(text)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
