"""The numbers of the page `inside`: next tokens, the logit lens, attention, neighbours, and one gradient step.

Hidden states and attentions are those that transformers returns. What a model does not have, or in a form that is not
known here, is left out, with a line that says so.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.models.loading import context_length, head_width

MOST_TOKENS = 128  # of a text that a page can show
MOST_PARAMETERS = 2_000_000_000
_MOST_WEIGHTS = 1_600_000  # of attention: 4.3 MB as text of a page
_LIKELIEST, _LIKELIEST_OF_A_LAYER, _NEIGHBOURS = 10, 5, 8
_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f")  # of Qwen and Llama, GPT-2, OPT, Phi, Mamba
_LEVELS = 65_535  # an attention weight has 16 bits, so its error is below 1e-5


def most_tokens(model: PreTrainedModel) -> int:
    """Return the longest text that a page of this model can show."""
    config = model.config.get_text_config()
    heads = config.num_hidden_layers * config.num_attention_heads
    n = min(MOST_TOKENS, context_length(model))
    while n > 1 and heads * n * (n + 1) // 2 > _MOST_WEIGHTS:
        n -= 1
    return n


def final_norm(model: PreTrainedModel) -> tuple[nn.ModuleList, nn.Module] | None:
    """Return the model's layers and the norm behind them, or None if they do not have the usual names."""
    layers = model.config.get_text_config().num_hidden_layers
    for parent in model.base_model.modules():
        children = dict(parent.named_children())
        listed = [one for one in children.values() if isinstance(one, nn.ModuleList) and len(one) == layers]
        norms = [children[name] for name in _NORMS if name in children]
        if listed and norms:
            return listed[0], norms[0]
    return None


def sizes(model: PreTrainedModel) -> dict[str, Any]:
    """Return what the drawing of the model needs: its layers, heads, widths and parameters."""
    config = model.config.get_text_config()
    embeddings, head, found = model.get_input_embeddings(), model.get_output_embeddings(), final_norm(model)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    return {
        "kind": type(model).__name__,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "head_width": head_width(config),
        "width": config.hidden_size,
        "inner": inner or 4 * config.hidden_size,  # as in GPT-2
        "vocabulary": embeddings.weight.shape[0],
        "context": context_length(model),
        "parameters": model.num_parameters(),
        "parameters_layer": sum(weight.numel() for weight in found[0][0].parameters()) if found else None,
        "tied": head is not None and head.weight is embeddings.weight,
    }


class Inside:
    """One forward pass over a text: `numbers` has what the page shows, `missing` names what is left out."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]):
        self.model, self.ids, self.missing = model, torch.tensor([list(ids)], device=model.device), list[str]()
        self.shown = set(ids)  # the ids of all tokens that the numbers name
        self._size = len(tokenizer)  # a model may have more embeddings than its tokenizer has tokens
        model.set_attn_implementation("eager")  # the only one that returns attentions
        with torch.no_grad():
            self._output = model(input_ids=self.ids, output_hidden_states=True, output_attentions=True, use_cache=False)
            self.logits = self._output.logits[0]  # of the whole model: (tokens, vocabulary)
            self.numbers: dict[str, Any] = {
                "sizes": sizes(model),
                "lens": [self._likeliest(logits, most) for logits, most in self._lens()],
                "attention": self._attention(),
                "neighbours": self._neighbours(),
            }

    def _lens(self) -> Iterator[tuple[Tensor, int]]:
        """Yield logits and the number of tokens to show: of each layer's hidden state, if the head's input is known,
        and of the whole model (nostalgebraist 2020, "interpreting GPT: the logit lens")."""
        found, head, states = final_norm(self.model), self.model.get_output_embeddings(), self._output.hidden_states
        # transformers' last hidden state is behind the norm. A head that also scales or caps its logits is not known.
        if found and head is not None and torch.allclose(head(states[-1])[0], self.logits, atol=1e-3, rtol=1e-3):
            for state in states[:-1]:
                yield head(found[1](state))[0], _LIKELIEST_OF_A_LAYER
        else:
            self.missing.append("the guesses of single layers: this model's norm or head is not one that is known here")
        yield self.logits, _LIKELIEST

    def _likeliest(self, logits: Tensor, most: int) -> dict[str, Any]:
        """Return, by position, the likeliest tokens with their probabilities, and the probability of the token that
        follows in the text."""
        probabilities = logits.float().softmax(-1)[:, : self._size]
        top = probabilities.topk(min(most, self._size))
        self.shown.update(top.indices.flatten().tolist())
        return {
            "ids": top.indices.tolist(),
            "p": rounded(top.values),
            "next": rounded(of_next(probabilities, self.ids[0])),
        }

    def _attention(self) -> str | None:
        """Return all attention weights: by layer, head and token, those to the token itself and the tokens before it,
        as 16-bit numbers in base64."""
        attentions, n = self._output.attentions or (), self.ids.shape[1]
        if not attentions or any(one is None or one.shape[-2:] != (n, n) for one in attentions):
            self.missing.append("attention: not every layer of this model returns attention weights")
            return None
        below = torch.ones(n, n, dtype=torch.bool).tril()
        rows = torch.stack([one[0].float().cpu()[:, below] for one in attentions])
        return base64.b64encode((rows * _LEVELS).round().numpy().astype("<u2").tobytes()).decode()

    def _neighbours(self) -> dict[int, dict[str, Any]]:
        """Return, for each token of the text, the tokens whose embeddings have the highest cosine with its own."""
        own = sorted(set(self.ids[0].tolist()))
        table = normalize(self.model.get_input_embeddings().weight[: self._size].float(), dim=-1)
        cosines = table[own] @ table.T
        cosines[range(len(own)), own] = -2.0  # itself
        top = cosines.topk(min(_NEIGHBOURS, self._size - 1))
        self.shown.update(top.indices.flatten().tolist())
        found = zip(own, top.indices.tolist(), rounded(top.values), strict=True)
        return {token: {"ids": ids, "cosine": values} for token, ids, values in found}

    def nudge(self, start: int, rate: float) -> dict[str, Any] | None:
        """Take one step of gradient descent on the tokens from `start` on. Returns the probabilities after it, of the
        tokens that `lens` has for the whole model. The step stays in the model's weights."""
        if getattr(self.model, "_hf_peft_config_loaded", False) or getattr(self.model, "is_quantized", False):
            self.missing.append("the gradient step: the weights of an adapter or of a quantized model are frozen here")
            return None
        weights = list(self.model.parameters())
        logits = self.model(input_ids=self.ids, use_cache=False).logits[0]
        loss = cross_entropy(logits[start - 1 : -1].float(), self.ids[0, start:])
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    weight -= rate * gradient
            after = self.model(input_ids=self.ids, use_cache=False).logits[0].float().softmax(-1)
        shown = torch.tensor(self.numbers["lens"][-1]["ids"], device=after.device)
        following = rounded(of_next(after, self.ids[0]))
        return {"rate": rate, "start": start, "p": rounded(after.gather(1, shown)), "next": following}


def of_next(values: Tensor, ids: Tensor) -> Tensor:
    """Return, at each of the tokens `ids` but the last, the value of the token that follows; `values` is (tokens,
    vocabulary)."""
    return values[:-1].gather(1, ids[1:, None].to(values.device))[:, 0]


def rounded(values: Tensor) -> Any:
    """Return numbers with six decimals as lists: a text of all digits would be three times as long."""
    return values.double().round(decimals=6).tolist()
