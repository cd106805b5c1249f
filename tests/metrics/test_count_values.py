import warnings

import numpy as np
import pytest
from scipy import sparse

from scmetaq.metrics import _count_values
from scmetaq.metrics._count_values import check_count_values

FORMS = [np.asarray, sparse.csr_matrix, sparse.csc_matrix]


@pytest.fixture(params=[4, 1 << 24])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(_count_values, "_VALUES", request.param)


def counts():
    return np.random.default_rng(0).poisson(2.0, (9, 5)).astype(np.float32)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("form", FORMS)
def test_counts_pass_in_silence(form):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_count_values(form(counts()), "`X`", [], stacklevel=1)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("form", FORMS)
def test_other_values_are_counted(form):
    X = counts()
    X[[0, 3, 8], [1, 2, 4]] = [-1, np.nan, np.inf]
    with pytest.raises(ValueError, match=r"in `X`, found 3 values .* layers: \['raw'\]"):
        check_count_values(form(X), "`X`", ["raw"], stacklevel=1)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("form", FORMS)
def test_fractions_give_a_warning(form):
    X = counts()
    X[8, 4] = 0.5
    with pytest.warns(UserWarning, match="in `X`, found fractions"):
        check_count_values(form(X), "`X`", [], stacklevel=1)
