import logging

from scmetaq.train import say


def test_is_said_where_lightning_says_things(caplog):
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.INFO, logger.name):
        logger.addHandler(caplog.handler)
        say("40 cells were mapped")
        logger.removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records][-1] == "40 cells were mapped"
