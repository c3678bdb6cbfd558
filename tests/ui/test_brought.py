"""What tracking clients registered is on the registry's page, as text."""

from __future__ import annotations

from tests.ui.conftest import Get

from loopline import registry
from loopline.loop.project import Project
from loopline.workspace import Workspace


def test_what_clients_brought_is_listed_with_its_digest_and_the_next_step(ws: Workspace, project: Project, get: Get):
    assert "Brought by tracking clients" not in get("/registry").text
    owner = "m-" + "a" * 32
    ws.artifacts.put(owner, "MLmodel", b"{}", at_ms=0)
    registry.create(ws, project.name)
    found = registry.deposit(ws.acting_as("user:grace"), project.name, source=f"models:/{owner}", owner=owner)
    registry.point(ws, project.name, "challenger", found.number)
    page = get("/registry").text
    for said in (
        "Brought by tracking clients",
        "user:grace",
        "challenger",
        found.digest[:12],
        "loopline registry adopt 1",
    ):
        assert said in page
    registry.create(ws, "<script>alert(1)<")
    registry.deposit(ws, "<script>alert(1)<", source="s3://bucket/x")
    page = get("/registry").text
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;" in page and "kept elsewhere" in page
