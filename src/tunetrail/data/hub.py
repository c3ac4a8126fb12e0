"""A file of the Hugging Face hub, by repository and revision -> its path on this machine, downloaded once.

Weights are fetched by Axolotl and lm-eval themselves, at the revision that they are given.
"""

import json
from pathlib import Path

from tunetrail import UserError


def fetch(repo_id: str, filename: str, revision: str | None, repo_type: str = "model") -> Path:
    """Call `huggingface_hub.hf_hub_download` with its own arguments; a file in the hub's cache is not fetched again.

    Raises:
        UserError: the file is gated, does not exist or cannot be reached; says which, and what to do.
    """
    from huggingface_hub import errors, hf_hub_download

    name = f"{repo_id} at {revision or 'main'}"
    try:
        return Path(hf_hub_download(repo_id, filename, revision=revision, repo_type=repo_type))
    except errors.HFValidationError:
        raise UserError(f"{repo_id!r}: not an id of the hub. Give org/name, or the path of a folder.") from None
    except errors.GatedRepoError:
        raise UserError(
            f"{name} is gated. Accept its licence at huggingface.co/{repo_id}, then: export HF_TOKEN=... (or hf auth login)."
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{repo_id}: no such {repo_type} on the hub, or a private one. Give org/name, and HF_TOKEN if it is private."
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{name}: no such revision. Give a commit of {repo_id}.") from None
    except errors.RemoteEntryNotFoundError:
        raise UserError(f"{name} has no file {filename}. Name one that it has.") from None
    except (OSError, RuntimeError):
        # No connection. If one was refused before, the client raises RuntimeError instead of looking into its cache.
        pass
    try:
        return Path(hf_hub_download(repo_id, filename, revision=revision, repo_type=repo_type, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        raise UserError(
            f"{name}: {filename} is not in the hub's cache, and the hub does not answer. Connect and run again, or give "
            "a file or a folder that is here (prepare=file, evaluate.hub=null, model=local)."
        ) from None


def cached(repo_id: str, filename: str, revision: str | None, repo_type: str = "model") -> Path | None:
    """Return the path of a file in the hub's cache on this machine, or None. The network is not used."""
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        path = try_to_load_from_cache(repo_id, filename, revision=revision, repo_type=repo_type)
    except errors.HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def has_weights(repo_id: str, revision: str | None) -> bool:
    """Return whether a model's config and all shards of its weights are in the hub's cache on this machine."""
    index = cached(repo_id, "model.safetensors.index.json", revision)
    shards = set(json.loads(index.read_text())["weight_map"].values()) if index else {"model.safetensors"}
    return all(cached(repo_id, name, revision) for name in ("config.json", *shards))
