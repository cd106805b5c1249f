"""Damaged files end as one clear error or as the right result."""

import pytest
from corrupted import FORMS, trials


@pytest.mark.slow
def test_damaged_files_end_as_one_error_or_as_the_right_result(forks, cells, mcells, tmp_path):
    """A file whose format has no checksums may be whole with other content: nobody can see it."""
    found = {}
    mcells = mcells.copy()
    mcells.obs["lane"] = mcells["rna"].obs["kind"].to_numpy()
    kinds = ("model", "h5ad, gzip", "h5mu", "zarr, in blocks", "csv")
    for kind, trial in trials(forks, tmp_path, cells, mcells, kinds).items():
        for i, form in enumerate(FORMS):
            told, outcome, said = trial.damaged(form, [7, i])
            assert outcome in ("refused", "same", "other data"), (kind, told, outcome, said)
            found.setdefault(kind, []).append(outcome)
    assert "other data" not in found["model"]
    assert sum(of.count("refused") for of in found.values()) > 8
