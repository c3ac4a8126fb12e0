"""Rules that refuse a run with a misleading loss or score; their claims about Axolotl are tested on Axolotl."""

import pytest

from tests import tiny_models
from tests.conftest import ROOT
from tests.planned import assert_one_finding_per_rule, facts, fixed, judged
from tunetrail.data import template
from tunetrail.plan.rules import invalid
from tunetrail.plan.rules.finding import ERROR
from tunetrail.training import tiny

CORRECTED = "experiment=llama3_8b_alpaca"
PUBLISHED = "experiment=llama3_8b_alpaca_published"
EXPERIMENTS = ("demo", "llama3_8b_alpaca", "llama3_8b_alpaca_lora", "llama3_8b_alpaca_qlora", "smollm2_135m_alpaca_lora")


def test_every_finding_has_the_code_of_its_rule_and_is_an_error(composed):
    values = composed(PUBLISHED, "+evaluate.apply_chat_template=true")
    wrong = {"overlap": 3, "eos_supervised": False, "supervised": 0, "contaminated": ["a", "b"]}
    findings = [rule(values, facts(values, data=wrong)) for rule in invalid.RULES]
    assert_one_finding_per_rule(invalid.RULES, ERROR, findings)


def test_no_shipped_experiment_is_refused_but_the_published_one_for_its_bos(composed):
    for name in EXPERIMENTS:
        values = composed(f"experiment={name}")
        assert [rule(values, facts(values)) for rule in invalid.RULES] == [None] * len(invalid.RULES), name
    values = composed(PUBLISHED)
    findings = [rule(values, facts(values)) for rule in invalid.RULES]
    assert [finding.code for finding in findings if finding] == ["BOS_DIFFERS"]


# The template.


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("evaluate.template={with_input:'{instruction} {input}',without_input:'{instruction}'}", "evaluate.template"),
        ("contract.template={with_input:'{instruction} {input}',without_input:'{instruction}'}", "contract.template"),
        ("train.datasets.0.type.format='{instruction} {input}'", "train.datasets.0.type.format"),
        ("train.datasets.0.type.no_input_format='{instruction}'", "train.datasets.0.type.no_input_format"),
        ("~train.datasets.0.type.format", "train.datasets.0.type.format"),  # Axolotl then uses a format of its own
        ("+train.datasets.0.type.system_prompt='Be kind.'", "train.datasets.0.type.system_prompt"),
        ("train.datasets.0.type=alpaca_chat.load_qa", "train.datasets.0.type"),
        ("+evaluate.apply_chat_template=true", "evaluate.apply_chat_template"),
        ("+evaluate.system_instruction='Be kind.'", "evaluate.system_instruction"),
        ("+evaluate.num_fewshot=2", "evaluate.num_fewshot"),
        ("+evaluate.task.num_fewshot=2", "evaluate.task.num_fewshot"),
        ("+evaluate.task.description='Be kind.'", "evaluate.task.description"),
        ("+evaluate.task.gen_prefix=Answer", "evaluate.task.gen_prefix"),
    ],
)
def test_another_template_anywhere_is_refused_by_its_key_and_fixed(composed, known, override, named):
    finding = judged(invalid.template_differs, composed, override)
    assert finding.what == f"training and evaluation do not have the same template: {named}"
    values = fixed(composed, known, finding, override)
    assert invalid.template_differs(values, facts(values)) is None
    assert values["template"] == composed()["template"]


@pytest.mark.parametrize(
    "override",
    [
        *(
            "template.without_input='{instruction}: '",
            "evaluate.template.without_input='{instruction}: '",
        ),  # the same in both
        *("+evaluate.apply_chat_template=false", "+evaluate.num_fewshot=0", "+evaluate.system_instruction=null"),
        "train.datasets.0.type=alpaca",
    ],
)
def test_one_template_for_all_is_accepted(composed, override):
    assert judged(invalid.template_differs, composed, override) is None


@pytest.mark.stage
def test_axolotls_own_alpaca_is_this_template_and_no_other(composed):
    from axolotl.prompters import AlpacaPrompter

    alpaca = {"with_input": "{instruction}{input}", "without_input": "{instruction}"}
    built = AlpacaPrompter().build_prompt
    alpaca = {"with_input": next(built("{instruction}", "{input}")), "without_input": next(built("{instruction}"))}
    assert template.digest(alpaca) == invalid.ALPACA == template.digest(composed()["template"])
    words = ("train.datasets.0.type=alpaca", "template.without_input='{instruction}'")
    assert judged(invalid.template_differs, composed, *words).fix.startswith("'train.datasets.0.type={")


# BOS.


@pytest.mark.parametrize(
    ("add_bos", "trained", "refused"),
    [
        *(("false", True, True), ("true", False, True), ("true", True, False), ("false", False, False)),
        *(("null", True, False), ("null", False, False), ("false", None, False), ("true", None, False)),
    ],
)
def test_a_run_is_refused_if_training_and_evaluation_are_known_to_differ_in_bos(composed, known, add_bos, trained, refused):
    words = (PUBLISHED, f"evaluate.model_args.add_bos_token={add_bos}")
    finding = judged(invalid.bos_differs, composed, *words, data={"bos_trained": trained})
    assert bool(finding) == refused
    if refused:
        assert fixed(composed, known, finding, *words)["evaluate"]["model_args"]["add_bos_token"] is None


def test_without_a_key_for_bos_the_tokenizer_decides(composed):
    assert judged(invalid.bos_differs, composed, "~evaluate.model_args.add_bos_token", data={"bos_trained": True}) is None


@pytest.mark.stage
def test_lm_eval_itself_adds_bos_as_the_rule_says(tmp_path):
    """Three tokenizers: one that adds BOS, one that has BOS but does not add it, one without BOS."""
    import json

    from lm_eval.models.huggingface import HFLM

    tiny.save_tokenizer(["Say it."] * 9, 400, tmp_path)
    size = len(json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]) + 3
    llama = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    tiny.save_config(llama | {"max_position_embeddings": 64}, size, tmp_path)
    tiny_models.add_weights(tmp_path)
    tokenizer, settings = (json.loads((tmp_path / name).read_text()) for name in ("tokenizer.json", "tokenizer_config.json"))
    puts_bos = {}
    for name, changed, bos in (
        ("adds", tokenizer, settings["bos_token"]),
        ("has", tokenizer | {"post_processor": None}, settings["bos_token"]),
        ("none", tokenizer | {"post_processor": None}, None),
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps(changed))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": bos}))
        for add_bos in (None, True, False):
            backend = HFLM(pretrained=str(tmp_path), device="cpu", add_bos_token=add_bos)
            ids, _ = backend.tok_batch_encode(["Say it."])
            puts_bos[name, add_bos] = bos is not None and ids[0, 0].item() == backend.tokenizer.bos_token_id
    assert puts_bos == {
        **{("adds", None): True, ("adds", True): True, ("adds", False): False},
        **{("has", None): False, ("has", True): True, ("has", False): False},
        **{("none", None): False, ("none", True): False, ("none", False): False},
    }


# Rows of training and of validation.


def test_rows_that_are_trained_on_and_validated_with_are_refused(composed, known):
    assert judged(invalid.rows_overlap, composed, data={"overlap": 0}) is None
    assert judged(invalid.rows_overlap, composed, data={"overlap": None}) is None
    words = ("train.test_datasets.0.path=held_out.jsonl",)
    finding = judged(invalid.rows_overlap, composed, *words, data={"overlap": 1})
    assert finding.what == "1 of the validation rows ask what is also trained on"
    assert fixed(composed, known, finding, *words)["train"] == composed()["train"]


@pytest.mark.parametrize(
    "words",
    [
        ("train.test_datasets.0.path=data/prepared/train.jsonl",),
        ("train.datasets.0.path=data/prepared/validation.jsonl",),
        ("train.test_datasets.0.path=rows.jsonl", "train.datasets.0.path=rows.jsonl", "+train.datasets.0.split=train"),
    ],
)
def test_one_file_for_both_is_refused_and_fixed(composed, known, words):
    finding = judged(invalid.rows_overlap, composed, *words)
    assert "train.datasets.0 and train.test_datasets.0 are both" in finding.what
    values = fixed(composed, known, finding, *words)
    assert invalid.rows_overlap(values, facts(values)) is None
    assert values["train"]["test_datasets"][0]["path"] == "data/prepared/validation.jsonl"


def test_two_splits_of_one_data_set_are_two(composed):
    words = ("train.datasets.0.path=org/rows", "train.test_datasets.0.path=org/rows", "train.test_datasets.0.split=test")
    assert judged(invalid.rows_overlap, composed, *words) is None
    assert judged(invalid.rows_overlap, composed, "train.test_datasets=null") is None


# EOS.


@pytest.mark.parametrize(("cut", "refused"), [(0, False), (500, False), (501, True)])
def test_rows_that_are_cut_before_eos_are_refused_when_they_are_most(composed, known, cut, refused):
    words = (CORRECTED, "train.sequence_len=512", "train.excess_length_strategy=truncate")
    finding = judged(invalid.eos_masked, composed, *words, data={"kept": 1000, "cut": cut, "longest": 650})
    assert bool(finding) == refused
    if refused:
        assert finding.what == "501 of 1,000 rows are cut at 512 tokens, before EOS"
        assert fixed(composed, known, finding, *words)["train"]["sequence_len"] == 704


def test_a_tokenizer_that_names_no_eos_is_refused_and_is_given_one(composed, known):
    assert judged(invalid.eos_masked, composed, data={"eos_supervised": None}) is None
    finding = judged(invalid.eos_masked, composed, CORRECTED, data={"eos_supervised": False})
    special = fixed(composed, known, finding, CORRECTED)["train"]["special_tokens"]
    assert special["eos_token"] == special["pad_token"] == "<|end_of_text|>"


@pytest.mark.parametrize(
    ("special", "refused"),
    [
        (("train.special_tokens.pad_token='</s>'",), True),
        (("train.special_tokens=null",), True),
        (("~train.special_tokens",), True),
        (("train.special_tokens.pad_token='<pad>'",), False),
        (("train.special_tokens.pad_token='<e>'", "+train.special_tokens.eos_token='<e>'"), True),
        (("train.special_tokens.pad_token='</s>'", "+train.special_tokens.eos_token='<e>'"), False),
    ],
)
def test_the_one_type_that_masks_by_the_pad_id_is_refused_if_that_is_eos(composed, known, special, refused):
    words = ("model=llama3_8b", "train.datasets.0.type=llama2_chat", *special)
    finding = judged(invalid.eos_masked, composed, *words)
    assert bool(finding) == refused
    if refused:
        assert fixed(composed, known, finding, *words)["train"]["special_tokens"]["pad_token"] == "<pad>"


@pytest.mark.stage
def test_a_pad_token_that_is_eos_removes_no_eos_from_axolotls_loss(composed, tmp_path):
    """For the pad tokens of all conf/model, which are their models' EOS, in Axolotl's own labels, packed or not."""
    from axolotl.prompt_strategies import load
    from axolotl.utils.collators.batching import DataCollatorForSeq2Seq, V2BatchSamplerDataCollatorForSeq2Seq
    from axolotl.utils.dict import DictDefault
    from transformers import AutoTokenizer

    tiny.save_tokenizer(["Say it, and say it again."] * 9, 400, tmp_path)
    files = [file.stem for file in (ROOT / "conf" / "model").glob("*.yaml") if "special_tokens" in file.read_text()]
    pads = {composed(f"model={file}")["train"]["special_tokens"]["pad_token"] for file in files}
    assert len(files) >= 7
    assert pads == {"<|end_of_text|>", "<|endoftext|>"}
    for pad in pads:
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        tokenizer.add_special_tokens({"eos_token": pad, "pad_token": pad})
        assert tokenizer.pad_token_id == tokenizer.eos_token_id
        train = composed("model=llama3_8b")["train"]
        kind = train["datasets"][0]["type"]
        strategy = load("user_defined", tokenizer, DictDefault(train), DictDefault(kind))
        rows = [{"instruction": "Say it.", "input": "", "output": answer} for answer in ("it", "it and it again")]
        tokenised = [strategy.tokenize_prompt(row) for row in rows]
        assert [sum(label == tokenizer.eos_token_id for label in row["labels"]) for row in tokenised] == [1, 1]
        assert [row["labels"][-1] for row in tokenised] == [tokenizer.eos_token_id] * 2
        for collator, batch in ((DataCollatorForSeq2Seq, tokenised), (V2BatchSamplerDataCollatorForSeq2Seq, [tokenised])):
            rows = [[dict(row) for row in item] if isinstance(item, list) else dict(item) for item in batch]
            labels = collator(tokenizer, pad_to_multiple_of=256, return_tensors="pt")(rows)["labels"]
            assert labels.numel() > sum(len(row["labels"]) for row in tokenised)  # there is padding
            assert int((labels == tokenizer.eos_token_id).sum()) == 2
            assert int((labels != -100).sum()) == sum(label != -100 for row in tokenised for label in row["labels"])


@pytest.mark.stage
def test_axolotls_llama2_chat_masks_a_whole_row_if_the_pad_token_is_eos():
    """With a tokenizer that splits text like Llama 2's, on which that type relies."""
    from axolotl.prompt_strategies import load
    from axolotl.utils.dict import DictDefault
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = ["<s>", "</s>", "<pad>", "<unk>", *("▁" + token for token in ("", "hi", "you[/INST]", "hello", "there"))]
    backend = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    row = {"conversations": [{"from": "human", "value": "hi you"}, {"from": "gpt", "value": "hello there"}]}
    supervised = {}
    for pad in ("</s>", "<pad>"):
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=pad
        )
        config = DictDefault({"train_on_inputs": False, "sequence_len": 256})
        labels = load("llama2_chat", tokenizer, config, DictDefault({})).tokenize_prompt(row)["labels"]
        supervised[pad] = tokenizer.convert_ids_to_tokens([label for label in labels if label != -100])
    assert supervised["</s>"] == []
    assert supervised["<pad>"][:2] == ["▁hello", "▁there"]
    assert "</s>" in supervised["<pad>"]


# Tokens that are trained on.


def test_a_run_without_a_token_trained_on_is_refused(composed, known):
    assert judged(invalid.nothing_supervised, composed, data={"supervised": 1}) is None
    override = "train.datasets.0.type.field_output=answer"
    finding = judged(
        invalid.nothing_supervised, composed, override, data={"supervised": 0, "kept": 0, "train": 3900, "longest": 144}
    )
    assert finding.what == "none of 3,900 rows has a token that is trained on"
    assert fixed(composed, known, finding, override)["train"]["datasets"] == composed()["train"]["datasets"]


@pytest.mark.parametrize(("longest", "length"), [(650, 704), (8192, 8192), (9000, 8192)])
def test_if_no_row_is_short_enough_the_fix_raises_sequence_len_up_to_the_models_limit(composed, known, longest, length):
    words = (CORRECTED, "train.sequence_len=32")
    finding = judged(
        invalid.nothing_supervised, composed, *words, data={"supervised": 0, "kept": 0, "train": 10, "longest": longest}
    )
    assert finding.what == f"none of 10 rows is kept: the longest has {longest:,} tokens, a sequence 32"
    assert fixed(composed, known, finding, *words)["train"]["sequence_len"] == length


# Evaluation prompts.


@pytest.mark.parametrize(("number", "refused"), [(None, False), (0, False), (2, True)])
def test_an_evaluation_prompt_that_is_trained_on_verbatim_is_refused(composed, known, number, refused):
    finding = judged(
        invalid.contaminated,
        composed,
        CORRECTED,
        data={"contaminated": number and [f"Write {index} " + "words " * 40 for index in range(number)]},
    )
    assert bool(finding) == refused
    if refused:
        start = "2 of 541 evaluation prompts are word for word in the training rows: "
        assert finding.what == start + '"Write 0 words words words words words words words [...]"'
        prepare = fixed(composed, known, finding, CORRECTED)["prepare"]
        assert (prepare["path"], prepare["hub"]) == ("FILE", None)


def test_the_rows_and_their_type_are_those_of_conf(composed):
    train, template_ = composed()["train"], composed()["template"]
    assert [train[key][0]["path"] for key in ("datasets", "test_datasets")] == [invalid.TRAIN, invalid.VALIDATION]
    forms = {"format": template_["with_input"], "no_input_format": template_["without_input"]}
    assert train["datasets"][0]["type"] == invalid.TYPE | forms
