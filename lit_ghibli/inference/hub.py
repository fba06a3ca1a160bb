"""Models on the Hugging Face Hub, by addresses such as ``hf://OWNER/NAME@REVISION``: one file, and its card.

The file is a style's, or the networks of a run that translate (`checkpoints.save_published`): tensors and plain text,
so that nothing of a stranger's is run, and what its configuration asks for is looked at as that of any checkpoint.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from lit_ghibli.errors import UserError
from lit_ghibli.extras import packages

FILE = "model.safetensors"
CARD = "README.md"  # as the hub calls it
_SCHEME = re.compile(r"hf:/+")  # paths have lost a slash
_ADDRESS = re.compile(r"hf:/+(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>.+))?")


class Pushed(NamedTuple):
    """What was written to the hub: the commit's URL, and whether everybody can see it."""

    url: str
    public: bool


class Address(NamedTuple):
    """A model on the hub; without a revision the newest one is meant."""

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_address(word: str | PathLike[str]) -> bool:
    """Whether a word means a model on the hub."""
    return bool(_SCHEME.match(str(word)))


def parse(word: str | PathLike[str]) -> Address:
    """The parts of an address.

    Raises:
        UserError: It is none.
    """
    if not (match := _ADDRESS.fullmatch(str(word))):
        raise UserError(f"{word}: a model on the hub is hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    return Address(match["repository"], match["revision"])


def fetch(word: str | PathLike[str]) -> Path:
    """The file of a model, downloaded to the hub's cache if it is not there; one that is there needs no network.

    Raises:
        UserError: huggingface_hub is not installed, or the file cannot be had.
    """
    address = parse(word)
    with _explained(address) as library:
        return Path(library.hf_hub_download(address.repository, FILE, revision=address.revision))


def push(file: Path, card: str, address: Address, *, public: bool, message: str) -> Pushed:
    """Write a model and its card to the hub, in one commit; a repository that is not there yet is made.

    Args:
        file: Of the model.
        card: Markdown.
        address: Where to, without a revision.
        public: Whether everybody can see a new repository; one that is there stays as it is.
        message: Of the commit.

    Raises:
        UserError: huggingface_hub is not installed, or the hub takes nothing.
    """
    if address.revision:
        raise UserError(f"{address}: what is pushed becomes the newest revision: leave @{address.revision} out")
    with _explained(address) as library:
        api = library.HfApi()
        api.create_repo(address.repository, private=not public, exist_ok=True)
        operations = [
            library.CommitOperationAdd(FILE, str(file)),
            library.CommitOperationAdd(CARD, card.encode()),
        ]
        commit = api.create_commit(address.repository, operations, commit_message=message)
        return Pushed(str(commit.commit_url), not api.model_info(address.repository).private)


@contextmanager
def _explained(address: Address) -> Iterator[ModuleType]:
    """Make what the hub or the way there refuses a line, in a block that is given huggingface_hub."""
    (library,) = packages("models on the Hugging Face Hub", "hub", "huggingface_hub")
    from huggingface_hub import errors

    for name, level in (("httpx", logging.WARNING), ("httpx2", logging.WARNING), ("huggingface_hub", logging.ERROR)):
        logging.getLogger(name).setLevel(level)  # every request, and every new attempt of one
    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield library
    except errors.GatedRepoError as error:
        raise UserError(f"{address}: its owner has to let you in: ask for it on its page, and {login}") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{address}: there is no such model, or it is private: {login}") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{address}: the model has no such revision") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(f"{address}: not in the cache, and the hub cannot be reached: {_reason(error)}") from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"{address}: no model of this suite, for it has no {FILE}") from error
    except errors.HFValidationError as error:
        raise UserError(f"{address}: no name that a model can have: {_reason(error)}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        remedy = f"; {login}, as somebody who may write there" if status in (401, 403) else ""
        raise UserError(f"{address}: the hub answers {status}, {_reason(error)}{remedy}") from error
    except (errors.HTTPError, OSError) as error:  # no network, no disk
        raise UserError(f"{address}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What a server or the network has said, in a line."""
    said = getattr(error, "server_message", None) or str(error.__cause__ or error) or type(error).__name__
    return said.strip().splitlines()[0].rstrip(".")
