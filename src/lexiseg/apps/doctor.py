"""``lexiseg doctor``: what is installed, and what each model lacks."""

from typing import Any

from lexiseg.apps.terminal import AsJson, echo, echo_json, print_table


def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which weights are here, and what each model lacks.

    Nothing is downloaded. Exit code: 0.
    """
    from lexiseg.tools.doctor import diagnose

    found = diagnose()
    if as_json:
        echo_json(found)
        return
    for name, value in found["system"].items():
        echo(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
    packages = [(name, version or "missing") for name, version in found["packages"].items()]
    print_table(["package", "version"], packages)
    if found["extras"]:
        print_table(["extra", "state", "to install"], [_extra_row(row) for row in found["extras"]])
    print_table(["model", "weights", "where"], [_model_row(row) for row in found["models"]])
    for row in found["models"]:
        if row["do"]:
            echo(f"{row['model']}: {row['do']}")


def _extra_row(row: dict[str, Any]) -> tuple[str, str, str]:
    state = f"lacks {', '.join(row['missing'])}" if row["missing"] else "installed"
    return row["extra"], state, row["install"] or ""


def _model_row(row: dict[str, Any]) -> tuple[str, str, str]:
    state = row["state"]
    if state == "cached":
        state += ", checksum right" if row["sha256"] else ", no checksum published"
    origin = row["origin"]
    if isinstance(origin, dict):
        origin = ", ".join(f"{part}: {where}" for part, where in origin.items())
    return row["model"], state, (row["path"] if "cached" in state else origin) or ""
