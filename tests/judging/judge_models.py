"""Tiny judges: tokenizers with the control tokens and words of the real ones, and random models."""

import json
from contextlib import contextmanager

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LogitsProcessor, PreTrainedTokenizerFast

from tests import tiny
from tsdi.engines.transformers import TransformersEngine
from tsdi.judging.base import Response
from tsdi.judging.harmbench import HarmBench
from tsdi.judging.llama_guard import LlamaGuard3, LlamaGuard4
from tsdi.judging.md_judge import MDJudge01, MDJudge02
from tsdi.judging.policy import GraniteGuardian, Question, Safeguard
from tsdi.judging.polyguard import PolyGuard
from tsdi.judging.qwen3guard import Qwen3Guard, Qwen3GuardLoose
from tsdi.judging.strongreject import StrongReject
from tsdi.judging.wildguard import WildGuard

FORMATS = {
    form.name: form
    for form in (
        MDJudge01(),
        MDJudge02(),
        LlamaGuard3(),
        LlamaGuard4(),
        WildGuard(),
        HarmBench(),
        Qwen3Guard(),
        Qwen3GuardLoose(),
        PolyGuard(),
        Safeguard(),
        GraniteGuardian(),
        Question(),
        StrongReject(),
    )
}
Safeguard.max_new_tokens = StrongReject.max_new_tokens = 32  # random ones never end
LLAMA_3 = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
LLAMA_4 = ["<|begin_of_text|>", "<|eot|>", "<|header_start|>", "<|header_end|>"]
QWEN_3 = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
WORDS = (
    "Safety: Safe Safety: Unsafe Safe Unsafe yes no yes(no("
    " safe unsafe yes no\nsafe\nunsafe\n\nsafe\n\nunsafe\n safe(unsafe(safe(no(yes\n S1 O1 O16, n/a"
)


def template(begin, end, head, tail, parts=False):
    """A chat template like Llama Guard's: it ends where the model writes a blank line itself."""
    content = "(m.content | selectattr('type', 'equalto', 'text') | first).text" if parts else None
    return (
        f"{{{{ '{begin}{head}user{tail}\n\n<BEGIN UNSAFE CONTENT CATEGORIES>\nS1: Bad.\n"
        "<END UNSAFE CONTENT CATEGORIES>\n\n<BEGIN CONVERSATION>\n\n' }}"
        "{% for m in messages %}{{ 'User: ' if m.role == 'user' else 'Agent: ' }}"
        f"{{{{ ({content or 'm.content'}).strip() }}}}{{{{ '\n\n' }}}}{{% endfor %}}"
        f"{{{{ '<END CONVERSATION>{end}{head}assistant{tail}' }}}}"
    )


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
HARMONY = ["<|endoftext|>", "<|start|>", "<|return|>", "<|message|>", "<|channel|>", "<|end|>"]
HARMONY_TEMPLATE = (  # the system message becomes the developer's
    "<|start|>system<|message|>You are ChatGPT.\n\nReasoning: medium<|end|>{% for m in messages %}"
    "{% if m.role == 'system' %}<|start|>developer<|message|># Instructions\n\n{{ m.content }}"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}{% endif %}<|end|>{% endfor %}"
    "<|start|>assistant"
)
QWEN_3_GUARD = (  # like the real one: it asks about the last message, and ends a thought itself
    "<|im_start|>user\n# Task: is it safe, and a refusal?\n<BEGIN SAFETY POLICY>\n**Safety: Safe**"
    "\n<END SAFETY POLICY>\n<BEGIN UNSAFE CONTENT CATEGORIES>\nViolent.\nPII.\n"
    "<END UNSAFE CONTENT CATEGORIES>\n<BEGIN REFUSAL POLICY>\n**Refusal: Yes**\n"
    "<END REFUSAL POLICY>\n\n<BEGIN CONVERSATION>\n\n"
    "{% for m in messages %}{% if not loop.first %}{{ '\n\n' }}{% endif %}"
    "{{ 'USER: ' if m.role == 'user' else 'ASSISTANT: ' }}{{ m.content }}{% endfor %}"
    "\n\n<END CONVERSATION>\n\n - The first line must be one of: 'Safety: Safe', 'Safety: Unsafe'"
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
TEMPLATES = {
    "llama-guard-3": template(*LLAMA_3),
    "llama-guard-4": template(*LLAMA_4, parts=True),
    "qwen3guard": QWEN_3_GUARD,
    "qwen3guard-loose": QWEN_3_GUARD,
    "polyguard": CHATML,
    "question": CHATML,
    "granite-guardian": CHATML,
    "strongreject": CHATML,
    "gpt-oss-safeguard": HARMONY_TEMPLATE,
}
BEGUN = {"llama-guard-3": LLAMA_3, "llama-guard-4": LLAMA_4}  # with a token of their own


def _corpus():
    texts = [form.template or TEMPLATES[name] for name, form in FORMATS.items()]
    return [*texts, *[WORDS] * 60]


def byte_tokenizer(name):
    """As of Llama 3 and 4, and Qwen: bytes, no token is added to a text."""
    specials = BEGUN.get(name) or (HARMONY if name == "gpt-oss-safeguard" else QWEN_3)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        _corpus(),
        trainers.BpeTrainer(
            vocab_size=800,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=specials[0] if name in BEGUN else None,
        eos_token=specials[1 if name in BEGUN else 2],
        pad_token=specials[1 if name in BEGUN else 0],
        additional_special_tokens=specials[2 if name in BEGUN else 1 :],
        chat_template=TEMPLATES[name],
    )


def mistral_tokenizer(*more):
    """As of Llama 2, Mistral and InternLM2: pieces with a block for a space, "<s>" first."""
    specials = ["<unk>", "<s>", "</s>", *more]
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    backend.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse()]
    )
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    backend.train_from_iterator(
        [line for text in _corpus() for line in text.splitlines()],
        trainers.BpeTrainer(vocab_size=900, special_tokens=specials + pieces, show_progress=False),
    )
    plain = Tokenizer.from_str(_without_added(backend.to_str(), set(pieces)))
    plain.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(more),
    )


def _without_added(text, pieces):
    """Byte pieces are in the vocabulary, but no tokens that a text could spell."""
    state = json.loads(text)
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] not in pieces]
    return json.dumps(state)


def tokenizer(name):
    if name in TEMPLATES:
        return byte_tokenizer(name)
    return mistral_tokenizer(*(["<|im_start|>", "<|im_end|>"] if name == "md-judge-v0.2" else []))


KINDS = {  # InternLM2 needs code of its own; InternLM3 is the nearest one in transformers
    "md-judge-v0.1": ("mistral", {}),
    "md-judge-v0.2": ("internlm3", {"head_dim": 16, "num_hidden_layers": 1}),
    "llama-guard-3": ("llama", {}),
    "llama-guard-4": (
        "llama4_text",
        {
            "head_dim": 16,
            "num_local_experts": 2,
            "intermediate_size_mlp": 48,
            "interleave_moe_layer_step": 1,
        },
    ),
    "wildguard": ("mistral", {}),
    "harmbench": ("llama", {}),
    "qwen3guard": ("qwen3", {}),
    "qwen3guard-loose": ("qwen3", {}),
    "polyguard": ("llama", {}),  # a qwen2's tokenizer is loaded as one that splits otherwise
    "gpt-oss-safeguard": ("llama", {}),
    "question": ("llama", {}),
    "granite-guardian": ("llama", {}),
    "strongreject": ("llama", {}),
}


def save(name, folder, **changes):
    """A random judge in a folder, and what it is made of."""
    known = tokenizer(name)
    kind, extra = KINDS[name]
    sizes = {"vocab_size": len(known), "max_position_embeddings": 8192}
    ends = {"bos_token_id": known.bos_token_id, "eos_token_id": known.eos_token_id}
    made = tiny.model(
        kind, **{**sizes, **ends, "pad_token_id": known.eos_token_id, **extra, **changes}
    )
    made.save_pretrained(folder)
    known.save_pretrained(folder)
    return made, known


class Says(LogitsProcessor):
    """Makes a model say some tokens, in every row; both labels stay close to each other."""

    FORCE, LEAD = 1000.0, 2.5

    def __init__(self, ids, labels=()):
        self.ids, self.labels, self.start = ids, labels, None

    def __call__(self, input_ids, scores):
        self.start = self.start or input_ids.shape[1]
        wanted = self.ids[min(input_ids.shape[1] - self.start, len(self.ids) - 1)]
        scores = scores.clone()
        for token in self.labels if wanted in self.labels else [wanted]:
            scores[:, token] = scores[:, token] + self.FORCE
        scores[:, wanted] += self.LEAD
        return scores


@contextmanager
def saying(monkeypatch, ids, labels=()):
    """Every model says these tokens."""
    usual = TransformersEngine._processors
    with monkeypatch.context() as patch:
        patch.setattr(
            TransformersEngine,
            "_processors",
            lambda self, *args: [*usual(self, *args), Says(ids, labels)],
        )
        yield


def response(answer="It is noon.", prompt="What time is it?", kind="harmful", name="p"):
    return Response(name, kind, "", ({"role": "user", "content": prompt},), answer, True)


@torch.no_grad()
def ordinary_logits(model, ids):
    """Of the last position, float64 [vocab]."""
    return model(input_ids=torch.tensor([ids])).logits[0, -1].double()
