"""Errors of a folder or a bucket as `StorageError`, which says what to do."""

import contextlib
from collections.abc import Iterator

from panoforge.core.errors import StorageError
from panoforge.core.storage.atomic import storage_errors

_NETWORK_PACKAGES = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "google", "urllib3")


@contextlib.contextmanager
def url_errors(place: str, *answers: type[OSError]) -> Iterator[None]:
    """As `panoforge.core.storage.atomic.storage_errors`, for buckets too.

    Exceptions of the types `answers` are the caller's and pass.
    """
    answer: OSError | None = None
    with storage_errors(place):
        try:
            yield
        except answers as error:
            if _is_refused(error):
                raise _unreachable(place, error.__cause__) from error
            answer = error
        except (OSError, StorageError) as error:
            if isinstance(error, (TimeoutError, ConnectionError)) or _is_network(error):
                raise _unreachable(place, error) from error
            raise
        except ImportError as error:
            raise StorageError(
                f"{place}: this kind of URL needs a package that is not installed: {error}"
            ) from error
        except Exception as error:
            if not _is_network(error):
                raise
            raise _unreachable(place, error) from error
    if answer:
        raise answer


def _is_network(error: BaseException) -> bool:
    """Whether a client of buckets raised it, whatever built-in kind it calls itself."""
    return type(error).__module__.partition(".")[0] in _NETWORK_PACKAGES


def _is_refused(error: OSError) -> bool:
    """Whether "not found" only stands for a server that gave no answer: fsspec's HTTP says so.

    An answer has a status.
    """
    cause = error.__cause__
    from_http = type(cause).__module__.partition(".")[0] == "aiohttp"
    return isinstance(error, FileNotFoundError) and from_http and not hasattr(cause, "status")


def _unreachable(place: str, error: BaseException | None) -> StorageError:
    said = " ".join(str(error or "").split()) or type(error).__name__
    return StorageError(
        f"{place}: cannot be reached: {said}. Check the address (AWS_ENDPOINT_URL), the network"
        " and your credentials"
    )
