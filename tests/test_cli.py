from __future__ import annotations

import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import refused

from zero2chat import cli, stages
from zero2chat.core.errors import UserError


def last_object(output: str) -> dict:
    return json.loads(output.strip().splitlines()[-1])


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom zero2chat import cli\n"
        "try:\n    cli.main(['--help'])\n"
        "except SystemExit as end:\n    print(end.code, *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    code, *modules = out.splitlines()[-1].split()
    assert code == "0"
    assert "zero2chat" in modules
    heavy = {"torch", "transformers", "trl", "datasets", "tokenizers", "numpy", "rich", "yaml", "zero2chat_lab"}
    assert not heavy & set(modules)
    commands = re.findall(r"^    (\w+) ", out, re.MULTILINE)
    assert {"run", "preview", "new", "plan", "chat", "ui", "serve", "export", "rank", "next", "python"} < set(commands)
    named = re.sub(r"\s+", " ", out).partition("Stages are commands too")[2]
    assert [name for name in stages.names() if not re.search(rf"\b{name}\b", named)] == []


def test_every_command_is_a_function_of_its_options():
    (commands,) = (action for action in cli.parser()._actions if isinstance(action.choices, dict))
    for name, parser in commands.choices.items():
        options = {action.dest for action in parser._actions} - {"help", "json"}
        if options == {"words"}:  # a stage
            continue
        try:
            module = importlib.import_module(parser.get_default("module"))
        except UserError:  # of the server, which is an extra
            continue
        parameters = inspect.signature(getattr(module, parser.get_default("function"))).parameters.values()
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            assert options == {one.name for one in parameters}, name
        assert not parser.get_default("show") or getattr(module, parser.get_default("show"))


@pytest.mark.parametrize(
    "arguments",
    [
        *(["next", "x"], ["tokens", "x", "--top", "y"], ["rank", "x", "--out", "x.jsonl"]),
        ["rank", "x", "--out", "x.jsonl", "--task", "lines", "--prompts", "x.txt"],
    ],
)
def test_wrong_usage_exits_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: zero2chat" in capsys.readouterr().err


def test_without_a_command_all_are_listed_and_a_misspelt_one_has_a_suggestion(capsys):
    for words, says in ([], "\n    chat "), (["chta"], "no command 'chta'; did you mean 'chat'? (`zero2chat --help`"):
        with pytest.raises(SystemExit) as end:
            cli.main(words)
        assert end.value.code == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        *("chat", "chat --prompt Who?", "chat runs/none/sft --tools none --search runs/none/index", "ui"),
        *("chat runs/none/sft --temperature -1", "chat runs/none/sft --tools serch"),
        *("chat runs/none/sft --search runs/none/index", "next x --model runs/none/sft", "run recipes/none"),
        *("rank runs/none/sft --task line --out mine.jsonl", "rank runs/none/sft --prompts none.txt --out mine.jsonl"),
        *("rank runs/none/sft --task lines --n 0 --out mine.jsonl", "regurgitate runs/none/sft --dataset runs/none/c"),
        *("arena runs/none/sft runs/none/grpo --tasks '{task: lines}'", "arena runs/none/sft --tasks '{task: lines}'"),
        *("interrogate runs/none/sft --datasets '{task: facts, n: 9}'", "sft --config none.yaml", "sft runs/none/sft"),
        *("interrogate runs/none/sft --datasets '{task: facts, n: 9, options: told}'", "search x --in none"),
        *("tokens x --model runs/none/tokenizer", "tokens x", "preview --config recipes/none/sft.yaml"),
        *(
            "dance",
            "push runs/none/sft --repo me/mine",
            "search x --in ftp://127.0.0.1",
            "search x --in none --passages 0",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exits_2(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refused(capsys, *shlex.split(words))


def test_a_stage_is_a_command_made_of_its_own_arguments(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["corpus", "--help"])
    out = capsys.readouterr().out
    assert out.startswith("usage: zero2chat corpus [--config X.yaml] [--key value …]\n")
    assert re.search(r"\n  --test_fraction +Share of documents for the test split\.\n", out)
    texts = [f"The number {i} is one more than {i - 1}." for i in range(200)]
    Path("rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    Path("corpus.yaml").write_text("output_dir: runs/corpus\ndatasets: [{path: rows.jsonl}]\ntest_fraction: 0.1\n")
    cli.main(["corpus", "--config", "corpus.yaml", "--validation-fraction", "0.1"])
    found = json.loads(Path("runs/corpus/metrics.json").read_text())
    assert sum(found[f"documents_{split}"]["value"] for split in ("train", "validation", "test")) == 200
    cli.main(["index", "--config", "corpus.yaml", "--output_dir", "runs/other", "--help"])
    assert "usage: zero2chat index" in capsys.readouterr().out


def test_a_control_token_is_text_unless_asked(tokenizer_folder, capsys):
    for more, control in (([], False), (["--special"], True)):
        cli.main(["tokens", "a<|im_end|>", "--model", str(tokenizer_folder), "--json", *more])
        tokens = last_object(capsys.readouterr().out)["tokens"]
        assert "".join(token["text"] for token in tokens) == "a<|im_end|>"
        assert ("<|im_end|>" in {token["text"] for token in tokens}) == control
    cli.main(["tokens", "a<|im_end|>", "--model", str(tokenizer_folder), "--special"])
    assert capsys.readouterr().out.startswith("a|<|im_end|>\n")


def test_next_prints_a_table_or_json(model_folder, capsys):
    cli.main(["next", "Ada was", "--model", str(model_folder), "--top", "3", "--json"])
    result = last_object(capsys.readouterr().out)
    assert result["text"] == "Ada was"
    assert [set(token) for token in result["next"]] == [{"id", "text", "probability"}] * 3
    cli.main(["next", "Ada was", "--model", str(model_folder), "--top", "3"])
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["token", "id", "probability"]
    assert [str(token["id"]) in row for token, row in zip(result["next"], rows, strict=True)] == [True] * 3


def test_chat_through_a_pipe_prints_the_answers_and_nothing_else(model_folder):
    command = [sys.executable, "-m", "zero2chat.cli", "chat", str(model_folder), "--temperature", "0"]
    command += ["--max-new-tokens", "8"]
    piped = subprocess.run(command, input="Who?\n/quit\n", capture_output=True, text=True, check=True)
    prompted = subprocess.run([*command, "--prompt", "Who?"], capture_output=True, text=True, check=True)
    assert piped.stdout == prompted.stdout
    assert piped.stdout.strip()
    assert piped.stderr == f"{model_folder}: context 128 tokens; does not think\n{prompted.stderr}"
    limit = "(stopped at the limit of 8 tokens: raise --max-new-tokens)\n"
    assert prompted.stderr == limit


@pytest.mark.parametrize("command", ["chat", "ui"])
def test_without_a_model_the_assistant_is_opened_or_else_the_quickstarts_last(command, monkeypatch, tmp_path, capsys):
    from zero2chat.chat import terminal, web

    opened = []
    monkeypatch.setattr(terminal, "chat", lambda model, *_, **__: opened.append(model))
    monkeypatch.setattr(web, "ui", lambda model, *_: opened.append(model))
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, command) == (
        "no model given, and neither runs/assistant/grpo nor runs/quickstart/grpo exists: give a model, or run "
        "`make quickstart` in a clone\n"
    )
    assert "exists: give --model, or run" in refused(capsys, "tokens", "a")
    for name in ("quickstart", "assistant"):
        (tmp_path / "runs" / name / "grpo").mkdir(parents=True)
        (tmp_path / "runs" / name / "grpo" / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    for name in ("quickstart", "assistant"):  # what is being trained is not opened
        (tmp_path / "runs" / name / "grpo" / "metrics.json").write_text("{}")
        cli.main([command])
        assert capsys.readouterr() == ("", f"opening runs/{name}/grpo\n")
    assert opened == ["runs/quickstart/grpo", "runs/assistant/grpo"]
