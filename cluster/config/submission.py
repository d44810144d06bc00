"""Where `pano submit` sends a job, and what it finds there."""

from typing import Annotated

from pydantic import Field

from panoforge.core.models import FrozenModel
from panoforge.core.storage.location import LocalPath


class SubmitConfig(FrozenModel):
    """`pano submit`: where a job goes, what its process holds there, and what it finds there.

    The cluster's image has panoforge, unless `send_code` sends this one's; `pip` are requirements
    to install on top, `py_modules` folders of Python packages to send along. Ray keeps both per
    job, apart from the image.
    """

    address: Annotated[
        str | None,
        Field(
            description="The cluster's dashboard, http://HOST:8265, or auto; null: a private Ray."
        ),
    ] = None
    cpus: Annotated[
        float, Field(ge=0, description="CPU cores that the job's own process holds.")
    ] = 1.0
    gpus: Annotated[float, Field(ge=0, description="GPUs that it holds.")] = 0.0
    memory_gb: Annotated[float, Field(ge=0, description="Memory that it holds.")] = 0.0
    python: Annotated[
        str | None,
        Field(description="The command of the Python over there; null is the first on its path."),
    ] = None
    send_code: Annotated[
        bool, Field(description="Send this panoforge along instead of using the image's.")
    ] = False
    py_modules: Annotated[
        tuple[LocalPath, ...], Field(description="Folders of Python packages to send along.")
    ] = ()
    pip: Annotated[
        tuple[str, ...], Field(description="Requirements to install on top of the image.")
    ] = ()
    env: Annotated[dict[str, str], Field(description="Environment variables of the job.")] = {}
