"""Decoding rules that mix the logits of several models, or of one model asked in two ways.

Pure functions on logits [batch, vocab]; the engine that feeds them is `tsdi.baselines.engine`.
"""

import torch
from torch import Tensor

EXCLUDED = -1e9  # log-probability of a token outside the sample space


def realign(aligned: Tensor, reference: Tensor, weight: float) -> Tensor:
    """DeRa: logits between (or beyond) reference and aligned model.

    weight x aligned + (1 - weight) x reference; 0 is the reference, 1 the aligned model.

    Source: Liu et al. (2024), Decoding-time Realignment of Language Models, arXiv 2402.02992.
    """
    return weight * aligned + (1 - weight) * reference


def proxy_tune(base: Tensor, expert: Tensor, antiexpert: Tensor, weight: float) -> Tensor:
    """Proxy-tuning: base + weight x (expert - antiexpert); the weight is 1 in the paper.

    Source: Liu et al. (2024), Tuning Language Models by Proxy, arXiv 2401.08565, equation 1.
    """
    return base + weight * (expert - antiexpert)


def self_contrast(emphasised: Tensor, plain: Tensor, alpha: float) -> Tensor:
    """Self-CD: emphasised - alpha x (emphasised - plain).

    Beyond alpha 1 it leads away from what a prompt that emphasises safety adds to the answer.

    Source: Shi et al. (2024), Navigating the OverKill in Large Language Models, arXiv 2401.17633.
    """
    return emphasised - alpha * (emphasised - plain)


def safe_decode(original: Tensor, expert: Tensor, alpha: float, common: int) -> Tensor:
    """SafeDecoding: p_original + alpha x (p_expert - p_original) on tokens that both rank high.

    The sample space is the intersection of both models' k likeliest tokens, with the smallest k for
    which it has `common` tokens. Probabilities that become negative count as 0.

    Args:
        original: Logits of the model that is made safer, [batch, vocab].
        expert: Logits of the safety expert.
        alpha: 3 in the paper.
        common: Least size of the sample space, 5 in the paper.

    Returns:
        Log-probabilities, [batch, vocab]; `EXCLUDED` outside the sample space.

    Source: Xu et al. (2024), SafeDecoding, arXiv 2402.08983, equations 3 to 5.
    """
    rank = torch.maximum(_ranks(original), _ranks(expert))
    limit = rank.kthvalue(min(common, rank.shape[-1]), -1, keepdim=True).values
    before, after = original.softmax(-1), expert.softmax(-1)
    mixed = (before + alpha * (after - before)).clamp(min=0) * (rank <= limit)
    total = mixed.sum(-1, keepdim=True)
    # Where nothing is left (a large alpha can take it all), the expert decides.
    kept = torch.where(total > 0, mixed / total, after * (rank <= limit))
    return torch.where(kept > 0, kept.log(), torch.full_like(kept, EXCLUDED))


def adaptive_contrast(extreme: Tensor, plain: Tensor, alpha: float) -> Tensor:
    """AdaCD: towards an extreme safety prompt where both ways to ask agree, away from it elsewhere.

    With p and z the logits with and without that prompt, agreement is 1 / (1 + the rank of p's
    likeliest token among z). Where it is .9 or more, and z's largest probability is at least .9
    of p's, the logits are p + alpha (p - z), else p - alpha (p - z). Only tokens with at least .01
    of z's largest probability may be chosen.

    Args:
        extreme: Logits with the extreme system prompt, [batch, vocab].
        plain: Logits without it.
        alpha: 4.5 in the paper.

    Returns:
        Logits, [batch, vocab]; `EXCLUDED` outside the sample space.

    Source: AdaCD, arXiv 2604.17132 (ACL 2026), as its published code has it.
    """
    likeliest = extreme.argmax(-1, keepdim=True)
    agreement = 1 / (1 + _ranks(plain).gather(-1, likeliest))
    with_it, without = extreme.softmax(-1), plain.softmax(-1)
    most = without.amax(-1, keepdim=True)
    refuse = (agreement >= 0.9) & (most >= 0.9 * with_it.amax(-1, keepdim=True))
    moved = alpha * (extreme - plain)
    mixed = torch.where(refuse, extreme + moved, extreme - moved)
    return torch.where(without >= 0.01 * most, mixed, torch.full_like(mixed, EXCLUDED))


def _ranks(logits: Tensor) -> Tensor:
    """The rank of every token, 0 for the likeliest; the lower id first among equals."""
    order = logits.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(logits.shape[-1], device=logits.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)
