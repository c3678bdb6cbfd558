"""Fitted models between steps, in the safe file format of their own library."""

from __future__ import annotations

from typing import Any

from loopline.base.errors import Invalid

MARK = "$"

_FIX = "return what the model is made of, or let the step that fits it also apply it"


def pack_model(value: Any, what: str) -> tuple[dict[str, Any], bytes] | None:
    """A model as a document and bytes; null where it is none that is known here."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__}
    homes = {home for home, _ in kinds}
    if ("lightgbm", "Booster") in kinds:
        return {MARK: "model", "format": "lightgbm"}, value.model_to_string(num_iteration=-1).encode()
    if ("xgboost", "Booster") in kinds:
        return {MARK: "model", "format": "xgboost"}, bytes(value.save_raw("ubj"))
    if type(value).__module__.startswith("onnx.") and type(value).__name__ == "ModelProto":
        return {MARK: "model", "format": "onnx"}, value.SerializeToString(deterministic=True)
    if "sklearn" in homes:
        return _pack_sklearn(value, what)
    return None


def unpack_model(doc: dict[str, Any], data: bytes) -> Any:
    """The model that `pack_model` kept."""
    match doc["format"]:
        case "lightgbm":
            import lightgbm

            return lightgbm.Booster(model_str=data.decode())
        case "xgboost":
            import xgboost

            return xgboost.Booster(model_file=bytearray(data))
        case "onnx":
            import onnx

            return onnx.load_model_from_string(data)
        case "skops":
            return _skops().loads(data, trusted=doc["types"])
    raise Invalid(
        f"a model in the format {doc['format']!r} cannot be read",
        why="another Loopline kept it",
        fix="pip install --upgrade loopline",
    )


def _pack_sklearn(value: Any, what: str) -> tuple[dict[str, Any], bytes]:
    """A scikit-learn estimator as skops, if all its types are known to run nothing but their own arithmetic."""
    from loopline.training.packages.skops import OWN

    sio = _skops()
    try:
        data: bytes = sio.dumps(value)
        types = sorted(sio.get_untrusted_types(data=data))
    except Exception as error:  # skops raises whatever the parts of an estimator raise
        raise Invalid(
            f"{what} is a {type(value).__name__} that skops cannot write: {error}",
            why="a model is kept between steps without pickle",
            fix=_FIX,
        ) from error
    if unknown := [name for name in types if name not in OWN]:
        raise Invalid(
            f"{what} is a {type(value).__name__} that builds {', '.join(unknown)}",
            why="a model is kept between steps without pickle, and these types are not known to be safe to build",
            fix=_FIX,
        )
    return {MARK: "model", "format": "skops", "types": types}, data


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as error:
        from loopline.base.errors import missing_extra

        raise missing_extra("skops", "skops") from error
    return skops.io
