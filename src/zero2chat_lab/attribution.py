"""Attribution: the training documents to which a model owes an answer.

    zero2chat run recipes/attribution --only attribution

Reads a model, and the corpus of the stage attribution_corpus on which it was trained. For each fact, it ranks the
training documents by how much training on them raised the probability of the answer, and, for comparison, by BM25 and
by n-grams that they share with query and answer. `precision_*` is the share of the first k documents that state the
fact. `blame.jsonl` has these documents, and the folders `without_*` have the corpus without them (`blamed`), without
those of BM25 (`bm25`), without k on the same person's other attributes (`person`), and without k random documents
(`random`) for each fact.

A document's score is the cosine of two gradients of the tokens' log-odds: the answer's, and the document's. Both are
projected in each layer (LoGra, Choe et al. 2024, arXiv:2405.13954), and whitened by the projected gradients of all
documents (TRAK, Park et al. 2023, arXiv:2303.14186). Without normalization, a few unusual documents would be blamed for
everything (Barshan et al. 2020, arXiv:2003.11630).
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, is_main_process, write_jsonl
from zero2chat.core.text import words
from zero2chat.models.hardware import start_processes
from zero2chat.models.loading import load_model
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Stage
from zero2chat.tools.bm25 import Index, Passage, write_index
from zero2chat_lab.lost_facts import read_facts
from zero2chat_lab.memorization import Excerpt, continued, document
from zero2chat_lab.shared import DocumentArguments

_BATCH = 64  # passages per backward pass
_LOGITS = 2**27  # at most, of a batch: fewer passages at a time for a large vocabulary


class Gradients:
    """Projected gradients of a model's linear layers, a row for each text.

    For one token, a layer's gradient is the outer product of its output's gradient and its input. Both are projected
    to `rank` random directions before they are multiplied, so that no gradient of a whole layer is stored. The model's
    other weights, such as embedding and norms, are left out.

    Changes the model: its linear layers get hooks, and only its embedding requires gradients.
    """

    def __init__(self, model: PreTrainedModel, rank: int = 16, seed: int = 0):
        layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear | Conv1D)}
        embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings()
        if not embedding.is_floating_point() or getattr(model, "is_quantized", False):
            raise UserError(f"{type(model).__name__}: attribution needs weights that are not quantized")
        if all(layer is head for layer in layers.values()):
            raise UserError(f"{type(model).__name__}: attribution needs linear layers, and found none but the head")
        self.model, self._rows = model, dict[str, Tensor]()
        for weight in model.parameters():  # activations get gradients if what they are computed from does
            weight.requires_grad_(weight is embedding)
        generator = torch.Generator().manual_seed(seed)
        for name, layer in layers.items():
            sizes = layer.weight.shape if isinstance(layer, Conv1D) else layer.weight.shape[::-1]  # inputs, outputs
            maps = [torch.randn(size, rank, generator=generator).to(model.device) / rank**0.5 for size in sizes]
            layer.register_forward_hook(self._hook(name, *maps))

    def _hook(self, name: str, of_inputs: Tensor, of_outputs: Tensor) -> Callable[..., None]:
        def forward(_: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
            if inputs[0].dim() != 3:
                raise UserError(f"attribution needs layers that keep texts apart, and {name} does not")
            projected = inputs[0].detach().float() @ of_inputs  # (texts, tokens, rank)

            def backward(gradient: Tensor) -> None:
                self._rows[name] = torch.einsum("bti,bto->bio", projected, gradient.float() @ of_outputs).flatten(1)

            if outputs.requires_grad:
                outputs.register_hook(backward)

        return forward

    def of(self, texts: Sequence[Sequence[Excerpt]]) -> Tensor:
        """Return (texts, layers, rank²): the gradient of the summed log-odds against each token of a text.

        Unlike a loss, log-odds have no smaller gradient at tokens that are known by heart.
        """
        passages = [(i, passage) for i, some in enumerate(texts) for passage in some]
        passages.sort(key=lambda pair: len(pair[1].ids))
        rows: list[Tensor] = []
        most = _LOGITS // self.model.config.get_text_config().vocab_size  # tokens
        size = min(_BATCH, max(1, most // len(passages[-1][1].ids)))
        for start in range(0, len(passages), size):
            batch = [passage for _, passage in passages[start : start + size]]
            # Padding is at the end, where no token attends to it.
            ids = pad_sequence([torch.tensor(one.ids) for one in batch], batch_first=True).to(self.model.device)
            own = [torch.arange(1, len(one.ids)) >= one.given for one in batch]
            predicted = pad_sequence(own, batch_first=True)
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits.float()[predicted]
            rest = ids[:, 1:][predicted, None]
            others = logits.scatter(1, rest, -torch.inf).logsumexp(1)
            (others - logits.gather(1, rest)[:, 0]).sum().backward()
            self.model.zero_grad(set_to_none=True)
            rows.append(torch.stack([self._rows[name] for name in sorted(self._rows)], dim=1).cpu())
        owners = torch.tensor([i for i, _ in passages])
        return torch.zeros(len(texts), *rows[0].shape[1:]).index_add_(0, owners, torch.cat(rows))


def influence(documents: Tensor, queries: Tensor, damping: float) -> Tensor:
    """Return scores, (queries, documents). In each layer, a multiple of the mean eigenvalue is added to all, as in
    Grosse et al. 2023 (arXiv:2308.03296)."""
    whitened = []
    for layer in zip(documents.unbind(1), queries.unbind(1), strict=True):
        rows, answers = (normalize(some, dim=1) for some in layer)
        fisher = rows.T @ rows / len(rows)
        fisher.diagonal().add_(damping * fisher.diagonal().mean() + 1e-12)
        root = torch.linalg.cholesky(fisher)
        whitened.append([torch.linalg.solve_triangular(root, some.T, upper=False).T for some in (rows, answers)])
    left, right = (normalize(torch.cat(some, dim=1), dim=1) for some in zip(*whitened, strict=True))
    return right @ left.T


def blame(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    queries: Sequence[Excerpt],
    k: int,
    damping: float = 0.1,
    seed: int = 0,
) -> list[list[tuple[int, float]]]:
    """Return, for each query, the k texts with the highest scores: (index, score), the highest first. Changes the
    model, as `Gradients` does."""
    gradients = Gradients(model, seed=seed)
    documents = gradients.of([document(model, tokenizer, text) for text in texts])
    best = influence(documents, gradients.of([[one] for one in queries]), damping).topk(k)
    return [list(zip(*pair, strict=True)) for pair in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def by_ngrams(query: str, texts: Sequence[str]) -> list[int]:
    """Return the texts that share a word with the query, by the longest n-gram that they share, then by the number."""
    row, shared = words(query, pairs=False), list[list[int]]()
    for text in texts:
        spaced = f" {' '.join(words(text, pairs=False))} "
        found = (
            sum(f" {' '.join(row[i : i + n])} " in spaced for i in range(len(row) - n + 1))
            for n in range(1, len(row) + 1)
        )
        shared.append(list(itertools.takewhile(bool, found)))  # without a shared n-gram, no longer one is shared
    order = sorted(range(len(texts)), key=lambda i: (-len(shared[i]), -sum(shared[i])))
    return [i for i in order if shared[i]]


def by_bm25(queries: Sequence[str], texts: Sequence[str], k: int, characters: int) -> list[list[Passage]]:
    """Return the first k passages for each query; a passage's source is the index of its text."""
    with tempfile.TemporaryDirectory() as folder:
        write_index(f"{folder}/index", ((text, str(i)) for i, text in enumerate(texts)), "corpus", characters)
        index = Index(f"{folder}/index")
        # A search would take what is quoted for a phrase that must be there.
        return [index.find(query.replace('"', " "), k) for query in queries]


@dataclass
class AttributionArguments(DocumentArguments):
    k: Annotated[int, Range(min=1)] = field(default=8, metadata={"help": "Documents to blame for each fact."})
    damping: Annotated[float, Range(above=0)] = field(default=0.1, metadata={"help": "Of the whitening, relative."})


def run(run: Run, args: AttributionArguments) -> None:
    facts, train, validation = read_facts(args.dataset), args.rows("train"), args.rows("validation")
    texts, k = list(train[args.column]), args.k
    if k * len(facts) > len(train):
        raise UserError(f"k {k}: {len(facts)} facts and {len(train)} documents: lower k")
    device = start_processes().device
    model, tokenizer = load_model(args.model_name_or_path, args.dtype)

    # Blame.
    excerpts = [one for fact in facts for one in continued(tokenizer, fact.prompt, [fact.answer])]
    blamed = blame(model.to(device), tokenizer, texts, excerpts, k, args.damping, args.seed)
    queries = [fact.prompt + fact.answer for fact in facts]
    found = by_bm25(queries, texts, k, min(10_000, max(50, *map(len, texts))))
    first = {
        "gradients": [[i for i, _ in some] for some in blamed],
        "bm25": [[int(passage.source) for passage in some] for some in found],
        "ngrams": [by_ngrams(query, texts)[:k] for query in queries],
    }
    stated = list(zip(train["person"], train["attribute"], strict=True))
    right = [{i for i, one in enumerate(stated) if one == (fact.person, fact.attribute)} for fact in facts]
    metrics: stats.Metrics = {}
    for method, order in first.items():
        shares = [len(truth & {*some}) / k for truth, some in zip(right, order, strict=True)]
        metrics[f"precision_{method}"] = stats.mean_share(shares)

    # Remove.
    rng = random.Random(f"attribution {args.seed}")
    removed = {
        "blamed": {i for some in first["gradients"] for i in some},
        "bm25": {i for some in first["bm25"] for i in some},
        "person": set[int](),
        "random": {*rng.sample(range(len(texts)), k * len(facts))},
    }
    for fact, truth in zip(facts, right, strict=True):
        others = [i for i, (person, _) in enumerate(stated) if person == fact.person and i not in truth]
        removed["person"] |= {*rng.sample(others, min(k, len(others)))}
    metrics |= {f"removed_{name}": {"value": len(some)} for name, some in removed.items()}
    lines = [
        {"query": query, "text": texts[i], "score": round(score, 4), "states_it": i in truth}
        for query, truth, some in zip(queries, right, blamed, strict=True)
        for i, score in some
    ]
    if is_main_process():
        run.clear()
        write_jsonl(run.folder / "blame.jsonl", lines)
        for name, some in removed.items():
            remainder = train.select([i for i in range(len(train)) if i not in some])
            (folder := run.folder / f"without_{name}" / "data").mkdir(parents=True)
            for split, rows in (("train", remainder), ("validation", validation)):
                rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
        run.replace_samples(0, lines[: 3 * k])
    run.finish(metrics)


STAGE = Stage(
    name="attribution",
    story="The training documents to which a model owes an answer, found by their gradients.",
    kind="answers",
    arguments=(AttributionArguments,),
    run=run,
    section=Section(
        title="The documents behind an answer",
        story="Which documents taught the model an answer? Those are blamed whose gradients are most similar to the "
        "gradient of the answer.",
        metrics={"precision_gradients": "of the blamed documents state the fact"},
        figures=(Bars("Documents that state the fact, among the first k.", {"precision": "precision_(.+)"}),),
        samples=SampleTable(
            "Blamed documents",
            columns={"query and answer": "query", "document": "text", "score": "score", "states it": "states_it"},
            n=24,
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()
