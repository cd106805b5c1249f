"""What a model is, as a small table."""

from typing import Any


def described(model: Any) -> str:
    """Modalities, features, metacells, conditions and labels of a model, and how it was trained."""
    rows = {}
    for kind, (name, layer) in model._sources.items():
        part = model.module.parts[kind]
        where = f"{'' if name is None else f'{name!r}, '}{layer or 'X'}"
        n_read = len(part.feature_scaling.features)
        rows[f"{kind} ({where})"] = f"{len(model._features[kind]):,} features, {n_read:,} read"
    rows["cells"] = "none: loaded without" if model.adata is None else f"{model.adata.n_obs:,}"
    if hasattr(model, "n_metacells"):
        rows["metacells"] = f"{model.n_metacells:,}"
    conditions = [f"{c.key} ({len(c.categories):,})" for c in model._conditions]
    rows["conditions"] = ", ".join(conditions) or "none"
    rows["labels"] = ", ".join(model._label_keys) or "none"
    rows["trained"] = _trained(model)
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {value}" for name, value in rows.items()]
    return "\n".join([type(model).__name__, *lines])


def _trained(model: Any) -> str:
    if model.is_query:
        return "as its reference; train() fits new conditions"
    if not model.is_trained_:
        return "no"
    curves = list((model.history_ or {}).values())
    n_epochs = f"{max(map(len, curves)):,} epochs" if curves else "yes"
    chosen = model.train_indices_
    return n_epochs if chosen is None else f"{n_epochs} on {len(chosen):,} cells"
