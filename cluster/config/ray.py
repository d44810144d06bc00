"""How `pano` reaches Ray, and what a task asks of it."""

from typing import Annotated, Literal

from pydantic import Field

from panoforge.core.models import FrozenModel


class RayConfig(FrozenModel):
    """How `pano` reaches Ray.

    `address` null starts a private Ray on this machine; `auto` or `HOST:PORT` joins a cluster.
    """

    address: Annotated[
        str | None,
        Field(
            description="The cluster to join, auto or HOST:PORT; null starts a private Ray here."
        ),
    ] = None
    auth: Annotated[
        Literal["token", "off"],
        Field(
            description="Who may use a private Ray: off lets all who reach its ports run code here."
        ),
    ] = "token"
    listen: Annotated[
        Literal["loopback", "all"], Field(description="Addresses of a private Ray's ports.")
    ] = "loopback"
    cpus_per_scene: Annotated[float, Field(gt=0, description="CPU cores that a task asks for.")] = (
        1.0
    )
    gpus_per_scene: Annotated[float, Field(ge=0, description="GPUs that a task asks for.")] = 0.0
    memory_per_scene_gb: Annotated[
        float,
        Field(ge=0, description="Memory that a task asks for; 0 leaves memory out of scheduling."),
    ] = 0.0
    in_flight_per_slot: Annotated[
        int,
        Field(
            ge=1,
            description="Tasks that Ray has for each that can run: it never waits, never drowns.",
        ),
    ] = 2
