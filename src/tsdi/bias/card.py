"""The model card of a bias on the hub."""

CARD = """---
{{ card_data }}
---

# A safety bias for a language model

The mean shift that safety alignment left in the model's logits on random prompts, made by
[tsdi](https://pypi.org/project/tsdi/) (TSDI, arXiv 2502.02153). `bias_config.json` names the
models. Use: `SafetyBias.from_pretrained(this_repository, tokenizer=tokenizer)`.
"""
