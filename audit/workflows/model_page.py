"""The card of an edited model on disk and on the hub: read, merged with what a run found, and written back."""

import codecs
from pathlib import Path

from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.constants import REPOCARD_NAME
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from audit.errors import AuditError, first_line
from audit.reports.folder import written_into
from audit.reports.model_card import merged_card
from audit.reports.rows import RunReport
from audit.store.files import read_bytes


def write_card(file: Path, report: RunReport, *, name: str = "", base_model: str = "") -> None:
    """Merge the run into the card in `file`, which is created if it is missing; see `merged_card`.

    Raises:
        AuditError: the file cannot be read or written, or is no card.
    """
    with written_into(file.parent, "--out"):
        whole = read_bytes(file) if file.exists() else b""
        mark = codecs.BOM_UTF8 if whole.startswith(codecs.BOM_UTF8) else b""
        try:
            text = whole.removeprefix(mark).decode("utf-8")
        except UnicodeDecodeError:
            raise AuditError(f"--out {file}: it is not UTF-8 text; give the README.md of a model.") from None
        merged = merged_card(text, report, name=name, base_model=base_model, origin=str(file))
        file.write_bytes(mark + merged.encode("utf-8", "backslashreplace"))


def push_card(repo: str, report: RunReport, *, name: str = "", base_model: str = "") -> str:
    """Merge the run into the card of a model on the hub, and commit it there. Returns the address of the commit.

    Raises:
        AuditError: there is no such model, the hub cannot be reached, or it refuses the card.
    """
    try:
        try:
            text = Path(hf_hub_download(repo, REPOCARD_NAME)).read_text(encoding="utf-8-sig")
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            text = ""  # a model without a card
        card = ModelCard(merged_card(text, report, name=name, base_model=base_model, origin=f"the card of {repo}"))
        return str(card.push_to_hub(repo, commit_message="Add the audit of the edit"))
    except HFValidationError:
        raise AuditError(f"--push {repo!r} is not the id of a model on the hub; write NAME or OWNER/NAME.") from None
    except RepositoryNotFoundError:
        raise AuditError(
            f"--push {repo}: the hub has no such model, or this token may not see it; create it, or `hf auth login`."
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise AuditError(
            f"--push {repo}: the hub cannot be reached; connect, unset HF_HUB_OFFLINE, or write the card with --out."
        ) from None
    except AuditError:
        raise
    except Exception as error:  # HfHubHTTPError, ValueError of an invalid card, or of the HTTP library
        raise AuditError(
            f"--push {repo}: the hub refused the card ({first_line(error)}); `hf auth login` with a token that may "
            "write, or write the card with --out."
        ) from error
