"""One more view: where the aircraft of the flight stands. For candidates that want it beside features.py."""

from loopline.features import Expr, col, count, latest, minutes_between, view


@view(entity="tailnum", source="departures", ttl="2d", refresh="1h")
def inbound() -> dict[str, Expr]:
    return {
        "tail_left_before": minutes_between(latest("departed"), col("sched_dep")),
        "tail_left_late": latest("dep_delay"),
        "tail_departures_1d": count("1d"),
    }
