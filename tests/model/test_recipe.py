import dataclasses

import pytest

from scmetaq.model._recipe import get_recipe


def test_recipes_cannot_be_changed_and_the_published_one_does_not_refine():
    recipe = get_recipe("published")
    assert not recipe.refine
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.lr = 1
