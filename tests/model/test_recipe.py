import dataclasses

import pytest

from scmetaq.model._recipe import RECIPES, get_recipe


def test_the_published_recipe_is_the_papers():
    recipe = get_recipe("published")
    assert recipe.n_components == 0
    assert recipe.distance == "cosine"
    assert recipe.adjust_codes
    assert not recipe.refine
    assert (recipe.norm, recipe.batch_size, recipe.lr) == ("batch", 512, 1e-3)
    assert recipe.max_steps is None


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_consistent(name):
    recipe = get_recipe(name)
    assert 0 <= recipe.warmup_fraction < 1
    assert 0 < recipe.decoded_share <= 1
    assert recipe.n_components >= 0
    assert recipe.batch_size > 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.lr = 1


def test_an_unknown_recipe_is_told_those_there_are():
    with pytest.raises(ValueError, match="Unknown recipe 'best'.*'default', 'published'"):
        get_recipe("best")
