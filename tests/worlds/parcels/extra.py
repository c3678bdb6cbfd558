"""One more thing worth knowing: how many hands the depot has."""

from loopline.features import Expr, latest, view


@view(entity="depot", source="staffing", ttl="12h", refresh="1h")
def crew() -> dict[str, Expr]:
    return {"hands": latest("hands")}
