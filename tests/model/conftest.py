import pytest
from anndata import AnnData


@pytest.fixture
def again(blood):
    """The cells of the session's model in an AnnData of their own, never registered."""

    def make(X=None, index=slice(None)):
        X = blood.X.copy() if X is None else X
        return AnnData(X, obs=blood.obs, var=blood.var)[index].copy()

    return make
