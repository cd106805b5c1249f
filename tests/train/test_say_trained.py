import logging
from types import SimpleNamespace

import pytest

from scmetaq.train import StopRule, say_trained


def said(caplog, rule, **state):
    ended = {"max_epochs": 9, "current_epoch": 9, "global_step": 1234}
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.INFO, logger.name):
        logger.addHandler(caplog.handler)
        ended |= {"callbacks": [rule]}
        say_trained(SimpleNamespace(**ended | state), what="6 metacells", seconds=7.4)
        logger.removeHandler(caplog.handler)
    return caplog.text


def test_says_what_was_trained_and_how_long(caplog):
    text = said(caplog, StopRule())
    assert "Trained 6 metacells in 9 epochs (1,234 steps) and 7 s" in text


@pytest.mark.parametrize(
    ("calm", "state", "reason"),
    [
        (0, {}, "the number of epochs"),
        (10, {"current_epoch": 5}, "losses that converged"),
        (0, {"current_epoch": 5}, "early stopping"),
    ],
)
def test_says_what_ended_it(caplog, calm, state, reason):
    rule = StopRule()
    rule.n_calm = calm
    assert f"ended by {reason}" in said(caplog, rule, **state)


def test_training_ends_with_it(fit, toy, caplog):
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    caplog.set_level(logging.INFO, logger.name)
    logger.addHandler(caplog.handler)
    fit(toy)
    logger.removeHandler(caplog.handler)
    assert "Trained 6 metacells on 150 cells x 60 features in 3 epochs" in caplog.text
