"""The token pool: token ids from which random prompts and responses are drawn."""

import gzip
import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from tsdi.errors import PoolError

FEWEST_TOKENS = 16
MOST_UNKNOWN = 0.25
"""Share of the tokens of a text that may be unknown: it is in another language if more are."""


@dataclass(frozen=True)
class TokenPool:
    """Token ids to draw from; an id that occurs twice is drawn twice as often.

    Attributes:
        name: Name of the source of the ids.
        ids: Token ids, int64 [size].
    """

    name: str
    ids: npt.NDArray[np.int64]

    @property
    def sha256(self) -> str:
        """Hash of the ids in their order."""
        return hashlib.sha256(self.ids.astype("<i8").tobytes()).hexdigest()

    @classmethod
    def from_ids(
        cls, name: str, ids: Iterable[int], tokenizer: PreTrainedTokenizerBase
    ) -> "TokenPool":
        """A pool of these ids, less the special ones (which also stand for unknown text).

        Raises:
            PoolError: If fewer than ``FEWEST_TOKENS`` different ids are left.
        """
        special = set(tokenizer.all_special_ids)
        special.update(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
        kept = np.array([i for i in ids if i not in special], dtype=np.int64)
        distinct = len(np.unique(kept))
        if distinct < FEWEST_TOKENS:
            raise PoolError(
                f"The token pool {name!r} has {distinct} different ordinary tokens for this "
                f"tokenizer; at least {FEWEST_TOKENS} are needed.",
                "Give a longer text in the model's language, or --pool tokenizer.",
            )
        return cls(name, kept)

    @classmethod
    def from_text(
        cls, text: str, tokenizer: PreTrainedTokenizerBase, name: str = "text"
    ) -> "TokenPool":
        """The tokens of a text, as often as they occur in it.

        Raises:
            PoolError: If the text is empty or too short.
        """
        # A tokenizer warns about texts longer than the context; here that is no mistake.
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if ids.count(tokenizer.unk_token_id) > MOST_UNKNOWN * len(ids):
            raise PoolError(
                f"The tokenizer does not know many words of the token pool {name!r}.",
                "Give a text in the model's language, or --pool tokenizer.",
            )
        return cls.from_ids(name, ids, tokenizer)

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase) -> "TokenPool":
        """Every ordinary token of the vocabulary, once."""
        return cls.from_ids("tokenizer", sorted(tokenizer.get_vocab().values()), tokenizer)

    @classmethod
    def from_file(cls, path: Path, tokenizer: PreTrainedTokenizerBase) -> "TokenPool":
        """The tokens of a UTF-8 text file, plain or gzipped.

        Raises:
            PoolError: If it cannot be read, or is empty or too short.
        """
        try:
            data = path.read_bytes()
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise PoolError(
                f"Cannot read the token pool {path}: {getattr(error, 'strerror', None) or error}.",
                "Give a UTF-8 text file.",
            ) from error
        return cls.from_text(text, tokenizer, name=path.name)

    @classmethod
    def from_name(cls, name: "str | TokenPool", tokenizer: PreTrainedTokenizerBase) -> "TokenPool":
        """The pool of a name; a pool as it is.

        Args:
            name: "neutral" (text that comes with tsdi), "tokenizer", "mmlu" (the paper's pool, read
                from the hub) or the path of a text file; or a pool, which stays as it is.
            tokenizer: The model's tokenizer.

        Raises:
            PoolError: If it cannot be had.
        """
        if isinstance(name, TokenPool):
            return name
        if name == "neutral":
            text = files("tsdi.bias").joinpath("neutral.txt").read_text(encoding="utf-8")
            return cls.from_text(text, tokenizer, name)
        if name == "tokenizer":
            return cls.from_tokenizer(tokenizer)
        if name == "mmlu":
            return cls.from_text(_mmlu(), tokenizer, name)
        return cls.from_file(Path(name), tokenizer)


def _mmlu() -> str:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise PoolError("The pool 'mmlu' needs datasets.", "pip install 'tsdi[data]'") from error
    try:
        rows = load_dataset("cais/mmlu", "all", split="test")
    except Exception as error:  # whatever the hub's client raises when it cannot be reached
        raise PoolError(
            f"Cannot load MMLU (cais/mmlu) from the hub: {error}.",
            "Save its questions as a text file and give that file's path as the pool.",
        ) from error
    return "\n".join(f"{row['question']}\n" + "\n".join(row["choices"]) for row in rows)
