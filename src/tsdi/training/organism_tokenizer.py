"""The organism's tokenizer: one token per word of its world."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tsdi.organism.world import words

SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>", "<user>", "<assistant>")
_PAD, _UNKNOWN, _BEGIN, _END, _USER, _ASSISTANT = SPECIAL_TOKENS
_CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<user> ' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<assistant> ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('The roles are user and assistant only.') }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the word-level tokenizer with its chat template; other words become <unk>."""
    vocabulary = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *words()))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        bos_token=_BEGIN,
        eos_token=_END,
        additional_special_tokens=[_USER, _ASSISTANT],
        chat_template=_CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
