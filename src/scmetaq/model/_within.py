from collections.abc import Sequence

import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmetaq.data._validation import check_positive
from scmetaq.tl._split_metacells import find_covariates


def checked_covariates(
    data: AnnData | MuData, within: str | Sequence[str] | None, min_cells: int
) -> pd.DataFrame | None:
    """Covariates to split metacells by, if any."""
    check_positive("min_cells", min_cells)
    if within is not None:
        return find_covariates(data, within, what="within")
    if min_cells > 1:
        raise ValueError(
            f"min_cells={min_cells} is about the pieces of metacells, and there are none: name "
            "the covariates to split them by with `within`."
        )
    return None
