import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from scmetaq.pl._legend import draw_legend


def drawn(names, *, widen=True):
    ax = plt.subplots(figsize=(5, 3))[1]
    draw_legend(ax, [(Patch(), name) for name in names], n_rows=10, widen=widen)
    return ax


def test_every_name_is_there_and_long_ones_are_shortened():
    texts = drawn(["_a", "b", "c" * 40]).get_legend().get_texts()
    assert [len(text.get_text()) for text in texts] == [2, 1, 30]


def test_only_a_wide_legend_widens_the_figure():
    many = [f"a long name {i}" for i in range(40)]
    assert drawn(["a", "b"]).figure.get_figwidth() == 5
    assert drawn(many).figure.get_figwidth() > 7
    assert drawn(many, widen=False).figure.get_figwidth() == 5
