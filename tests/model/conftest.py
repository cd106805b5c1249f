import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

FORMS = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "dense": lambda X: X.toarray(),
    "int64": lambda X: X.astype(np.int64),
    "float64": lambda X: X.astype(np.float64),
    "uint16": lambda X: X.toarray().astype(np.uint16),
}


@pytest.fixture(params=FORMS)
def in_form(request):
    """Puts counts into a form."""
    return FORMS[request.param]


@pytest.fixture
def again(blood):
    """The cells of the session's model in an AnnData of their own, never registered."""

    def make(X=None, index=slice(None)):
        X = blood.X.copy() if X is None else X
        return AnnData(X, obs=blood.obs, var=blood.var)[index].copy()

    return make
