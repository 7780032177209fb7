"""To the Hugging Face Hub and from it: folders of `LanguageGAN.save_pretrained`, with gantune's own model card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.utils import HFValidationError, validate_repo_id

from gantune.diagnostics.files import local_path
from gantune.errors import UserError, first_line

FILES = ("*.json", "*.safetensors", "*.md")
"""What `save_pretrained` writes; nothing else is fetched, so nothing else can be loaded."""


class PushToHub:
    """Adds `push_to_hub` to a trainer that has `save_pretrained(directory)`."""

    args: Any
    save_pretrained: Callable[[str | Path], None]

    def push_to_hub(
        self,
        repo_id: str | None = None,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        **options: Any,
    ) -> str:
        """Upload what `save_pretrained` writes, its model card as `README.md`; options as of `HfApi.upload_folder`.

        `repo_id` is `owner/name`, or `name` for one's own; it is made if it is not there. If it is not given, it is the
        `hub_model_id` of the settings, or named like their `output_dir`. The default token is the one that `hf auth
        login` has stored. It returns the address of the commit.

        Raises:
            UserError: if the Hub does not know the name, does not let you, or cannot be reached.
        """
        api, repo_id = HfApi(token=token), repo_id or self.args.hub_model_id or Path(self.args.output_dir).name
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            try:
                repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
                message = commit_message or f"Upload {type(self).__name__}"
                commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message, **options)
            except Exception as error:  # many kinds, all of them about the Hub
                raise UserError(f"{repo_id}: cannot be pushed to the Hub: {first_line(error)}") from error
        return str(commit)


def local_folder(name: str | Path, files: Sequence[str] = FILES) -> Path:
    """The folder `name`, or if there is none and it is of the form `owner/name`, the Hub's copy of its `files`.

    A [`UserError`] if it is a path that is not there, or it is on the Hub neither, or that cannot be reached.
    """
    folder = local_path(name)
    try:
        validate_repo_id(str(name))
    except HFValidationError:
        return folder
    if folder.exists() or "/" not in str(name):
        return folder
    try:
        return Path(snapshot_download(str(name), allow_patterns=[*files]))
    except Exception as error:  # many kinds, all of them about the Hub
        raise UserError(f"{name}: no such folder, and not to be had from the Hub: {first_line(error)}") from error
