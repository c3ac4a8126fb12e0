"""Rows of `instruction` and `input` -> the tuned model's greedy answers, asked in its run's own template.

MLflow copies this file beside the weights (models from code) and runs it where the model is served, so it imports nothing of
this package; a test checks that it asks as `template` and `chat` do. Each row is asked alone, not in a batch, so that no
answer depends on other rows. Under the key `inputs` MLflow passes null as the text "None".
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas
from mlflow.exceptions import MlflowException  # noqa: TID251 - MLflow's server runs this file
from mlflow.models import set_model  # noqa: TID251
from mlflow.pyfunc import PythonModel, PythonModelContext  # noqa: TID251


class Served(PythonModel):
    """The model; MLflow's `model_config` says how to ask it.

    `template` has both forms, `dtype` is torch's name of it or "auto", an answer ends after `max_new_tokens` or before a
    text of `until`, and `base`, at `revision`, is an adapter's base on the hub, or None. `sha256` has the hash of each file
    of the artifacts of `run`, as "tuned/NAME"; models registered by earlier versions have none.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load `tuned`, a whole model or an adapter on `base`, from the artifacts, onto the GPU if there is one.

        Raises:
            MlflowException: the artifacts are not the registered ones.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.config = context.model_config
        self.verify(context.artifacts)
        tuned = Path(context.artifacts["tuned"])
        adapter = (tuned / "adapter_config.json").is_file()
        full_model, revision = tuned, None
        if adapter:
            full_model = context.artifacts.get("base") or self.config["base"]
            revision = self.config["revision"]
        network = AutoModelForCausalLM.from_pretrained(full_model, revision=revision, dtype=self.config["dtype"])
        network = network.to("cuda" if torch.cuda.is_available() else "cpu")
        if adapter:
            from peft import PeftModel

            network = PeftModel.from_pretrained(network, tuned)
        # An adapter saved without a tokenizer uses its base's.
        saved = (tuned / "tokenizer_config.json").is_file()
        self.tokenizer = (
            AutoTokenizer.from_pretrained(tuned) if saved else AutoTokenizer.from_pretrained(full_model, revision=revision)
        )
        self.network = network.eval()

    def verify(self, artifacts: Mapping[str, str]) -> None:
        """Compare every file of the artifacts with the registered SHA-256.

        Raises:
            MlflowException: one is missing, was not registered, or has another hash.
        """
        registered = self.config.get("sha256") or {}
        files = [(f"{name}/{file.name}", file) for name, folder in artifacts.items() for file in Path(folder).iterdir()]
        present = {}
        for name, file in files if registered else []:
            with file.open("rb") as content:
                present[name] = hashlib.file_digest(content, "sha256").hexdigest()
        differing = [name for name in sorted(registered | present) if registered.get(name) != present.get(name)]
        if differing:
            name = differing[0]
            raise MlflowException.invalid_parameter_value(
                f"{len(differing)} files of this model are not the registered ones, the first {name} in "
                f"{Path(artifacts[name.partition('/')[0]]).parent}: SHA-256 {registered.get(name)} was registered, "
                f"{present.get(name)} is here. If the artifact store has it damaged, delete this version in MLflow and "
                f"promote the run again: tunetrail promote {self.config['run']}"
            )

    def predict(self, model_input: pandas.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """Return the answers, one for each row; `params` may set `max_new_tokens`.

        Raises:
            MlflowException: a row cannot be asked (the server answers with code 400); then no row is.
        """
        cap = (params or {}).get("max_new_tokens", self.config["max_new_tokens"])
        if cap < 1:
            raise MlflowException.invalid_parameter_value(f"max_new_tokens is {cap}: give 1 or more")
        rows = enumerate(model_input.to_dict("records"), 1)
        prompts = [self.encode(number, row["instruction"], row.get("input")) for number, row in rows]
        return [self.answer(ids, cap) for ids in prompts]

    def encode(self, number: int, instruction: Any, input: Any) -> list[int]:
        """Return the token ids of row `number`'s question; a cell without text is None or NaN."""
        if not isinstance(instruction, str):
            raise MlflowException.invalid_parameter_value(f"row {number} has no instruction")
        text = input if isinstance(input, str) else ""
        form = self.config["template"]["with_input" if text else "without_input"]
        ids = self.tokenizer(form.format(instruction=instruction, input=text))["input_ids"]
        if len(ids) >= self.context_length(len(ids) + 1):
            limit = self.context_length(0)
            raise MlflowException.invalid_parameter_value(f"row {number} has {len(ids)} tokens, and the model takes {limit}")
        return ids

    def context_length(self, otherwise: int) -> int:
        """Return the tokens that the model takes, question and answer; `otherwise` if its config does not say."""
        return getattr(self.network.config.get_text_config(), "max_position_embeddings", None) or otherwise

    def answer(self, ids: list[int], cap: int) -> str:
        """Return the greedy answer to the question `ids` with at most `cap` tokens, cut before the first text of `until`."""
        import torch

        # The checkpoint may name end tokens; the answers in the training data end with the tokenizer's.
        configured = self.network.generation_config.eos_token_id
        configured = configured if isinstance(configured, list) else [configured]
        ends = sorted({*configured, self.tokenizer.eos_token_id} - {None})
        question = torch.tensor([ids], device=self.network.device)
        (output,) = self.network.generate(
            input_ids=question,
            attention_mask=torch.ones_like(question),
            max_new_tokens=min(cap, self.context_length(len(ids) + cap) - len(ids)),
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=ends[0] if ends else None,  # nothing is padded, but without it transformers warns
            stop_strings=self.config["until"] or None,
            tokenizer=self.tokenizer,
        )
        text = self.tokenizer.decode(output[len(ids) :], skip_special_tokens=True)
        for stop in self.config["until"]:
            text = text.partition(stop)[0]
        return text


set_model(Served())
