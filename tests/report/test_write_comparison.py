"""The page that puts methods side by side."""

import numpy as np
import pytest

from scmetaq import metrics, report


@pytest.fixture(scope="module")
def table(blood):
    names = {"ours": np.arange(400) % 8, "<b>theirs</b>": np.arange(400) // 50}
    return metrics.compare(blood, names, "cell_type")


def test_the_page_has_the_mean_of_each_method_and_marks_the_best(table, tmp_path):
    path = tmp_path / "page.html"
    report.write_comparison(path, table, facts={"Input": "a.h5ad"}, notes=["A note."])
    page = path.read_text()
    means = table.groupby(["metric", "method"])["value"].mean()["purity"]
    assert f"<strong>{means.max():.3f}</strong>" in page
    assert all(f"{mean:.3f}" in page for mean in means)
    assert "A note." in page
    assert "a.h5ad" in page
    assert "data:image" in page
    assert "<b>theirs</b>" not in page  # but escaped
    assert "&lt;b&gt;theirs" in page


def test_what_is_no_comparison_is_refused(table, blood, tmp_path):
    with pytest.raises(TypeError, match="a table of scmetaq.metrics.compare"):
        report.write_comparison(tmp_path / "a.html", table.drop(columns="method"))
    with pytest.raises(ValueError, match="to end in .html"):
        report.write_comparison(tmp_path / "a.txt", table)
