"""Copy the table of means over all data sets from ``benchmarks/README.md`` into the README.

usage: python benchmarks/readme_table.py
"""

from __future__ import annotations

from pathlib import Path

from _markdown import write_between

HERE = Path(__file__).parent
BEGIN, END = "<!-- quality:begin -->", "<!-- quality:end -->"


def main() -> None:
    """Replace what stands between the markers of the README."""
    section = (HERE / "README.md").read_text().split("### Mean over ", 1)[1]
    title, _, body = section.split("\n### ", 1)[0].partition("\n")
    table = "\n".join(line for line in body.splitlines() if line.startswith("|"))
    readme = HERE.parent / "README.md"
    intro = f"Mean over {title} of medians over seeds; ≈ marks what is within the spread of seeds."
    write_between(readme, BEGIN, END, f"{intro}\n\n{table}")


if __name__ == "__main__":
    main()
