"""What may be known two hours before departure."""

from loopline.features import Expr, col, count, latest, lookup, mean, minutes_between, share, view

HERE = "America/New_York"
LATE = col("arr_delay") > 15


@view(entity="flight_id")
def plan() -> dict[str, Expr]:
    leaves = col("sched_dep")
    return {
        "carrier": col("carrier").category(),
        "origin": col("origin").category(),
        "dest": col("dest").category(),
        "dep_minute": leaves.minute_of_day(HERE),
        "arr_minute": col("arr_minute"),
        "weekday": leaves.weekday(HERE),
        "day_of_year": leaves.day_of_year(HERE),
        "distance": col("distance"),
        "planned_minutes": minutes_between(leaves, col("sched_arr")),
        "pace": col("distance") / minutes_between(leaves, col("sched_arr")),
        "planned_same_hour": col("planned_same_hour"),
    }


@view(entity="tailnum", source="planes")
def plane() -> dict[str, Expr]:
    return {
        "plane_age": 2013 - lookup("year"),
        "seats": lookup("seats"),
        "plane_model": lookup("model").category(),
    }


@view(entity="origin", source="weather", ttl="6h", refresh="1h")
def sky() -> dict[str, Expr]:
    return {
        "temp": latest("temp"),
        "dewp": latest("dewp"),
        "humid": latest("humid"),
        "wind_speed": latest("wind_speed"),
        "wind_gust": latest("wind_gust").fill(latest("wind_speed")),
        "wind_dir": latest("wind_dir"),
        "precip": latest("precip"),
        "pressure": latest("pressure"),
        "visib": latest("visib"),
        "rain_6h": mean("precip", "6h"),
    }


@view(entity="origin", source="departures", refresh="1h")
def origin_departures() -> dict[str, Expr]:
    return {
        "origin_dep_delay_1h": mean("dep_delay", "1h"),
        "origin_dep_delay_3h": mean("dep_delay", "3h"),
        "origin_departed_1h": count("1h"),
    }


@view(source="departures", refresh="1h")
def all_departures() -> dict[str, Expr]:
    return {"dep_delay_1h": mean("dep_delay", "1h"), "dep_delay_6h": mean("dep_delay", "6h")}


@view(entity="carrier", source="departures", refresh="1h")
def carrier_departures() -> dict[str, Expr]:
    return {"carrier_dep_delay_3h": mean("dep_delay", "3h")}


@view(entity="origin", source="arrivals", refresh="1h")
def origin_arrivals() -> dict[str, Expr]:
    return {"origin_late_6h": share(LATE, "6h"), "origin_late_7d": share(LATE, "7d")}


@view(entity="carrier", source="arrivals", refresh="1h")
def carrier_arrivals() -> dict[str, Expr]:
    return {
        "carrier_late_6h": share(LATE, "6h"),
        "carrier_late_1d": share(LATE, "1d"),
        "carrier_late_28d": share(LATE, "28d"),
    }


@view(entity="dest", source="arrivals", refresh="1h")
def dest_arrivals() -> dict[str, Expr]:
    return {
        "dest_late_6h": share(LATE, "6h"),
        "dest_late_1d": share(LATE, "1d"),
        "dest_late_28d": share(LATE, "28d"),
        "dest_delay_28d": mean("arr_delay", "28d"),
    }


@view(entity=("carrier", "origin", "dest"), source="arrivals", refresh="1h")
def route_arrivals() -> dict[str, Expr]:
    return {"route_late_28d": share(LATE, "28d"), "route_delay_7d": mean("arr_delay", "7d")}


@view(entity=("carrier", "flight"), source="arrivals", refresh="1h")
def number_arrivals() -> dict[str, Expr]:
    return {"number_late_28d": share(LATE, "28d"), "number_delay_28d": mean("arr_delay", "28d")}


@view(entity="tailnum", source="arrivals", ttl="2d", refresh="1h")
def tail_arrivals() -> dict[str, Expr]:
    return {"tail_late_28d": share(LATE, "28d"), "tail_last_delay": latest("arr_delay")}


@view(entity="origin", source="cancellations", refresh="1h")
def origin_cancellations() -> dict[str, Expr]:
    return {"origin_cancelled_3h": count("3h"), "origin_cancelled_1d": count("1d")}


@view(entity="carrier", source="cancellations", refresh="1h")
def carrier_cancellations() -> dict[str, Expr]:
    return {"carrier_cancelled_1d": count("1d")}
