"""The first answer of optimum-onnx, written as its documentation does. Runs in its environment.

python answer_optimum.py BUNDLE TEXT FILE, of which FILE is the ONNX file below BUNDLE/onnx
"""

from __future__ import annotations

import sys

from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer, pipeline

folder, text, file = sys.argv[1:]
model = ORTModelForSequenceClassification.from_pretrained(folder, subfolder="onnx", file_name=file)
classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
(answer,) = classify(text)

if __name__ == "__main__":
    from first_answer import tell

    tell(answer["score"] if answer["label"] == "positive" else 1 - answer["score"])
