from __future__ import annotations

from exporter.engine.abandoned import Abandoned


def test_holds_each_until_its_time() -> None:
    abandoned = Abandoned()
    assert (abandoned.count(0), abandoned.next_expiry_ns(), bool(abandoned)) == (0, None, False)
    abandoned.hold(10)
    abandoned.hold(15)
    assert (abandoned.count(9), abandoned.next_expiry_ns(), bool(abandoned)) == (2, 10, True)
    assert (abandoned.count(10), abandoned.next_expiry_ns()) == (1, 15)
    assert (abandoned.count(15), abandoned.next_expiry_ns(), bool(abandoned)) == (0, None, False)
