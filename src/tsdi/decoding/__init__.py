"""The decoding rule: subtract strength x bias[i] from the logits of response token i.

rule          the rule, on plain tensors, and what a strength may be
condition     what sets the strength for each prompt
slope         what a bias of first order adds, as it follows the logits
transformers  the rule in transformers: a ``LogitsProcessor`` for ``generate``
llama_cpp     the rule in llama.cpp: a processor for llama-cpp-python
mlx           the rule in MLX: a processor for mlx-lm
              (vLLM's is `tsdi.engines.vllm_plugin`, as it cannot be imported without vLLM)
anchor        detection of the end-of-thinking marker, behind which step 0 is
end_tokens    ids of the tokens that end an answer
greedy        greedy decoding in transformers, without a checkpoint's own settings
sampling      draws that are the same in every engine
"""
