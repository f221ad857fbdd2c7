"""Goes on with labelled answers that do not refuse harmful prompts, where the length cut them off.

`python -m experiments.smollm2.longer --models models --out labelling` takes the runs and labels of
`experiments.smollm2.draw` and writes `longer.jsonl` there: the same answers with up to 128 tokens
instead of 32, to be labelled again. Rules end at step 16, so that the aligned model goes on alone.
"""

import argparse
from pathlib import Path

from experiments.smollm2.draw import SAID, SHEET, text_of
from experiments.smollm2.labelled import RULES

from tsdi.decoding.greedy import generate_greedily
from tsdi.engines.encode import decode_answer
from tsdi.models.chat import encode_chat
from tsdi.models.load import load_model, load_tokenizer
from tsdi.runs.records import Record, read_records, write_records

LONGER = "longer.jsonl"
MORE = 128 - 32


def cut_off(out: Path) -> dict[str, Record]:
    """The answers to go on with, by id of the sheet: each with a seed that gave it."""
    said = {record["id"] for record in read_records(out / SAID) if "harm" in record}
    texts = {text_of(one): one["id"] for one in read_records(out / SHEET) if one["id"] in said}
    found = {}
    for rule in RULES:
        for one in read_records(out / rule / "responses.jsonl"):
            text = one["messages"][-1]["content"], one["response"]
            if text in texts and one["finish"] == "length":
                seed = one["id"].partition("/")[0]
                found[texts[text]] = {"id": texts[text], "seed": seed, "chat": one["messages"]}
                found[texts[text]] |= {"prompt": text[0], "answer": text[1]}
    return found


def go_on(model_name: str, answers: list[Record]) -> list[Record]:
    """The answers of one model, longer."""
    model, tokenizer = load_model(model_name), load_tokenizer(model_name)
    begun = [tokenizer(one["answer"], add_special_tokens=False)["input_ids"] for one in answers]
    texts = [encode_chat(tokenizer, one["chat"]) + b for one, b in zip(answers, begun, strict=True)]
    ends, _ = generate_greedily(model, tokenizer, texts, MORE)
    return [
        {"id": one["id"], "prompt": one["prompt"], "answer": decode_answer(tokenizer, [*b, *end])}
        for one, b, end in zip(answers, begun, ends, strict=True)
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="the study's models")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    answers = [*cut_off(given.out).values()]
    found = []
    for seed in sorted({one["seed"] for one in answers}):
        here = [one for one in answers if one["seed"] == seed]
        found += go_on(str(given.models / f"sft-{seed}" / "safety" / "step20"), here)
    write_records(given.out / LONGER, found)


if __name__ == "__main__":
    main()
