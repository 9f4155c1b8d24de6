"""What a paper publishes reaches the loggers."""

from unittest.mock import Mock

from common.findings import Findings
from lightning_modules.base import BasePaper


def test_pictures_are_shown_with_their_captions():
    paper, shown = BasePaper(), []
    paper.show_picture = lambda name, picture, caption="": shown.append((name, picture, caption))
    findings = Findings(pictures={"a": 1, "b": 2}, captions={"a": "first"})
    paper.publish(findings)
    assert shown == [("a", 1, "first"), ("b", 2, "")]
    shown.clear()
    paper._trainer = Mock()
    paper._trainer.strategy.broadcast = lambda metrics: metrics
    paper.publish_from_first(findings)
    assert shown == [("a", 1, "first"), ("b", 2, "")]


def test_findings_together_keep_all_captions():
    both = Findings(captions={"a": "first", "b": "old"}) | Findings(captions={"b": "new"})
    assert both.captions == {"a": "first", "b": "new"}
