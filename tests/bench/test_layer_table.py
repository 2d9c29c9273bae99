"""What a layer adds to the one before it."""

from __future__ import annotations

from bench.layer_table import layer_rows


def figures(*totals_us: float, send_us: float = 0.0) -> list[dict[str, float]]:
    return [
        {"per_second": 1000.0, "user_us": total - 1, "system_us": 1.0, "send_us": send_us, "receive_us": send_us / 2}
        for total in totals_us
    ]


def test_a_layer_adds_the_median_difference_of_the_rounds_and_the_clocked_loop_is_beside_them() -> None:
    found = {
        "bare": figures(10.0, 20.0, 12.0),
        "clocked": figures(90.0, 90.0, 90.0, send_us=6.0),
        "connection": figures(11.0, 22.0, 15.0),
        "channel": figures(11.5, 22.5, 15.5),
        "engine": figures(14.5, 25.5, 18.5),
    }
    rows = layer_rows("http", found)
    assert [row[3] for row in rows] == ["", "", "2.0", "0.5", "3.0"]
    assert rows[0][1:3] == ["11.0 (9.0 to 19.0)", "1.0 (1.0 to 1.0)"]
    assert [row[5:] for row in rows[:2]] == [["", ""], ["6.0", "3.0"]]


def test_grpc_begins_with_its_channel() -> None:
    rows = layer_rows("grpc", {"channel": figures(30.0), "engine": figures(33.0)})
    assert [row[3] for row in rows] == ["", "3.0"]
