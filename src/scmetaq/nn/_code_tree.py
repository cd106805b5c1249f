import torch
from torch import Tensor


def merge_codes(codes: Tensor, n_cells: Tensor) -> Tensor:
    r"""Tree of codes: which two groups are merged at each step, least loss first.

    The loss of a merger is Ward's: what the squared distances of cells to their code grow by,
    :math:`\frac{n_a n_b}{n_a + n_b} \|c_a - c_b\|^2`. It never falls on the way up, so that cuts
    at any number of groups are nested.

    Parameters
    ----------
    codes
        ``(n_codes, n_latent)``.
    n_cells
        Cells of each code, or shares of them, ``(n_codes,)``; codes without cells merge first.

    Returns
    -------
    ``(n_codes - 1, 2)`` int64: the groups merged at each step, those made by earlier steps being
    numbered on from ``n_codes``.
    """
    centres = codes.detach().double()
    weight = n_cells.detach().double().clone().clamp_min(1e-12)
    n = len(centres)
    number = torch.arange(n)  # of the group in each row
    loss = weight[:, None] * weight / (weight[:, None] + weight)
    loss = loss * torch.cdist(centres, centres).square()
    loss.fill_diagonal_(torch.inf)
    least, partner = loss.min(1)  # of each row
    merges = []
    for step in range(n - 1):
        a = int(least.argmin())
        b = int(partner[a])
        merges.append((int(number[a]), int(number[b])))
        total = weight[a] + weight[b]
        # Lance and Williams: the loss of merging any group with the new one
        row = (weight + weight[a]) * loss[a] + (weight + weight[b]) * loss[b]
        row = (row - weight * loss[a, b]) / (weight + total)
        row[[a, b]] = torch.inf
        weight[a], number[a] = total, n + step
        loss[b], loss[:, b], least[b] = torch.inf, torch.inf, torch.inf
        loss[a], loss[:, a] = row, row
        nearer = row < least
        least[nearer], partner[nearer] = row[nearer], a
        changed = ((partner == a) | (partner == b)) & ~nearer & ~torch.isinf(least)
        changed[a] = True
        least[changed], partner[changed] = loss[changed].min(1)
    return torch.tensor(merges, dtype=torch.long).reshape(-1, 2)


def cut_tree(merges: Tensor, n_groups: int) -> Tensor:
    """Group of each code when so many are left, ``(n_codes,)``, numbered by their first codes.

    Parameters
    ----------
    merges
        Output of :func:`merge_codes`.
    n_groups
        Number of groups, from one to the number of codes.
    """
    n = len(merges) + 1
    members = [[code] for code in range(n)]
    gone = set()
    for a, b in merges[: n - n_groups].tolist():
        members.append(members[a] + members[b])
        gone |= {a, b}
    kept = [codes for number, codes in enumerate(members) if number not in gone]
    group = torch.empty(n, dtype=torch.long)
    for number, codes in enumerate(sorted(kept, key=min)):
        group[codes] = number
    return group
