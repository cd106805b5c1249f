"""Copy the table of means over all data sets from ``benchmarks/README.md`` into the README.

usage: python benchmarks/readme_table.py
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
BEGIN, END = "<!-- quality:begin -->", "<!-- quality:end -->"


def main() -> None:
    """Replace what stands between the markers of the README."""
    section = (HERE / "README.md").read_text().split("### Mean over ", 1)[1]
    title, _, body = section.split("\n### ", 1)[0].partition("\n")
    table = "\n".join(line for line in body.splitlines() if line.startswith("|"))
    readme = HERE.parent / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    intro = f"Mean over {title} of medians over seeds; ≈ marks what is within the spread of seeds."
    readme.write_text(f"{before}{BEGIN}\n{intro}\n\n{table}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
