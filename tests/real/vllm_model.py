"""A model as vLLM reads it, out of one as llama.cpp does: ``vllm_model.py MODEL.gguf FOLDER``.

Run by .venv-vllm's Python.
"""

import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(gguf: Path, folder: Path) -> None:
    """Its weights as plain numbers, beside its tokenizer."""
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # It was quantized in its file, and is not any more, which transformers does not notice.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
