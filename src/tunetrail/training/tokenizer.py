"""A folder's tokenizer.json and tokenizer_config.json -> token ids as Axolotl's tokenizer gives them, without transformers.

Does what transformers, whose import takes seconds, does when it loads them, and then Axolotl (axolotl/loaders/tokenizer.py).
Not supported: a tokenizer without a tokenizer.json, `added_tokens_overrides`, and classes of transformers that read only the
vocabulary and merges of a tokenizer.json and split text by other rules than the file's.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunetrail import UserError
from tunetrail.data import hub
from tunetrail.training import checkpoint, tiny

if TYPE_CHECKING:
    import tokenizers

_FILES = ("tokenizer.json", "tokenizer_config.json")


class Tokenizer:
    """The part of a tokenizer that `template` uses. The id of a special token that it does not have is None.

    `config` is a tokenizer_config.json; `train` an Axolotl config, whose `special_tokens` and `tokens` are added to those of
    `backend`. `vocab_size` counts added tokens as well.
    """

    def __init__(self, backend: "tokenizers.Tokenizer", config: dict[str, Any], train: dict[str, Any]):
        added = config.get("added_tokens_decoder") or {}
        extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
        special = train.get("special_tokens") or {}
        saved, own = _named(config), _named(special)
        # A token that is there already keeps its id and its flags.
        backend.add_tokens([_added(added[number]) for number in sorted(added, key=int)])
        for tokens in (saved.values(), extra.values() if isinstance(extra, dict) else extra, own.values()):
            backend.add_special_tokens(list(map(_added, tokens)))
        backend.add_tokens(list(map(_added, train.get("tokens") or [])))
        backend.add_special_tokens(list(map(_added, special.get("additional_special_tokens") or [])))
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.vocab_size = backend.get_vocab_size()
        ids = {name: backend.token_to_id(_added(token).content) for name, token in (saved | own).items()}
        self.bos_token_id, self.eos_token_id = ids.get("bos_token"), ids.get("eos_token")
        self.pad_token_id = ids.get("pad_token", self.eos_token_id)

    def __call__(self, texts: list[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": [encoded.ids for encoded in self._backend.encode_batch_fast(texts)]}

    @property
    def puts_bos(self) -> bool:
        """Whether it puts BOS before a text by itself."""
        return self.bos_token_id is not None and self(["a"])["input_ids"][0][0] == self.bos_token_id


def find(base: dict[str, Any], train: dict[str, Any], texts: list[str] | None, root: Path) -> Tokenizer | None:
    """Return the tokenizer of `train`, from its folder (below `root`) or the hub's cache; None if it is in neither.

    The tokenizer of a model which `base` makes is trained on `texts`.

    Raises:
        UserError: one of its files is invalid.
    """
    source = name(train)
    if base["make"] and source == base["base_model"]:
        if texts is None:
            return None
        return Tokenizer(tiny.train_tokenizer(texts, base["make"]["vocab_size"]), tiny.SPECIAL_TOKENS, train)
    folder: Path | None = root / source
    if not checkpoint.is_path(source) and not folder.is_dir():
        file = hub.cached(source, _FILES[0], base["revision_of_model"])
        folder = file and file.parent
    return read(folder, train) if folder and all((folder / file).is_file() for file in _FILES) else None


def name(train: dict[str, Any]) -> str:
    """Return the folder or the hub's id that `train` takes its tokenizer from."""
    return train.get("tokenizer_config") or train["base_model"]


def read(folder: Path, train: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer that is saved in `folder`.

    Raises:
        UserError: one of its files is invalid.
    """
    import tokenizers

    file, settings, older = (folder / file for file in (*_FILES, "special_tokens_map.json"))
    try:
        backend, config = tokenizers.Tokenizer.from_file(str(file)), json.loads(settings.read_text(encoding="utf-8"))
        if "added_tokens_decoder" not in config and older.is_file():
            config |= json.loads(older.read_text(encoding="utf-8"))
    except Exception as error:  # `tokenizers` has no exception class of its own
        raise UserError(f"{file}, or a file beside it, is not a tokenizer's ({error}). Save or fetch it again.") from None
    return Tokenizer(backend, config, train)


def _named(config: dict[str, Any]) -> dict[str, str | dict[str, Any]]:
    """Return the tokens of a config, such as bos_token, each a text or a mapping. add_bos_token is a flag."""
    return {key: value for key, value in config.items() if key.endswith("_token") and isinstance(value, str | dict)}


def _added(value: str | dict[str, Any]) -> "tokenizers.AddedToken":
    from tokenizers import AddedToken

    if isinstance(value, str):
        return AddedToken(value, normalized=False, special=True)
    return AddedToken(**{key: flag for key, flag in value.items() if key != "__type"})
