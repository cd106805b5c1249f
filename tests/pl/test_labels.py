import numpy as np
import pandas as pd

from scmetaq.pl._labels import as_categories, literal, shorten


def test_whole_numbers_have_no_fraction():
    labels = as_categories(pd.Series([2.0, 10, np.nan]))
    assert list(labels.categories) == ["2", "10"]
    assert list(labels.isna()) == [False, False, True]


def test_order_and_absent_categories_are_kept():
    labels = as_categories(pd.Categorical(["b", None], categories=["b", "c", "a"]))
    assert list(labels.categories) == ["b", "c", "a"]


def test_a_number_and_its_text_are_one_label():
    labels = as_categories(pd.Series([1, "1", "x"], dtype=object))
    assert list(labels) == ["1", "1", "x"]


def test_long_names_lose_their_middle():
    assert shorten("x" * 30) == "x" * 30
    short = shorten("CD4-positive, alpha-beta memory T cell, CD45RO-positive")
    assert short == "CD4-positive, a…D45RO-positive"


def test_dollars_are_written_as_they_are():
    assert literal("price in $, $5") == r"price in \$, \$5"
    assert literal("CD4") == "CD4"
