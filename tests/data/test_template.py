import json
import subprocess
import sys

import jinja2
import pytest

from tests import tiny_models
from tunetrail import launch
from tunetrail.config import params
from tunetrail.data import records, template
from tunetrail.runs import chat
from tunetrail.training import tiny

TEMPLATE = {
    "with_input": "Do {instruction} with {input}:\n",
    "without_input": 'Do 😀 {{x}} "{instruction}"\n\n:\n',
}


def test_a_row_without_input_has_the_shorter_form():
    assert template.prompt(TEMPLATE, "it", "that") == "Do it with that:\n"
    assert template.prompt(TEMPLATE, "it") == 'Do 😀 {x} "it"\n\n:\n'


def test_lm_eval_renders_the_same_prompt_as_training():
    """Jinja in lm-eval changes no quotes, line ends or braces of the template or of a question."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # as lm_eval/utils.py
    signs = "Say {x} {0!r} {{ y|upper }} {% if z %} {# w #} }} | 'a' \"b\" \\c\nand stop\n"
    for text in (
        TEMPLATE["without_input"],
        "{{x}} {{{{ y }}}} {{% if z %}} {{# w #}} | {instruction}\n",
        "{{instruction}} {instruction}",
        "'\"\\ \\n {instruction}\r\n\t",
        "ü 😀 \u2028 \0 {instruction}",
        "{instruction}",
        "  {instruction}\n\n",
    ):
        form = TEMPLATE | {"without_input": text}
        for question in ("plain", signs, "two\nlines", "ünïcode €"):
            rendered = environment.from_string(template.doc_to_text(form)).render(prompt=question)
            assert rendered == template.prompt(form, question) == text.format(instruction=question)


def test_the_alpaca_prompt_is_the_one_that_axolotl_trains_its_own_alpaca_format_on(composed):
    from axolotl.prompters import AlpacaPrompter

    alpaca, axolotl = composed()["template"], AlpacaPrompter()
    for question, extra in (("Name a colour.", ""), ("Add them.", "1 and 2")):
        assert template.prompt(alpaca, question, extra) == next(axolotl.build_prompt(question, extra))


def test_different_templates_have_different_digests():
    assert template.digest(TEMPLATE) == template.digest(dict(reversed(TEMPLATE.items())))
    assert template.digest(TEMPLATE) != template.digest(TEMPLATE | {"without_input": "{instruction}"})


# A question without an input and one with, as training has them; the first is also what lm-eval asks.
ROWS = [
    {"instruction": 'Say "hello" to {{x}}.', "input": "", "output": "hello"},
    {"instruction": "Add\nthem.", "input": "1 and 2", "output": "3"},
]


def preprocessing(folder, values):
    """Start Axolotl's own `preprocess` of ROWS with the tokenizer in `folder`."""
    records.write(folder / "rows.jsonl", ROWS)
    train = values["train"] | {"base_model": str(folder), "output_dir": str(folder / "out"), "test_datasets": None}
    train |= {"dataset_prepared_path": str(folder / "prepared"), "val_set_size": 0}
    train["datasets"][0]["path"] = str(folder / "rows.jsonl")
    params.write_yaml(folder / "axolotl.yaml", train)
    command = [sys.executable, "-m", "axolotl.cli.preprocess", str(folder / "axolotl.yaml")]
    log = (folder / "log").open("w")
    return subprocess.Popen(command, env=launch.environment(offline=True), cwd=folder, stdout=log, stderr=log)


def preprocessed(folder):
    """Return what `preprocessing` wrote: [(prompt's ids, answer's ids)]."""
    from datasets import load_from_disk

    (dataset,) = (file.parent for file in (folder / "prepared").rglob("dataset_info.json"))
    parts = [(row["input_ids"], sum(label == -100 for label in row["labels"])) for row in load_from_disk(str(dataset))]
    return sorted((ids[:prompt_length], ids[prompt_length:]) for ids, prompt_length in parts)


def asked_by_lm_eval(folder, values):
    """Return the ids that lm-eval's backend, with the composed arguments, passes to the model for ROWS without inputs."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.utils import apply_template

    backend = HFLM(pretrained=str(folder), device="cpu", batch_size=2, **values["evaluate"]["model_args"])
    sent = []

    def generate(context, attention_mask, **_):
        sent.extend(ids[mask.bool()].tolist() for ids, mask in zip(context, attention_mask, strict=True))
        return context

    backend._model_generate = generate
    texts = [apply_template(template.doc_to_text(values["template"]), {"prompt": row["instruction"]}) for row in ROWS]
    options = {"until": [], "max_gen_toks": 4}
    requests = [Instance("generate_until", {}, (text, dict(options)), number) for number, text in enumerate(texts)]
    backend.generate_until(requests, disable_tqdm=True)
    return sent


@pytest.mark.stage
@pytest.mark.slow
def test_training_lm_eval_chat_and_the_data_card_see_the_same_token_ids(tmp_path, composed):
    """Including BOS, the newline after `### Response:` and EOS, for a tokenizer that adds BOS and one that has BOS but does
    not add it.
    """
    from transformers import AutoTokenizer

    values = composed()
    started = {}
    for adds_bos in (True, False):
        folder = tmp_path / str(adds_bos)
        size = tiny.save_tokenizer([template.prompt(values["template"], "Say it.") for _ in range(9)], 400, folder)
        llama = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        tiny.save_config(llama | {"max_position_embeddings": 512}, size, folder)
        tiny_models.add_weights(folder)
        if not adds_bos:
            file = folder / "tokenizer.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": None}))
        started[adds_bos] = folder, preprocessing(folder, values)
    for adds_bos, (folder, process) in started.items():
        assert process.wait() == 0, (folder / "log").read_text()[-3000:]
        trained = preprocessed(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        prompts = [template.prompt(values["template"], row["instruction"], row["input"]) for row in ROWS]
        prompt_ids = template.token_ids(tokenizer, prompts)
        answered = template.answer_ids(tokenizer, [row["output"] for row in ROWS])
        assert sorted(zip(prompt_ids, answered, strict=True)) == trained
        assert prompt_ids[0] in asked_by_lm_eval(folder, values)
        assert prompt_ids == [chat.encode(tokenizer, values["template"], row["instruction"], row["input"]) for row in ROWS]
        for ids, answer in trained:
            assert (ids[0] == tokenizer.bos_token_id) == adds_bos
            assert tokenizer.bos_token_id not in ids[1:] + answer
            assert tokenizer.decode(ids).endswith("### Response:\n")
            assert answer[-1] == tokenizer.eos_token_id
